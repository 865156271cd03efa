"""Seconds and memory against rows, features, width and grid, drawn from the table of growth."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from benchmarks.drawing import Frames, Picture, look_of, page, plain_ticks
from kanlens.plotting._style import STYLE

PANELS = (
    ("rows", "seconds", "seconds"),
    ("rows", "extra_mib", "peak memory (MiB)"),
    ("features", "seconds", "seconds"),
    ("width", "seconds", "seconds"),
)
UNITS = {"rows": (1000, "thousand rows"), "width": (1, "hidden nodes")}


def _draw(frames: Frames) -> Figure:
    """Draw the median of the repeats of every task, on logarithmic axes."""
    frame = frames["scaling"].dropna(subset=["seconds"])
    tasks = list(dict.fromkeys(frame["task"]))
    lines: dict[Any, Any] = {}  # by their names
    with page(2, 2, 5.4) as (figure, axes):
        for ax, (axis, value, label) in zip(axes.flat, PANELS, strict=True):
            part = frame[frame["axis"] == axis]
            unit, name = UNITS.get(axis, (1, axis))
            middle = part.groupby(["task", part["value"] / unit])[value].median()
            for index, task in enumerate(tasks):
                if task in middle:
                    line = middle[task]
                    ax.plot(line.index, line.clip(lower=1e-3), label=task, **look_of(index))
            ax.set(xscale="log", yscale="log", xlabel=name, ylabel=label)
            plain_ticks(ax.xaxis, sorted(set(part["value"] / unit)))
            ax.grid(axis="y", color=STYLE.faint, linewidth=0.5)
            lines |= {line.get_label(): line for line in ax.lines}
        figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4)
    return figure


PICTURES = {
    "scaling": Picture(
        ("scaling",),
        _draw,
        "Seconds and peak memory of each task as rows, features and hidden nodes grow.",
    )
}
