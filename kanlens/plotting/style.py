"""How every picture looks, how it is written to a file, and how names are put on it.

Colors are those of Okabe and Ito, which color-blind readers tell apart; whatever a color says is
also said by a position, a marker, a sign or a lightness, so that greyscale prints lose nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.textpath import TextPath

from kanlens.checks import message
from kanlens.errors import DTypeError
from kanlens.outputs import Pathlike, atomic_write, check_ending

FORMATS = (".pdf", ".png", ".svg")
DOTS_PER_INCH = 200


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colors and sizes shared by all pictures.

    Attributes
    ----------
    ink, muted, faint, paper : str
        Lines and text; secondary text; shading and rules; the background.
    accent, positive, negative : str
        What should be seen first; what raises an output; what lowers it.
    series : tuple of str
        Colors of methods or curves drawn together.
    markers : tuple of str
        Their markers, since colors alone do not survive a greyscale print.
    sequence : str
        Name of the color map from low to high; its lightness rises evenly.
    text, small : float
        Sizes of names and of numbers, in points.
    column, page : float
        Width of one text column and of a page, in inches.
    """

    ink: str = "#1b1b1b"
    muted: str = "#666666"
    faint: str = "#dddddd"
    paper: str = "#ffffff"
    accent: str = "#0072b2"
    positive: str = "#e08a00"
    negative: str = "#0a5f96"
    series: tuple[str, ...] = (
        "#0072b2",
        "#d55e00",
        "#009e73",
        "#cc79a7",
        "#e69f00",
        "#56b4e9",
        "#1b1b1b",
        "#8c8c8c",
    )
    markers: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X", "<")
    sequence: str = "cividis"
    text: float = 8.0
    small: float = 7.0
    column: float = 3.4
    page: float = 7.0


STYLE = Style()


def _text_settings(style: Style) -> dict[str, Any]:
    return {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
        "font.size": style.text,
        "axes.titlesize": style.text,
        "axes.labelsize": style.text,
        "xtick.labelsize": style.small,
        "ytick.labelsize": style.small,
        "legend.fontsize": style.small,
        "axes.labelcolor": style.ink,
        "axes.titlecolor": style.ink,
        "text.color": style.ink,
        "xtick.color": style.ink,
        "ytick.color": style.ink,
        "text.usetex": False,
        "text.parse_math": True,
        "mathtext.fontset": "cm",
        "axes.formatter.use_mathtext": False,
        "axes.formatter.limits": (-3, 4),
    }


def _other_settings(style: Style) -> dict[str, Any]:
    return {
        "legend.frameon": False,
        "figure.facecolor": style.paper,
        "savefig.facecolor": style.paper,
        "axes.facecolor": style.paper,
        "axes.edgecolor": style.ink,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "lines.linewidth": 1.2,
        "svg.fonttype": "none",
        "svg.hashsalt": "kanlens",
        "pdf.fonttype": 42,
        "hatch.linewidth": 0.5,
        "path.simplify": True,
    }


@contextlib.contextmanager
def context(style: Style = STYLE) -> Iterator[None]:
    """Draw with the settings of kanlens; afterwards those of the caller are back.

    Parameters
    ----------
    style : Style
        Colors and sizes.

    Examples
    --------
    >>> before = mpl.rcParams["font.size"]
    >>> with context():
    ...     mpl.rcParams["font.size"]
    8.0
    >>> mpl.rcParams["font.size"] == before
    True
    """
    with mpl.rc_context({**_text_settings(style), **_other_settings(style)}):
        yield


def axes_for(ax: Axes | None, size: tuple[float, float], *, call: str, bare: bool = False) -> Axes:
    """Return the axes to draw on: `ax`, or those of a new figure.

    A new figure is made by pyplot, so that notebooks show it and ``pyplot.close`` frees it.

    Parameters
    ----------
    ax : Axes or None
        What the caller was given.
    size : tuple of float
        Width and height of a new figure, in inches.
    call : str
        The public call, for error messages.
    bare : bool
        Whether new axes fill their figure, leaving no room for ticks.

    Returns
    -------
    Axes

    Raises
    ------
    DTypeError
        If `ax` is neither None nor an Axes.
    """
    check_axes(ax, call=call)
    if ax is not None:
        return ax
    from matplotlib import pyplot

    if bare:
        return cast("Axes", pyplot.figure(figsize=size).add_axes((0, 0, 1, 1)))
    return cast("Axes", pyplot.figure(figsize=size, layout="constrained").add_subplot())


def check_axes(ax: object, *, call: str) -> None:
    """Refuse an `ax` that is neither None nor an Axes, such as a figure or a list of axes.

    Raises
    ------
    DTypeError
        If it is something else.

    Examples
    --------
    >>> check_axes(None, call="plot.edge")
    """
    if ax is not None and not isinstance(ax, Axes):
        got = type(ax).__name__
        advice = "Pass one Axes, such as fig.subplots() returns, or leave ax out"
        raise DTypeError(message(call, "ax to be an Axes or None", got, advice))


def literal(text: object, *, most: int | None = None) -> str:
    r"""Return a name so that a picture shows it as it is: no mathematics, on one line.

    Parameters
    ----------
    text : object
        The name; written with ``str``.
    most : int, optional
        Longest text to show; the middle of a longer one is left out.

    Examples
    --------
    >>> literal("$x_{1")
    '\\$x_{1'
    >>> literal("a  long\nname", most=8)
    'a l…name'
    """
    words = " ".join(str(text).split())
    if most is not None and len(words) > most:
        head = (most - 1) // 2
        words = f"{words[:head]}…{words[len(words) - (most - 1 - head) :]}"
    return words.replace("$", r"\$")


def with_unit(name: str, unit: str) -> str:
    """Return a name and its unit in brackets, safe to draw.

    Examples
    --------
    >>> with_unit("age", "days"), with_unit("slump", "")
    ('age (days)', 'slump')
    """
    return literal(f"{name} ({unit})" if unit else name)


def text_width(text: str, size: float) -> float:
    """Return the width of a drawn text in inches, `size` in points.

    Examples
    --------
    >>> text_width("WW", 8.0) > text_width("ii", 8.0) > 0
    True
    """
    if not text.strip():
        return 0.0
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72


def fitted(text: object, width: float, size: float) -> str:
    """Return a name for a place of `width` inches; the middle of one too long is left out.

    Examples
    --------
    >>> fitted("age", 1.0, 8.0), len(fitted("m" * 80, 1.0, 8.0)) < 20
    ('age', True)
    """
    length = len(str(text))
    shown = literal(text)
    while text_width(shown, size) > width and length > 4:
        length = min(length - 1, int(length * width / text_width(shown, size)) + 1)
        shown = literal(text, most=length)
    return shown


def size_in_inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of the place of `ax`."""
    box = ax.get_position().transformed(ax.figure.transSubfigure)
    dpi = float(getattr(ax.figure, "dpi", 100.0))
    return float(box.width) / dpi, float(box.height) / dpi


def tidy(ax: Axes) -> None:
    """Take away the upper and the right border of `ax`, and set lines and numbers to our sizes."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_linewidth(0.6)
    ax.tick_params(labelsize=STYLE.small, width=0.6, length=2.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_fontsize(STYLE.text)


def save(picture: Any, path: Pathlike) -> None:
    """Write a picture; the same picture gives the same bytes.

    No date, no program name. The file is written whole or not at all.

    Parameters
    ----------
    picture : Axes or Figure
        An Axes stands for its whole figure.
    path : str or path
        Ends in .svg, .png or .pdf.

    Raises
    ------
    OutputError
        If the suffix is another, or the file cannot be written there.
    DTypeError
        If `picture` is neither an Axes nor a Figure.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> target = Path(tempfile.mkdtemp(), "empty.svg")
    >>> save(Figure(), target)
    >>> target.read_text().startswith("<?xml")
    True
    """
    figure = _figure(picture, "plot.save")
    suffix = Path(path).suffix.lower()
    check_ending(path, FORMATS, call="plot.save")
    with atomic_write(path, call="plot.save") as temporary:
        temporary.write_bytes(_rendered(figure, suffix[1:]))


def to_svg(picture: Any, *, title: str = "", prefix: str | None = None) -> str:
    """Return a picture as an ``<svg>`` element to put into a web page.

    Text stays text. Every id begins with a prefix of its own, so that several pictures on one
    page do not refer to each other's parts.

    Parameters
    ----------
    picture : Axes or Figure
        An Axes stands for its whole figure.
    title : str
        What the picture shows, for readers who cannot see it.
    prefix : str, optional
        Beginning of every id; made from the content when None, so that only equal pictures
        share it.

    Returns
    -------
    str

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> to_svg(Figure(), title="Nothing")[:5]
    '<svg '
    """
    text = _rendered(_figure(picture, "plot.to_svg"), "svg").decode()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"\s*(<metadata>.*?</metadata>|<style.*?</style>)", "", text, flags=re.DOTALL)
    if prefix is None:
        prefix = "k" + hashlib.sha256(f"{title}\0{text}".encode()).hexdigest()[:10]
    text = re.sub(r"<[^<>]+>", lambda tag: _prefixed(tag[0], f"{prefix}-"), text)
    head, rest = text.split(">", 1)
    label = f"\n <title>{_escaped(title)}</title>" if title else ""
    return f'{head} role="img" stroke-linejoin="round">{label}{rest}'


def _prefixed(tag: str, prefix: str) -> str:
    """Put `prefix` before every id in a tag, and before every reference to one."""
    tag = re.sub(r'(\bid=")', rf"\g<1>{prefix}", tag)
    return re.sub(r'(\bhref="#|url\(#)', rf"\g<1>{prefix}", tag)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _figure(picture: Any, call: str) -> Any:
    figure = getattr(picture, "figure", None)
    if figure is None or not hasattr(getattr(figure, "figure", figure), "savefig"):
        got = type(picture).__name__
        advice = "Pass what a plot function returned"
        raise DTypeError(message(call, "an Axes or a Figure", got, advice))
    return getattr(figure, "figure", figure)  # of a part of a figure, the whole


def _rendered(figure: Any, kind: str) -> bytes:
    metadata: dict[str, dict[str, None]] = {
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    target = io.BytesIO()
    with context():
        figure.savefig(
            target,
            format=kind,
            dpi=DOTS_PER_INCH,
            metadata=metadata[kind],
            bbox_inches="tight",
            pad_inches=0.03,
        )
    return target.getvalue()
