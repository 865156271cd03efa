"""What all pictures of the sparsity benchmark are made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.statistics import Interval, interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["Picture", "draw_intervals", "figure_of", "look_of", "means_of", "plain_ticks"]

Frames = Mapping[str, "pd.DataFrame"]
GAP = 0.12  # between bars' middles of one group, on an axis where groups are 1 apart


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure.

    Attributes
    ----------
    needs : tuple of str
        Tables it is drawn from.
    draw : callable
        From these tables to a Figure.
    caption : str
        What it shows, in a sentence.
    applies : callable
        From these tables to whether there is anything to draw.
    """

    needs: tuple[str, ...]
    draw: Callable[[Frames], Figure]
    caption: str
    applies: Callable[[Frames], bool] = lambda frames: True


def figure_of(rows: int, columns: int, height: float) -> tuple[Figure, Any]:
    """Return a figure as wide as a page with a grid of axes."""
    from matplotlib.figure import Figure

    from kanlens.plotting.style import STYLE

    figure = Figure(figsize=(STYLE.page, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def look_of(index: int) -> dict[str, Any]:
    """Return color and marker of a series; hollow when there are no more colors."""
    from kanlens.plotting.style import STYLE

    further = index >= len(STYLE.series)
    return {
        "color": STYLE.series[index % len(STYLE.series)],
        "marker": STYLE.markers[index % len(STYLE.markers)],
        "markersize": 4,
        **({"markerfacecolor": "none"} if further else {}),
    }


def draw_intervals(
    ax: Axes, found: Mapping[str, list[Interval]], places: list[Any], most: float = 1.0
) -> None:
    """Draw a point with its interval, cut off at the most there can be, for every series."""
    gap = min(GAP, 0.8 / len(found))
    for index, (name, intervals) in enumerate(found.items()):
        shift = gap * (index - (len(found) - 1) / 2)
        x = [place + shift for place in range(len(places))]
        y = [each.mean for each in intervals]
        below = [each.mean - each.low for each in intervals]
        above = [min(each.high, most) - each.mean for each in intervals]
        look = {"linestyle": "", "elinewidth": 0.8, "capsize": 2, **look_of(index)}
        ax.errorbar(x, y, yerr=[below, above], label=name, **look)
    ax.set_xticks(range(len(places)), [str(place) for place in places])


def means_of(
    frame: pd.DataFrame, series: str, value: str
) -> tuple[dict[str, list[Interval]], list[Any]]:
    """Return for every series the interval over seeds at every problem, and the problems."""
    problems = list(dict.fromkeys(frame["problem"]))
    found: dict[str, list[Interval]] = {}
    for name, part in frame.groupby(series, sort=False):
        values = {problem: rows[value].tolist() for problem, rows in part.groupby("problem")}
        found[str(name)] = [interval(values.get(problem, [])) for problem in problems]
    return found, problems


def plain_ticks(axis: Axis, places: list[float]) -> None:
    """Write numbers on a logarithmic axis as they are, and only at these places."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
