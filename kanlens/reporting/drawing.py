"""One picture of a page: an SVG element that needs nothing from elsewhere, and words around it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from kanlens import plotting
from kanlens.plotting.style import context

ENLARGED = 1.2  # how much larger than in print a picture is shown
LEAST = 0.8  # share of that size below which it is scrolled rather than shrunk


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture on the page: an ``<svg>`` element and plain words around it."""

    svg: str
    caption: str
    title: str = ""


def draw(
    paint: Callable[..., Any],
    size: tuple[float, float],
    *,
    alt: str,
    caption: str,
    title: str = "",
    axes_only: bool = False,
) -> Picture:
    """Let `paint` draw on fresh axes of `size` inches, in a figure that belongs to nobody else.

    Readers who cannot see the picture are told `alt`. With `axes_only`, names are put around axes
    of that size.
    """
    with context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # which the fonts of the page may have
        figure = Figure(figsize=size, layout=None if axes_only else "constrained")
        paint(ax=figure.add_axes((0, 0, 1, 1)) if axes_only else figure.subplots())
        svg = plotting.to_svg(figure, title=alt)
    return Picture(svg=sized(svg), caption=caption, title=title)


def sized(svg: str) -> str:
    """Let the width of the page bound a picture, never beyond legibility; round its coordinates."""
    head, rest = svg.split(">", 1)
    (points,) = re.findall(r'\bwidth="([\d.]+)pt"', head)
    width = float(points)
    head = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", head)
    pixels = ENLARGED * width * 4 / 3
    style = f"width:{pixels:.0f}px;min-width:{min(LEAST * pixels, 900):.0f}px"
    coordinates = r"<(?:path|use|g)\b[^<>]*>"  # to hundredths of a point; texts keep their digits
    short = re.sub(coordinates, lambda tag: re.sub(r"(\.\d\d)\d+", r"\1", tag[0]), rest)
    return f'{head} style="{style}">{short}'
