"""One picture of a page: an SVG element that needs nothing from elsewhere, and words around it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kanlens import plotting
from kanlens.plotting.style import Array, context
from kanlens.reporting.compact_svg import sized

READ = 101  # points of a curve that a reader can ask for
FIGURES = 4  # digits of the range of a curve that they are given to


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture on the page: an ``<svg>`` element and plain words around it."""

    svg: str
    caption: str = ""
    title: str = ""
    kind: str = ""  # where its words depend on it
    anchor: str = ""  # id of the picture on the page


def draw(
    paint: Callable[..., Any],
    size: tuple[float, float],
    *,
    alt: str = "",
    caption: str = "",
    title: str = "",
    anchor: str = "",
    axes_only: bool = False,
) -> Picture:
    """Let `paint` draw on fresh axes of `size` inches, in a figure that belongs to nobody else.

    Readers who cannot see the picture are told `alt`, or what the page says instead. With
    `axes_only`, names are put around axes of that size.
    """
    with context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # which the fonts of the page may have
        figure = Figure(figsize=size, layout=None if axes_only else "constrained")
        paint(ax=figure.add_axes((0, 0, 1, 1)) if axes_only else figure.subplots())
        curves = dict(_curves(figure))
        svg = plotting.to_svg(figure, title=alt or title or "Picture")
    return Picture(svg=sized(svg, curves), caption=caption, title=title, anchor=anchor)


def _curves(figure: Figure) -> Iterator[tuple[str, dict[str, str]]]:
    """Mark the functions in a figure; yield of each its mark, and its points as a page reads them.

    Every number is that of the curve, rounded to `FIGURES` digits of the range: the number of
    decimals, the first number without its point, and the steps from there.
    """
    lines: Any = figure.findobj(Line2D)
    for place, line in enumerate(lines):
        own, points = line.get_label() in ("_curve", "sum"), line.get_xydata()
        points = points[np.isfinite(points).all(1)]
        if (own or line.get_gid() == "curve") and len(points) > 1:
            picks = np.unique(np.linspace(0, len(points) - 1, min(READ, len(points))).astype(int))
            name = line.axes.get_xlabel() or line.axes.get_title()
            words = {"data-name": name, "data-of": "" if own else line.get_label()}
            words = {key: word.replace(r"\$", "$") for key, word in words.items()}
            x, y = (_rounded(column) for column in points[picks].T)
            line.set_gid(f"curve{place}")
            yield f"curve{place}", {"class": "curve", "data-x": x, "data-y": y, **words}


def _rounded(values: Array) -> str:
    width = float(np.ptp(values)) or float(np.abs(values).max()) or 1.0
    places = max(0, FIGURES - 1 - math.floor(math.log10(width)))
    whole = [round(float(value) * 10**places) for value in values]
    return " ".join(map(str, [places, whole[0], *np.diff(whole).tolist()]))
