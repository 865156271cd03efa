"""The benchmark as a figure: times relative to nn.Linear, memory, and how the time grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.drawing import Frames, Picture
from benchmarks.speed.peers import FLOOR, PEERS
from benchmarks.speed.timing import BOTH, TIMED
from kanlens.plotting._style import STYLE, context

TABLES = ("speed", "speed-memory", "speed-scaling")
SHOWN = tuple(PEERS)
LONG = 500.0  # from one end of an axis to the other, above which only powers of ten are numbered
HOLLOW = "hollow: other values"
AXES = {"batch": "rows", "width": "inputs = outputs", "grid size": "intervals of the grid"}


def draw(speed: pd.DataFrame, memory: pd.DataFrame, scaling: pd.DataFrame) -> Figure:
    """Draw one figure of all rows of the processor as it is; an empty table leaves a part out.

    Above, a point for each cell and peer: the time of forward and backward relative to nn.Linear
    with the same number of weights, and the peak memory. Below, times that grow. A hollow point
    is a peer whose values differ from what is right.
    """
    speed, memory, scaling = (
        frame[(frame["device"] == "cpu") & frame["status"].isin(TIMED)]
        for frame in (speed, memory, scaling)
    )
    curves = [curve for curve in AXES if (scaling["curve"] == curve).any()]
    lines = max(speed["cell"].nunique(), memory["cell"].nunique(), 1)
    heights = [0.9 + 0.3 * lines, 2.3][: 2 if curves else 1]
    with context():
        figure = Figure(figsize=(STYLE.page, sum(heights) + 0.5), layout="constrained")
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        left, right = parts[0].subplots(1, 2, width_ratios=(1.25, 1))
        _dots(left, speed[speed["pass"] == BOTH], "vs_linear", "time relative to nn.Linear")
        left.set_title("forward + backward", loc="left")
        _dots(right, memory, "extra_mib", "peak memory beyond the layer (MiB)")
        right.set_title("memory of one forward + backward", loc="left")
        if curves:
            axes = parts[1].subplots(1, len(curves), sharey=True, squeeze=False)[0]
            _curves(axes, scaling, curves)
        _legend(figure, [speed, memory, scaling])
    return figure


def _look(peer: str) -> dict[str, Any]:
    """Return color and marker of a peer; kanlens stands out."""
    if peer == FLOOR:
        return {"color": STYLE.ink, "marker": "|", "markersize": 9, "zorder": 3}
    number = [name for name in SHOWN if name != FLOOR].index(peer) % len(STYLE.series)
    own = peer.startswith("kanlens")
    look = {"color": STYLE.series[number], "marker": STYLE.markers[number]}
    return {**look, "markersize": 6.5 if own else 4.5, "zorder": 4 if own else 3}


def _dots(ax: Axes, rows: pd.DataFrame, column: str, label: str) -> None:
    """Draw a line for each cell and a point on it for each peer."""
    cells = list(dict.fromkeys(rows["cell"]))[::-1]
    for row in rows.to_dict("records"):
        if row["peer"] not in SHOWN or not (row[column] or 0) > 0:  # also for NaN
            continue
        hollow = {} if row["status"] == "ok" else {"markerfacecolor": STYLE.paper}
        look = {"linestyle": "", "label": row["peer"], **_look(row["peer"]), **hollow}
        ax.plot(row[column], cells.index(row["cell"]), **look)
    if cells:
        _logarithmic(ax, "x")
        ax.set_yticks(range(len(cells)), cells)
        ax.set_ylim(-0.6, len(cells) - 0.4)
    ax.grid(axis="y", color=STYLE.faint, linewidth=0.6)
    if column == "vs_linear":
        ax.axvline(1, color=STYLE.muted, linewidth=0.8, zorder=1)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(label)


def _curves(axes: Any, scaling: pd.DataFrame, curves: list[str]) -> None:
    """Draw the times of each peer over the size that grows."""
    for ax, curve in zip(axes, curves, strict=True):
        part = scaling[(scaling["curve"] == curve) & (scaling["pass"] == BOTH)]
        for peer in SHOWN:
            rows = part[part["peer"] == peer].sort_values("place")
            if len(rows):
                look = {**_look(peer), "markersize": 3.5, "linewidth": 1.0}
                if peer == FLOOR:
                    look |= {"marker": "", "linestyle": "--"}
                ax.plot(rows["place"], rows["ms"], label=peer, **look)
        _logarithmic(ax, "x")
        _logarithmic(ax, "y")
        ax.set_xlabel(AXES[curve])
        places = sorted(set(part["place"]))
        ax.set_xticks(places, [str(place) for place in places])
        ax.tick_params(axis="x", which="minor", length=0)
        ax.set_title(_fixed(curve, part), loc="left")
    axes[0].set_ylabel("forward + backward (ms)")


def _logarithmic(ax: Axes, which: str) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5, or 1 alone where it is long."""
    getattr(ax, f"set_{which}scale")("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    steps = (1.0,) if low <= 0 or high / low > LONG else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _fixed(curve: str, part: pd.DataFrame) -> str:
    """Name the sizes that stay the same along a curve."""
    first = part.iloc[0]
    sizes = {
        "batch": f"{first['in']} to {first['out']}, grid {first['grid']}",
        "width": f"{first['batch']} rows, grid {first['grid']}",
        "grid size": f"{first['batch']} rows, {first['in']} to {first['out']}",
    }
    return sizes[curve]


def _legend(figure: Figure, rows: Sequence[pd.DataFrame]) -> None:
    """Name the peers that are drawn, and the meaning of a hollow point where there is one."""
    drawn = {peer for frame in rows for peer in frame["peer"]}
    names = [name for name in SHOWN if name in drawn]
    looks = [_look(name) for name in names]
    if any((frame["status"] != "ok").any() for frame in rows):
        names.append(HOLLOW)
        hollow = {"color": STYLE.muted, "markerfacecolor": STYLE.paper, "marker": "o"}
        looks.append({**hollow, "markersize": 4.5})
    if names:
        handles = [Line2D([], [], linestyle="", **look) for look in looks]
        columns = (len(names) + 1) // 2
        figure.legend(handles, names, loc="outside upper center", ncols=columns)


def _drawn(frames: Frames) -> Figure:
    return draw(*(frames[name] for name in TABLES))


CAPTION = "Time and memory of one layer against nn.Linear and others."
PICTURES = {"speed": Picture(TABLES, _drawn, CAPTION)}
