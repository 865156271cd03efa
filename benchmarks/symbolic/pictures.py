"""The parts as figures, drawn from their tables and from nothing else."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from benchmarks.drawing import Frames, Picture, look_of
from benchmarks.symbolic.identification import TARGETS
from kanlens.plotting._style import STYLE, context

_ROOM = 0.8  # of the distance between two groups that their bars fill
_NOISES = {  # words and color of each
    0.0: ("no noise", "#0072b2"),
    0.001: ("0.1 % noise", "#5ba3d0"),
    0.01: ("1 % noise", "#a9cfe6"),
}
_ROUNDED: dict[str, Any] = {"marker": "D", "markersize": 3.2, "color": "#d55e00"}
_ACCURATE: dict[str, Any] = {"color": "#1b1b1b", "linewidth": 1.4}
_QUARTERS = [0, 0.25, 0.5, 0.75, 1]
_LEAST = 10  # families shown as found least often


def _draw_recovery(frames: Frames) -> Figure:
    """Draw what was recovered by suite and tier, by method, and after how many seconds."""
    own, peers = frames["symbolic-recovery"], frames["symbolic-peers"].query("source != 'judging'")
    pairs = zip(own["source"], own["tier"], strict=True)
    tiers = own.assign(group=[_suite(*pair) for pair in pairs])
    methods = list(dict.fromkeys(peers["method"]))
    with context():
        figure = Figure(figsize=(STYLE.page, 4.8), layout="constrained")
        parts: Any = figure.subfigures(2, 1)
        top, bottom = parts
        _bars(top.subplots(), tiers, sorted(set(tiers["group"])), "runs of discover")
        left, right = bottom.subplots(1, 2, width_ratios=(1.3, 1))
        _bars(left, peers.assign(group=peers["method"]), methods, "runs, every third equation")
        _times(right, peers[peers["noise"].astype(float) == 0], methods)
        figure.legend(handles=_legend(own), loc="outside upper center", ncols=5)
    return figure


def _suite(source: str, tier: Any) -> str:
    """Name a suite and its tier, where it has one."""
    plain = str(tier).removesuffix(".0") if tier == tier and tier is not None else ""
    return f"{source}, tier {plain}" if plain else source


def _noises(frame: pd.DataFrame) -> list[float]:
    return [noise for noise in _NOISES if noise in set(frame["noise"].astype(float))]


def _legend(frame: pd.DataFrame) -> list[Any]:
    """Return what the bars of every noise, the lines and the points are."""
    words = {noise: f"recovered, {_NOISES[noise][0]}" for noise in _noises(frame)}
    bars = [Patch(color=_NOISES[noise][1], label=words[noise]) for noise in words]
    point = Line2D([], [], linestyle="", label="recovered when rounded", **_ROUNDED)
    return [*bars, point, Line2D([], [], label="R² > 0.999", **_ACCURATE)]


def _bars(ax: Axes, frame: pd.DataFrame, groups: list[str], what: str) -> None:
    """Draw a bar per group and noise: recovered, after rounding, and R2 above 0.999."""
    noises = _noises(frame)
    width = _ROOM / len(noises)
    for place, group in enumerate(groups):
        for index, noise in enumerate(noises):
            known = (frame["group"] == group) & (frame["noise"].astype(float) == noise)
            if known.any():
                at = place + width * (index - (len(noises) - 1) / 2)
                _bar(ax, at, 0.9 * width, frame[known], _NOISES[noise][1])
    ax.set_xticks(range(len(groups)), groups)
    ax.set_xlim(-0.5, len(groups) - 0.5)
    ax.set_ylim(0, 1.06)
    ax.set_yticks(_QUARTERS)
    ax.set_ylabel(f"share of {what}")
    ax.tick_params(axis="x", length=0, pad=11)


def _bar(ax: Axes, at: float, width: float, rows: pd.DataFrame, color: str) -> None:
    """Draw one bar with its count below."""
    recovered, near, accurate = (
        float(rows[name].astype(float).mean()) for name in ("recovered", "rounded", "accurate")
    )
    ax.bar(at, recovered, width, color=color)
    ax.plot([at - width / 2, at + width / 2], [accurate] * 2, **_ACCURATE)
    ax.plot(at, near, linestyle="", **_ROUNDED)
    count = f"{int(rows['recovered'].astype(float).sum())}/{len(rows)}"
    look: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": STYLE.small - 1}
    ax.text(at, -0.03, count, color=STYLE.muted, **look)


def _times(ax: Axes, frame: pd.DataFrame, methods: list[str]) -> None:
    """Draw for every method the share of runs that were recovered after so many seconds."""
    for index, method in enumerate(methods):
        rows = frame[frame["method"] == method]
        found = rows[rows["recovered"].astype(float) == 1]["seconds"].astype(float)
        seconds = np.sort(found.to_numpy())
        share = np.arange(len(seconds) + 1) / max(len(rows), 1)
        x = np.concatenate(([0.01], seconds, [70.0]))
        look = {**look_of(index), "markersize": 3}
        look["markevery"] = list(range(1, len(seconds) + 1))
        ax.plot(x, np.append(share, share[-1]), drawstyle="steps-post", label=method, **look)
    ax.axvline(60, color=STYLE.muted, linewidth=0.6, linestyle=":")
    ax.set_xscale("log")
    ax.set_xlim(0.01, 70)
    ax.set_ylim(-0.03, 1.08)
    ax.set_yticks(_QUARTERS)
    ax.grid(axis="y", color=STYLE.faint, linewidth=0.5)
    ax.set_xticks([0.01, 0.1, 1, 10, 60], ["0.01", "0.1", "1", "10", "60"])
    ax.set_xlabel("seconds, no noise")
    ax.set_ylabel("recovered by then")
    ax.legend(loc="center left", bbox_to_anchor=(0.0, 0.62))


def _draw_identification(frames: Frames) -> Figure:
    """Draw shares of edges found first and among three, and the families found least often."""
    frame = frames["symbolic-identification"]
    with context():
        figure = Figure(figsize=(STYLE.page, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
        for index, (grid, part) in enumerate(frame.groupby("grid_size")):
            _shares(left, part, cast(int, grid), index)
        left.set_ylim(0.8, 1.005)
        left.set_ylabel("share of edges")
        left.set_xlabel("noise of the coefficients (%)")
        left.plot([], [], color=STYLE.muted, linewidth=3, label="promised")
        left.legend(loc="lower left", fontsize=STYLE.small - 0.5)
        hard = frame[(frame["grid_size"] == 5) & (frame["noise"] == frame["noise"].max())]
        counts = hard.groupby("family")[["edges", "first"]].sum()
        share = (counts["first"] / counts["edges"]).sort_values().head(_LEAST)[::-1]
        right.barh(range(len(share)), share, color=STYLE.accent, height=0.7)
        right.set_yticks(range(len(share)), list(share.index))
        right.set_xlim(0, 1)
        right.set_xlabel(f"found first, 5 intervals, {100 * hard['noise'].max():g} % noise")
    return figure


def _shares(ax: Axes, part: pd.DataFrame, grid: int, index: int) -> None:
    """Draw the shares of one grid over the noise, and what is promised as short lines."""
    counts = part.groupby("noise")[["edges", "first", "first_three", "named"]].sum()
    x = [index * 0.06 - 0.03 + place for place in range(len(counts))]
    styles = {"first": "-", "first_three": ":", "named": "--"}
    words = {"first": "first", "first_three": "in the first three", "named": "by its own name"}
    for name, line in styles.items():
        look = {**look_of(index), "linestyle": line, "markersize": 3.5}
        label = f"{grid} intervals, {words[name]}"
        ax.plot(x, counts[name] / counts["edges"], label=label, **look)
    for place, noise in enumerate(counts.index):
        target = TARGETS.get((grid, float(noise)))
        if target is not None:
            at = x[place]
            ax.plot([at - 0.1, at + 0.1], [target] * 2, color=look_of(index)["color"], linewidth=3)
    ax.set_xticks(range(len(counts)), [f"{100 * noise:g}" for noise in counts.index])
    ax.grid(axis="y", color=STYLE.faint, linewidth=0.5)


PICTURES: dict[str, Picture] = {
    "symbolic-recovery": Picture(
        ("symbolic-recovery", "symbolic-peers"),
        _draw_recovery,
        "Known equations found again by tier and noise, by method, and after what time.",
    ),
    "symbolic-identification": Picture(
        ("symbolic-identification",),
        _draw_identification,
        "How often the true function of an edge is named; thick lines: what is promised.",
    ),
}
