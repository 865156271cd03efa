"""Attributions sample by sample: forces, decisions, heat maps, dependence on a feature, images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Polygon

from kanlens.attribution.result import Attribution
from kanlens.checks import find_place, message
from kanlens.errors import MethodError, ShapeError
from kanlens.plotting.formats import number
from kanlens.plotting.interactions import DIVERGING, Ranked, spread_apart
from kanlens.plotting.style import (
    ASIDE,
    STYLE,
    Array,
    axes_for,
    color_bar,
    in_unit,
    literal,
    name_rows,
    numbers,
    rows_axes,
    size_in_inches,
    tidy,
)

CALL = "plot.attribution"
GAP = "not explained (gap)"
LONGEST = 32  # characters of a name
FORCES = 9  # arrows of one sample that have a name
PATHS = 500  # of samples, drawn at most
CLUSTERED = 2000  # samples that are put in order by what they are like, at most
BRIGHT = 1.15  # the value of the brightest color, which nothing reaches: it is hard to see on white
BINS = 10  # of a feature, within which others are looked at
TIP = 0.012  # of an arrow, as a share of the width


def ranked(sizes: Array, features: tuple[str, ...], top: int) -> Ranked:
    """Put features in order of size; beyond `top`, the last row stands for the rest."""
    kept = len(sizes) if len(sizes) <= top else max(top - 1, 1)
    return Ranked.of(sizes, features, kept, most=LONGEST)


def contribution(result: Attribution) -> str:
    """Say what the values are of, and their unit."""
    target = f"{literal(result.target)}{in_unit(result.unit)}"
    return f"contribution to {target}" if result.shares else f"value for {literal(result.target)}"


def steps_of(
    result: Attribution, samples: Array | None, row: int, top: int
) -> tuple[list[str], Array, int]:
    """Return names and values of a sample's features, the largest first, and how many these are.

    Behind them come those put together, and what is not explained.
    """
    values = numbers(result.values)[row]
    rows = ranked(np.abs(values), result.features, top)
    names, steps = list(rows.names), rows.columns(values)
    if samples is not None:
        for place, i in enumerate(rows.order):
            names[place] += f" = {number(float(samples[row, i]), 4)}"
    gap, change = (float(one[row]) for one in (result.completeness_gap, result.output))
    if abs(gap) > 1e-3 * max(
        float(np.abs(values).sum()), abs(change - float(result.reference[row]))
    ):
        names, steps = [*names, GAP], np.append(steps, gap)
    return names, steps, len(rows.order)


def draw_force(
    result: Attribution, samples: Array | None, row: Any, top: int, ax: Axes | None
) -> Axes:
    """Draw what raises an output and what lowers it as arrows that meet at the output."""
    names, steps, _ = steps_of(result, samples, row, min(top, FORCES))
    start, end = float(result.reference[row]), float(result.output[row])
    ax = axes_for(ax, (STYLE.page, 1.7))
    tidy(ax)
    edges: dict[int, Array] = {}  # of every arrow, the largest next to the output
    for sign in (1, -1):
        mine = [k for k in np.argsort(-np.abs(steps), kind="stable") if steps[k] * sign > 0]
        ends = end - np.cumsum([0.0, *steps[mine]])
        edges |= {k: ends[place : place + 2] for place, k in enumerate(mine)}
    low, high = (pick([start, end, *np.ravel(list(edges.values()))]) for pick in (min, max))
    span = (high - low) or 1.0
    ax.set(xlim=(low - 0.04 * span, high + 0.04 * span), ylim=(-1.6, 1.75))
    for k, (tip, tail) in edges.items():
        color = STYLE.positive if steps[k] > 0 else STYLE.negative
        color = STYLE.muted if names[k] == GAP else color
        push = math.copysign(TIP * span, steps[k])
        x = [tail - push, tip - push, tip, tip - push, tail - push, tail]
        points = np.stack([x, [0, 0, 0.5, 1, 1, 0.5]], 1)
        ax.add_patch(Polygon(points, facecolor=color, edgecolor=STYLE.paper, linewidth=0.8))
    order = sorted(edges, key=lambda k: -edges[k].sum())
    middles = np.array([edges[k].mean() for k in order])
    inch = 1.08 * span / size_in_inches(ax)[0]
    for k, middle, place in zip(order, middles, spread_apart(middles, 0.2 * inch), strict=True):
        ax.plot([middle, middle, place], [0, -0.12, -0.35], color=STYLE.muted, linewidth=0.5)
        look: Any = {"rotation": 30, "rotation_mode": "anchor", "ha": "right", "va": "top"}
        ax.text(place, -0.38, names[k], fontsize=STYLE.small, **look)
    for value, word, height in ((start, "reference", 1.12), (end, "output", 1.45)):
        ax.plot([value, value], [0, height], color=STYLE.ink, linewidth=0.7, linestyle=(0, (2, 2)))
        text = f"{word} {number(value, 4)}"
        ax.text(value, height, text, ha="center", va="bottom", fontsize=STYLE.small)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    ax.xaxis.set_ticks_position("top")
    ax.spines["bottom"].set_visible(False)
    ax.xaxis.set_visible(False)
    ax.set_title(f"{literal(result.target)}{in_unit(result.unit)}", fontsize=STYLE.text)
    return ax


def draw_decision(result: Attribution, row: int | None, top: int, ax: Axes | None) -> Axes:
    """Draw how every sample gets from the reference to its output, feature by feature upwards."""
    values = numbers(result.values)
    rows = ranked(np.abs(values).mean(0), result.features, top)
    picks = np.linspace(0, len(values) - 1, min(len(values), PATHS)).round().astype(int)
    picks = np.unique(picks if row is None else [*picks, row])
    start = numbers(result.reference)[picks, None]
    steps = rows.columns(values[picks])[:, ::-1]  # the least important first
    x = np.concatenate([start, start + steps.cumsum(1)], 1)
    y = np.arange(len(rows.names), -1, -1) - 0.5
    ax = rows_axes(ax, len(rows.names), 1.5)
    color = Normalize(x[:, -1].min(), x[:, -1].min() + BRIGHT * (np.ptp(x[:, -1]) or 1.0))
    paths = [np.stack([one, y], 1) for one in x]
    look: Any = {"linewidths": 0.7, "alpha": 0.7, "zorder": 2, "rasterized": len(paths) > 100}
    lines = LineCollection(paths, array=x[:, -1], cmap=STYLE.sequence, norm=color, **look)
    lines.set_label("_paths")
    ax.add_collection(lines)
    ax.axvline(float(start.mean()), color=STYLE.muted, linewidth=0.6, zorder=1)
    if row is not None:
        mine = int(np.flatnonzero(picks == row)[0])
        ax.plot(x[mine], y, color=STYLE.ink, linewidth=1.6, linestyle="--", label=f"sample {row}")
        ax.legend(loc="lower right")
    ax.set_xlim(x.min() - 0.03 * np.ptp(x), x.max() + 0.03 * np.ptp(x))
    name_rows(ax, rows.names, others=len(rows.others) > 0)
    ax.set_xlabel(f"{literal(result.target)}{in_unit(result.unit)}")
    if len(picks) < len(values):
        note = f"{len(picks):,} of {len(values):,} samples"
        ax.set_title(note, loc="right", **ASIDE)
    return ax


def draw_heatmap(result: Attribution, order: str, top: int, ax: Axes | None) -> Axes:
    """Draw all values as colors: features in rows, samples in columns, their output above."""
    values, output = numbers(result.values), numbers(result.output)
    picks = np.argsort(output, kind="stable")
    if order == "cluster":
        from scipy.cluster.hierarchy import leaves_list, linkage

        picks = np.linspace(0, len(values) - 1, min(len(values), CLUSTERED)).round().astype(int)
        tree = linkage(values[picks], "ward", optimal_ordering=len(picks) <= BINS * PATHS // 10)
        picks = picks[leaves_list(tree)] if len(picks) > 1 else picks
    rows = ranked(np.abs(values).mean(0), result.features, top)
    table = rows.columns(values[picks]).T
    ax = rows_axes(ax, len(rows.names) + 3, 1.5)
    most = float(np.quantile(np.abs(table), 0.999)) or 1.0
    look: Any = {"cmap": DIVERGING, "vmin": -most, "vmax": most, "interpolation": "nearest"}
    image = ax.imshow(table, aspect="auto", **look)
    ax.set_ylim(len(table) - 0.5, -0.5)
    name_rows(ax, rows.names, others=len(rows.others) > 0)
    color_bar(ax, image, contribution(result))
    what = "what they are like" if order == "cluster" else "output"
    ax.set_xlabel(f"samples, in order of {what}")
    above = ax.inset_axes((0, 1.03, 1, 0.22), label="_output")
    tidy(above)
    above.plot(output[picks], color=STYLE.ink, linewidth=0.8)
    if result.shares:
        above.axhline(float(result.reference.mean()), color=STYLE.muted, linewidth=0.5)
    above.set(xlim=(-0.5, len(picks) - 0.5), xticks=[])
    above.set_ylabel("output", fontsize=STYLE.small)
    return ax


def draw_dependence(
    result: Attribution, samples: Array | None, feature: Any, other: Any, ax: Axes | None
) -> Axes:
    """Draw a feature's values against it, in colors of the feature that it interacts with most."""
    if samples is None:
        expected, got = "samples to draw the values against", "none in the result"
        raise MethodError(message(CALL, expected, got, "Pass x=..., the samples"))
    expected = f"feature, a name or an index below {len(result.features)}"
    places = [
        find_place(CALL, expected, one, result.features, "Name one")
        for one in (feature, other)[: 1 if other is None else 2]
    ]
    i, values = places[0], numbers(result.values)
    j = places[1] if other is not None else strongest_partner(result, samples, i)
    ax = axes_for(ax, (STYLE.column, 0.75 * STYLE.column))
    tidy(ax)
    look: Any = {"s": 9, "linewidths": 0, "zorder": 2, "rasterized": len(values) > PATHS}
    ends = np.quantile(samples[:, j], [0.02, 0.98])
    norm = Normalize(ends[0], ends[0] + BRIGHT * (np.ptp(ends) or 1.0))
    look |= {"c": samples[:, j], "cmap": STYLE.sequence, "norm": norm}
    points = ax.scatter(samples[:, i], values[:, i], label="_samples", **look)
    ax.axhline(0, color=STYLE.faint, linewidth=0.6, zorder=0.8)
    bar = color_bar(ax, points, literal(result.features[j], most=LONGEST))
    bar.ax.set_ylim(*ends) if np.ptp(ends) else None
    ax.set_xlabel(literal(result.features[i], most=LONGEST))
    ax.set_ylabel(contribution(result))
    return ax


def strongest_partner(result: Attribution, samples: Array, i: int) -> int:
    """Return the feature that another one interacts with most.

    By the mean size of its interactions where they are known. Else by an estimate: within tenths
    of the feature's range, the covariance of what its values do beside their mean with the other
    feature, in units of that one's deviation.
    """
    if result.interactions is not None:
        sizes = np.abs(numbers(result.interactions)[:, i]).mean(0)
    else:
        sizes, widths = np.zeros(samples.shape[1]), samples.std(0)
        parts = np.array_split(np.argsort(samples[:, i], kind="stable"), min(BINS, len(samples)))
        for part in parts:
            moved = numbers(result.values)[part, i]
            beside = samples[part] - samples[part].mean(0)
            sizes += np.abs((moved - moved.mean()) @ beside) / np.where(widths > 0, widths, np.inf)
    sizes[i] = -1.0
    return int(sizes.argmax())


def draw_image(
    result: Attribution, samples: Array | None, row: int | None, shape: Any, ax: Axes | None
) -> Axes:
    """Draw the values of pixels beside these, of one sample or the mean sizes over all."""
    pixels = result.values.shape[1]
    if shape is None or len(shape) not in (2, 3) or math.prod(shape) != pixels:
        expected = f"shape, (height, width) or (height, width, channel) of {pixels} features"
        raise ShapeError(message(CALL, expected, repr(shape), "Pass shape=..."))
    values = numbers(result.values).reshape(-1, *shape[:2], pixels // (shape[0] * shape[1])).sum(-1)
    table = np.abs(values).mean(0) if row is None else values[row]
    ax = axes_for(ax, (STYLE.column, 0.5 * STYLE.column * shape[0] / shape[1] + 0.3), bare=True)
    ax.set_axis_off()
    left, right = (ax.inset_axes((at, 0.02, 0.42, 0.84)) for at in (0.0, 0.46))
    for panel in (left, right):
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_linewidth(0.4)
    if samples is not None:
        shown = samples.mean(0) if row is None else samples[row]
        shown = (shown - samples.min()) / (np.ptp(samples) or 1.0)  # a channel is from 0 to 1
        left.imshow(shown.reshape(shape), cmap="Greys_r", vmin=0.0, vmax=1.0)
    most = float(np.abs(table).max()) or 1.0
    low, colors = (0.0, STYLE.sequence) if row is None else (-most, DIVERGING)
    image = right.imshow(table, cmap=colors, vmin=low, vmax=most)
    what = "mean of the samples" if row is None else f"sample {row}"
    left.set_title(what, fontsize=STYLE.small)
    right.set_title("mean |value|" if row is None else "value", fontsize=STYLE.small)
    key = right.inset_axes((1.04, 0.0, 0.05, 1.0))
    color_bar(ax, image, contribution(result), key=key)
    return ax
