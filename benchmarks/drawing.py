"""What the pictures of all benchmarks are made with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from benchmarks.statistics import Interval, interval
from kanlens.plotting._style import STYLE, context

Frames = Mapping[str, pd.DataFrame]
GAP = 0.12  # between bars' middles of one group, on an axis where groups are 1 apart


@dataclass(frozen=True)
class Picture:
    """A figure: the tables it is drawn from, and its caption."""

    needs: tuple[str, ...]
    draw: Callable[[Frames], Figure]
    caption: str


@contextmanager
def page(rows: int, columns: int, height: float, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """Yield a figure as wide as a page with a grid of axes, in the style of all pictures."""
    with context():
        figure = Figure(figsize=(STYLE.page, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **options)


def look_of(index: int) -> dict[str, Any]:
    """Return color and marker of a series; hollow when there are no more colors."""
    hollow = {"markerfacecolor": "none"} if index >= len(STYLE.series) else {}
    color = STYLE.series[index % len(STYLE.series)]
    marker = STYLE.markers[index % len(STYLE.markers)]
    return {"color": color, "marker": marker, "markersize": 4, **hollow}


def legend_above(figure: Figure, ax: Axes, columns: int) -> None:
    """Name the series of one panel above all panels."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=columns)


def draw_intervals(
    ax: Axes, series: Mapping[str, list[Interval]], places: list[Any], most: float = 1.0
) -> None:
    """Draw a point with its interval, cut off at the largest possible value, for every series."""
    gap = min(GAP, 0.8 / len(series))
    for index, (name, intervals) in enumerate(series.items()):
        shift = gap * (index - (len(series) - 1) / 2)
        y, below = zip(*intervals, strict=True)
        above = [min(mean + half, most) - mean for mean, half in intervals]
        look = {"linestyle": "", "elinewidth": 0.8, "capsize": 2, **look_of(index)}
        x = [place + shift for place in range(len(places))]
        ax.errorbar(x, y, yerr=[below, above], label=name, **look)
    ax.set_xticks(range(len(places)), [str(place) for place in places])


def means_of(
    frame: pd.DataFrame, series: str, value: str, place: str = "problem"
) -> tuple[dict[str, list[Interval]], list[Any]]:
    """Return for every series the interval over seeds at every place, and the places."""
    places = list(dict.fromkeys(frame[place]))
    found: dict[str, list[Interval]] = {}
    for name, part in frame.groupby(series, sort=False):
        values = {key: rows[value].tolist() for key, rows in part.groupby(place)}
        found[str(name)] = [interval(values.get(key, [])) for key in places]
    return found, places


def plain_ticks(axis: Axis, places: list[float]) -> None:
    """Write plain numbers on a logarithmic axis, and only at these places."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
