"""How every picture looks, how it is written to a file, and how names are put on it.

Colors are those of Okabe and Ito, which color-blind readers tell apart; whatever a color says is
also said by a position, a marker, a sign or a lightness, so that greyscale prints lose nothing.
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
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter

from kanlens.atomic_files import Pathlike, atomic_write, check_ending
from kanlens.display import escaped
from kanlens.errors import DTypeError
from kanlens.plotting.formats import tick

Array = np.ndarray[Any, np.dtype[Any]]

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
    accent: str = "#0072b2"  # what should be seen first
    positive: str = "#e08a00"  # what raises an output
    negative: str = "#0a5f96"  # what lowers it
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
    page: float = 7.0  # and of a page


STYLE = Style()
ASIDE: Any = {"fontsize": STYLE.small, "color": STYLE.muted}  # of what is said beside the picture

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
EVERY = {"Parameters": AX, "Raises": "DTypeError\n    If `ax` is no Axes."}  # of all pictures


@contextmanager
def context() -> Iterator[None]:
    """Draw in our style; afterwards the settings of the caller are back.

    A notebook switches `interactive` on where the first figure is made, which is for good.
    """
    interactive = mpl.is_interactive()
    try:
        dots = {"figure.dpi": mpl.rcParams["figure.dpi"]}  # which is the screen's
        with mpl.style.context(["default", SETTINGS | dots]):
            yield
            interactive = mpl.is_interactive()
    finally:
        mpl.interactive(interactive)


def picture(call: str) -> Callable[[Draw], Draw]:
    """Make a public function draw in our style, on an `ax` that is None or an Axes, and say so."""

    def made(draw: Draw) -> Draw:
        @wraps(draw)
        def checked(*given: Any, ax: Axes | None = None, **options: Any) -> Axes:
            if ax is not None and not isinstance(ax, Axes):
                advice = "Pass one Axes, such as fig.subplots() returns, or leave ax out"
                raise DTypeError(call, "ax to be an Axes or None", type(ax).__name__, advice)
            with context():
                return draw(*given, ax=ax, **options)

        checked.__doc__ = _with_axes(draw.__doc__ or "")
        return cast("Draw", checked)

    return made


def _with_axes(text: str) -> str:
    text = inspect.cleandoc(text)
    for section, words in EVERY.items():
        if not re.search(rf"^{words.split()[0]}\b", text, re.MULTILINE):
            entries = rf"(\n{section}\n-+\n(?:.+\n)+)"
            text = re.sub(entries, rf"\1{words}\n", text)
    return text


def axes_for(ax: Axes | None, size: tuple[float, float], *, bare: bool = False) -> Axes:
    """Return the axes to draw on: `ax`, or those of a new figure of `size` inches.

    A new figure is made by pyplot, so that notebooks show it. Bare axes fill their figure; others
    are made tidy.
    """
    if ax is None:
        from matplotlib import pyplot

        figure: Any = pyplot.figure(figsize=size, layout=None if bare else "constrained")
        ax = figure.add_axes((0, 0, 1, 1)) if bare else figure.add_subplot()
    if not bare:
        tidy(ax)
    return ax


def numbers(values: Any) -> Array:
    """Return a tensor or whatever NumPy takes as a float64 array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def literal(text: object, *, most: int | None = None) -> str:
    """Return a name on one line, no mathematics; beyond `most`, its middle is left out."""
    words = escaped(" ".join(str(text).split()))
    if most is not None and len(words) > most:
        head = (most - 1) // 2
        words = f"{words[:head]}…{words[len(words) - (most - 1 - head) :]}"
    return words.replace("$", r"\$")


def with_unit(name: str, unit: str) -> str:
    """Return a name and its unit in brackets, safe to draw."""
    return literal(f"{name} ({unit})" if unit else name)


def in_unit(unit: str) -> str:
    """Return what stands behind a name that is safe to draw: its unit in brackets, or nothing."""
    return f" ({literal(unit)})" if unit else ""


def distinct(names: Iterable[object], short: Callable[[object], str]) -> list[str]:
    """Return names as `short` shortens them; where two become the same, from where they differ."""
    known = [" ".join(str(name).split()) for name in names]
    shown, most = [short(name) for name in known], min(map(len, known), default=0)
    for text in set(shown):
        same = [place for place, one in enumerate(shown) if one == text]
        letters = zip(*(known[place] for place in same), strict=False)
        start = next((k for k, those in enumerate(letters) if len(set(those)) > 1), most)
        tails = [known[place][start:] for place in same]
        if len(set(tails)) > 1:
            for place, tail in zip(same, distinct(tails, short), strict=True):
                shown[place] = f"…{tail}"
    return shown


def text_width(text: str, size: float) -> float:
    """Return the width of a drawn text in inches, `size` in points."""
    if not text.strip():
        return 0.0
    return float(TextPath((0, 0), text, size=size).get_extents().width) / 72


def fitted(text: object, width: float, size: float) -> str:
    """Return a name for a place of `width` inches; one too long is shortened as by `literal`."""
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
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_linewidth(0.6)
    ax.tick_params(labelsize=STYLE.small, width=0.6, length=2.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_fontsize(STYLE.text)
        axis.set_major_formatter(FuncFormatter(tick))


def rows_axes(ax: Axes | None, rows: int, width: float) -> Axes:
    """Return axes for so many rows of features, in a new figure of so many columns' width."""
    ax = axes_for(ax, (width * STYLE.column, 0.55 + ROW * max(rows, 2)))
    ax.set_ylim(rows - 0.4, -0.6)
    return ax


def name_rows(ax: Axes, names: list[str], *, others: bool = False) -> None:
    """Name the rows from the top; the last one is pale where it stands for `others`."""
    ax.set_yticks(np.arange(len(names)), names, fontsize=STYLE.text)
    ax.tick_params(axis="y", length=0)
    if others:
        ax.get_yticklabels()[-1].set_color(STYLE.muted)


def color_bar(ax: Axes, image: Any, label: str, *, key: Axes | None = None) -> Any:
    """Draw what the colors of `ax` mean beside it, or on axes of their own."""
    where: Any = {"ax": ax, "fraction": 0.046, "pad": 0.03} if key is None else {"cax": key}
    bar: Any = ax.figure.colorbar(image, **where)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=2, labelsize=STYLE.small)
    bar.set_label(label, fontsize=STYLE.small)
    return bar


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
    names = re.compile(r'(\bid="|\bhref="#|url\(#)')  # of ids, and of what refers to them
    text = re.sub(r"<[^<>]+>", lambda tag: names.sub(rf"\g<1>{prefix}-", tag[0]), text)
    head, rest = text.split(">", 1)
    label = f"\n <title>{html.escape(title, quote=False)}</title>" if title else ""
    return f'{head} role="img" stroke-linejoin="round">{label}{rest}'


def _figure(picture: Any, call: str) -> Any:
    figure = getattr(picture, "figure", None)
    if figure is None or not hasattr(getattr(figure, "figure", figure), "savefig"):
        got = type(picture).__name__
        raise DTypeError(call, "an Axes or a Figure", got, "Pass what a plot function returned")
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
