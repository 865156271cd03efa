"""One picture of a page: an SVG element that needs nothing from elsewhere."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kanlens import plotting
from kanlens.plotting.style import context

ENLARGED = 1.2  # how much larger than in print a picture is shown
LEAST = 0.8  # share of that size below which it is scrolled rather than shrunk


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture on the page.

    Attributes
    ----------
    svg : str
        The element; safe to put into a page.
    caption : str
        What to see in it; plain text.
    title : str
        Heading; may be empty; plain text.
    """

    svg: str
    caption: str
    title: str = ""


def draw(
    paint: Callable[[Axes], Any],
    size: tuple[float, float],
    *,
    alt: str,
    caption: str,
    title: str = "",
    axes_only: bool = False,
) -> Picture:
    """Let `paint` draw on fresh axes of a figure that belongs to nobody else.

    Parameters
    ----------
    paint : callable
        Draws on the Axes it is given.
    size : tuple of float
        Width and height, in inches.
    alt : str
        What the picture shows, for readers who cannot see it.
    caption, title : str
        Words around it.
    axes_only : bool
        Whether `size` is that of the axes alone, and names are put around them.
    """
    with context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # which the fonts of the page may have
        figure = Figure(figsize=size, layout=None if axes_only else "constrained")
        paint(figure.add_axes((0, 0, 1, 1)) if axes_only else figure.subplots())
        svg = plotting.to_svg(figure, title=alt)
    return Picture(svg=sized(svg), caption=caption, title=title)


def onto(plot: Callable[..., Any], *args: Any, **options: Any) -> Callable[[Any], Any]:
    """Return a plot that only waits for its Axes."""
    return lambda ax: plot(*args, ax=ax, **options)


def sized(svg: str) -> str:
    """Let the width of the page bound a picture; never shrink it beyond legibility."""
    head, rest = svg.split(">", 1)
    (points,) = re.findall(r'\bwidth="([\d.]+)pt"', head)
    width = float(points)
    head = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", head)
    pixels = ENLARGED * width * 4 / 3
    style = f"width:{pixels:.0f}px;min-width:{min(LEAST * pixels, 900):.0f}px"
    return f'{head} style="{style}">{_shortened(rest)}'


def _shortened(svg: str) -> str:
    """Round coordinates to hundredths of a point; texts are left as they are."""
    return re.sub(
        r"<(?:path|use|g)\b[^<>]*>", lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), svg
    )
