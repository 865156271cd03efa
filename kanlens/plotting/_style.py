"""Colors and sizes of all pictures, their files, and the names on them.

Colors are those of Okabe and Ito, safe for color-blind readers; a position, a marker, a sign or a
lightness repeats their meaning, for prints in greyscale.
"""

from __future__ import annotations

import hashlib
import html
import inspect
import io
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import matplotlib as mpl
import matplotlib.style
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter

from kanlens._atomic_files import Pathlike, atomic_write, check_ending
from kanlens._display import escaped
from kanlens.errors import DTypeError
from kanlens.plotting._formats import tick

Array = np.ndarray[Any, np.dtype[Any]]
Look = dict[str, Any]  # keyword arguments of matplotlib

FORMATS = (".pdf", ".png", ".svg")
DOTS_PER_INCH = 200
ROW = 0.235  # inches, of a row of features


@dataclass(frozen=True, kw_only=True)
class Style:
    """Colors and sizes (points and inches) shared by all pictures."""

    ink: str = "#1b1b1b"  # lines and text
    muted: str = "#666666"  # secondary text
    faint: str = "#dddddd"  # shading and rules
    paper: str = "#ffffff"
    accent: str = "#0072b2"
    positive: str = "#e08a00"  # raises an output
    negative: str = "#0a5f96"  # lowers it
    series: tuple[str, ...] = (  # methods or curves drawn together
        "#0072b2",
        "#d55e00",
        "#009e73",
        "#cc79a7",
        "#e69f00",
        "#56b4e9",
        "#1b1b1b",
        "#8c8c8c",
    )
    # their markers: colors alone do not survive a greyscale print
    markers: tuple[str, ...] = ("o", "s", "^", "D", "v", "P", "X", "<")
    sequence: str = "cividis"  # from low to high; its lightness rises evenly
    text: float = 8.0  # names
    small: float = 7.0  # numbers
    column: float = 3.4  # width of one text column
    page: float = 7.0  # width of a page


STYLE = Style()
ASIDE: Look = {"fontsize": STYLE.small, "color": STYLE.muted}  # of notes next to a picture

SETTINGS: dict[str, Any] = {  # that differ from matplotlib's own
    "font.size": STYLE.text,
    "axes.titlesize": STYLE.text,
    "axes.labelsize": STYLE.text,
    "xtick.labelsize": STYLE.small,
    "ytick.labelsize": STYLE.small,
    "legend.fontsize": STYLE.small,
    "axes.labelcolor": STYLE.ink,
    "axes.titlecolor": STYLE.ink,
    "text.color": STYLE.ink,
    "xtick.color": STYLE.ink,
    "ytick.color": STYLE.ink,
    "mathtext.fontset": "cm",
    "axes.formatter.limits": (-3, 4),
    "legend.frameon": False,
    "axes.edgecolor": STYLE.ink,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "svg.fonttype": "none",
    "svg.hashsalt": "kanlens",
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.5,
    "path.simplify_threshold": 0.02,  # pixels
}


Draw = TypeVar("Draw", bound=Callable[..., Axes])
AX = "ax : Axes, optional\n    Where to draw; a new figure, made by pyplot, when None."
EVERY = {"Parameters": AX, "Raises": "DTypeError\n    If `ax` is not an Axes."}  # of all pictures


@contextmanager
def context() -> Iterator[None]:
    """Draw in our style, then restore the caller's settings.

    The setting `interactive`, which a notebook sets with its first figure, is not restored.
    """
    interactive = mpl.is_interactive()
    try:
        dots = {"figure.dpi": mpl.rcParams["figure.dpi"]}  # the screen's, not the default
        with mpl.style.context(["default", SETTINGS | dots]):
            yield
            interactive = mpl.is_interactive()
    finally:
        mpl.interactive(interactive)


def picture(call: str) -> Callable[[Draw], Draw]:
    """Decorate a plot function: draw in our style, check and document `ax`."""

    def decorate(draw: Draw) -> Draw:
        @wraps(draw)
        def checked(*arguments: Any, ax: Axes | None = None, **options: Any) -> Axes:
            if ax is not None and not isinstance(ax, Axes):
                advice = "Pass one Axes, such as fig.subplots() returns, or leave ax out"
                raise DTypeError(call, "ax to be an Axes or None", type(ax).__name__, advice)
            with context():
                return draw(*arguments, ax=ax, **options)

        text = inspect.cleandoc(draw.__doc__ or "")
        for section, words in EVERY.items():
            if not re.search(rf"^{words.split()[0]}\b", text, re.MULTILINE):
                entries = rf"(\n{section}\n-+\n(?:.+\n)+)"
                text = re.sub(entries, rf"\1{words}\n", text)
        checked.__doc__ = text
        return cast("Draw", checked)

    return decorate


def axes_for(ax: Axes | None, size: tuple[float, float], *, bare: bool = False) -> Axes:
    """Return `ax`, or axes of a new pyplot figure of `size` inches.

    Bare axes fill their figure; others get the common style.
    """
    if ax is None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=size, layout=None if bare else "constrained")
        ax = figure.add_axes((0, 0, 1, 1)) if bare else figure.add_subplot()
    if not bare:
        tidy(ax)
    return ax


def numbers(values: Any) -> Array:
    """Return a tensor or an array-like as a float64 array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def literal(text: object, *, most: int | None = None) -> str:
    """Return a name on one line with $ escaped; beyond `most` characters, its middle is cut."""
    words = escaped(" ".join(str(text).split()))
    if most is not None and len(words) > most:
        head = (most - 1) // 2
        words = f"{words[:head]}…{words[len(words) - (most - 1 - head) :]}"
    return words.replace("$", r"\$")


def label(name: object, unit: str, *, most: int | None = None) -> str:
    """Return a name as by `literal`, with its unit in parentheses."""
    return literal(name, most=most) + (f" ({literal(unit)})" if unit else "")


def distinct(names: Iterable[object], short: Callable[[object], str]) -> list[str]:
    """Return shortened names; of names that would be equal, the common beginning is cut."""
    full = [" ".join(str(name).split()) for name in names]
    shown, most = [short(name) for name in full], min(map(len, full), default=0)
    for text in set(shown):
        same = [place for place, name in enumerate(shown) if name == text]
        letters = zip(*(full[place] for place in same), strict=False)
        start = next((k for k, column in enumerate(letters) if len(set(column)) > 1), most)
        tails = [full[place][start:] for place in same]
        if len(set(tails)) > 1:
            for place, tail in zip(same, distinct(tails, short), strict=True):
                shown[place] = f"…{tail}"
    return shown


def text_width(text: str, size: float) -> float:
    """Return the width of a drawn text in inches; `size` is in points."""
    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text, size=size)
    x, codes = np.asarray(path.vertices)[:, 0], np.asarray(path.codes)
    threes, fours = (np.flatnonzero(codes == code) for code in (Outline.CURVE3, Outline.CURVE4))
    drawn = codes != Outline.CLOSEPOLY
    ends = drawn.copy()  # of lines and curves, without what bends the latter
    ends[np.concatenate([threes[::2], fours[::3], fours[1::3]])] = False
    if drawn.any() and (x[ends].min(), x[ends].max()) == (x[drawn].min(), x[drawn].max()):
        return float(np.ptp(x[ends])) / 72
    return float(path.get_extents().width) / 72  # slow: it solves for the ends of every curve


def fitted(text: object, width: float, size: float) -> str:
    """Return a name shortened as by `literal` to `width` inches; `size` is in points."""
    length = len(str(text))
    shown = literal(text)
    while text_width(shown, size) > width and length > 4:
        length = min(length - 1, int(length * width / text_width(shown, size)) + 1)
        shown = literal(text, most=length)
    return shown


def size_in_inches(ax: Axes) -> tuple[float, float]:
    """Return width and height of `ax` in inches."""
    box = ax.get_position().transformed(ax.figure.transSubfigure)
    dpi = float(getattr(ax.figure, "dpi", 100.0))
    return float(box.width) / dpi, float(box.height) / dpi


def tidy(ax: Axes) -> None:
    """Hide the upper and right borders, and set sizes of lines and text."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_linewidth(0.6)
    ax.tick_params(labelsize=STYLE.small, width=0.6, length=2.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_fontsize(STYLE.text)
        axis.set_major_formatter(FuncFormatter(tick))


def rows_axes(ax: Axes | None, rows: int, width: float) -> Axes:
    """Return axes with a row for each feature; `width` is in text columns."""
    ax = axes_for(ax, (width * STYLE.column, 0.55 + ROW * max(rows, 2)))
    ax.set_ylim(rows - 0.4, -0.6)
    return ax


def name_rows(ax: Axes, names: list[str], *, others: bool = False) -> None:
    """Label rows from the top; the last label is pale if that row sums the `others`."""
    ax.set_yticks(np.arange(len(names)), names, fontsize=STYLE.text)
    ax.tick_params(axis="y", length=0)
    if others:
        ax.get_yticklabels()[-1].set_color(STYLE.muted)


def color_bar(ax: Axes, image: Any, label: str, *, key: Axes | None = None) -> Any:
    """Draw the color bar of an image next to `ax`, or on the axes `key`."""
    where: Look = {"ax": ax, "fraction": 0.046, "pad": 0.03} if key is None else {"cax": key}
    bar = ax.figure.colorbar(image, **where)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, labelsize=STYLE.small)
    bar.set_label(label, fontsize=STYLE.small)
    return bar


def save(picture: Axes | Figure, path: Pathlike) -> None:
    """Write a picture to a file; equal pictures give equal bytes.

    The file is written whole or not at all.

    Parameters
    ----------
    picture : Axes or Figure
        An Axes stands for its whole figure.
    path : str or path
        Ends in .svg, .png or .pdf.

    Raises
    ------
    OutputError
        If the suffix is not supported, or the file cannot be written there.
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


def to_svg(picture: Axes | Figure, *, title: str = "", prefix: str | None = None) -> str:
    """Return a picture as an ``<svg>`` element to put into a web page.

    Text stays text. Ids begin with a prefix, which keeps pictures on one page apart.

    Parameters
    ----------
    picture : Axes or Figure
        An Axes stands for its whole figure.
    title : str
        Description for readers who cannot see the picture.
    prefix : str, optional
        Beginning of every id; a digest of the content when None.

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
    names = re.compile(r'(\bid="|\bhref="#|url\(#)')  # beginnings of ids and of references
    text = re.sub(r"<[^<>]+>", lambda tag: names.sub(rf"\g<1>{prefix}-", tag[0]), text)
    head, rest = text.split(">", 1)
    label = f"\n <title>{html.escape(title, quote=False)}</title>" if title else ""
    return f'{head} role="img" stroke-linejoin="round">{label}{rest}'


def root_figure(ax: Axes) -> Figure:
    """Return the whole figure of an Axes."""
    return cast("Figure", getattr(ax.figure, "figure", ax.figure))


def _figure(picture: Axes | Figure, call: str) -> Any:
    """Return the whole figure of an Axes or a part of a figure."""
    figure = getattr(picture, "figure", None)
    if figure is None or not hasattr(getattr(figure, "figure", figure), "savefig"):
        got = type(picture).__name__
        raise DTypeError(call, "an Axes or a Figure", got, "Pass the result of a plot function")
    return getattr(figure, "figure", figure)


def _rendered(figure: Any, kind: str) -> bytes:
    """Return a figure as the bytes of a file, without date and program name."""
    names = {
        "svg": ("Date", "Creator", "Format", "Type"),
        "png": ("Software",),
        "pdf": ("CreationDate", "Creator", "Producer"),
    }
    target, room = io.BytesIO(), {"bbox_inches": "tight", "pad_inches": 0.03}
    with context():
        metadata = dict.fromkeys(names[kind])
        figure.savefig(target, format=kind, dpi=DOTS_PER_INCH, metadata=metadata, **room)
    return target.getvalue()
