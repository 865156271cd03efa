"""Attributions sample by sample: forces, decisions, heat maps, dependence on a feature, images."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.patches import Polygon

from kanlens.attribution.result import Attribution
from kanlens.checks import find_place
from kanlens.errors import MethodError, ShapeError, message
from kanlens.plotting.formats import number
from kanlens.plotting.interactions import CALL, DIVERGING, Ranked, spread_apart
from kanlens.plotting.style import (
    STYLE,
    Array,
    axes_for,
    color_bar,
    literal,
    name_rows,
    numbers,
    rows_axes,
    size_in_inches,
    tidy,
    with_unit,
)

GAP = "not explained (gap)"
LONGEST = 32  # characters of a name
FORCES = 9  # arrows of one sample, at most
PATHS = 500  # of samples, at most
CLUSTERED = 2000  # samples that are put in order by what they are like, at most
BRIGHT = 1.15  # the value of the brightest color, which nothing reaches: it is hard to see on white
BINS = 10  # of a feature, within which others are looked at
DASHED: Any = {"color": STYLE.ink, "linewidth": 0.7, "linestyle": (0, (2, 2)), "zorder": 1}


def ranked(sizes: Array, features: tuple[str, ...], top: int) -> Ranked:
    """Put features in order of size; beyond `top`, the last row stands for the rest."""
    kept = len(sizes) if len(sizes) <= top else max(top - 1, 1)
    return Ranked.of(sizes, features, kept, most=LONGEST)


def evenly(count: int, most: int) -> Array:
    """Return places of at most so many samples, evenly taken from all."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)


def contribution(result: Attribution) -> str:
    """Say what the values are of, and their unit."""
    whole = f"contribution to {with_unit(result.target, result.unit)}"
    return whole if result.shares else f"value for {literal(result.target)}"


def steps_of(
    result: Attribution, samples: Array | None, row: int, top: int
) -> tuple[list[str], Array, int]:
    """Return names and values of a sample's features, others and gap, and how many features."""
    values = numbers(result.values)[row]
    rows = ranked(np.abs(values), result.features, top)
    names, steps = list(rows.names), rows.columns(values)
    one_hot = {
        i
        for column, indices in result.groups.items()
        for i in indices
        if result.features[i].startswith(f"{column}=")
    }
    for place, i in enumerate(rows.order):
        if samples is not None:
            value = float(samples[row, i])
            said = {0.0: ": no", 1.0: ": yes"}.get(value) if i in one_hot else None
            names[place] += said or f" = {number(value, 4)}"
    gap = float(result.completeness_gap[row])
    if abs(gap) > 1e-3 * max(np.abs(values).sum(), abs(gap + values.sum())):
        names, steps = [*names, GAP], np.append(steps, gap)
    return names, steps, len(rows.order)


def draw_force(
    result: Attribution, samples: Array | None, row: Any, top: int, ax: Axes | None
) -> Axes:
    """Draw what raises an output and what lowers it as arrows that meet at the output."""
    names, steps, _ = steps_of(result, samples, row, min(top, FORCES))
    start, end = float(result.reference[row]), float(result.output[row])
    ends: dict[int, Array] = {}  # tip and tail of every arrow, the largest next to the output
    for sign in (1, -1):
        mine = [k for k in np.argsort(-np.abs(steps), kind="stable") if steps[k] * sign > 0]
        joints = end - np.cumsum([0.0, *steps[mine]])
        ends |= {k: joints[place : place + 2] for place, k in enumerate(mine)}
    known = np.array([start, end, *np.ravel(list(ends.values()))])
    span = float(np.ptp(known)) or 1.0
    ax = axes_for(ax, (STYLE.page, 1.9))
    ax.set(xlim=(known.min() - 0.04 * span, known.max() + 0.04 * span), ylim=(-1.7, 1.75))
    order = sorted(ends, key=lambda k: -ends[k].sum())
    middles = np.array([ends[k].mean() for k in order])
    places = spread_apart(middles, 0.2 * 1.08 * span / size_in_inches(ax)[0])
    turned: Any = {"rotation": 30, "rotation_mode": "anchor", "ha": "right", "va": "top"}
    for k, middle, place in zip(order, middles, places, strict=True):
        color = STYLE.positive if steps[k] > 0 else STYLE.negative
        (tip, tail), push = ends[k], math.copysign(0.012 * span, steps[k])
        x = [tail - push, tip - push, tip, tip - push, tail - push, tail]
        look: Any = {"facecolor": STYLE.muted if names[k] == GAP else color, "linewidth": 0.8}
        arrow = np.stack([x, [0, 0, 0.5, 1, 1, 0.5]], 1)
        ax.add_patch(Polygon(arrow, edgecolor=STYLE.paper, zorder=2, **look))
        ax.plot([middle, middle, place], [0, -0.12, -0.35], color=STYLE.muted, linewidth=0.5)
        ax.text(place, -0.38, names[k], fontsize=STYLE.small, **turned)
    for value, word, height in ((start, "reference", 1.1), (end, "output", 1.4)):
        ax.plot([value, value], [0, height], **DASHED)
        text = f"{word} {number(value, 4)}"
        ax.text(value, height, text, ha="center", va="bottom", fontsize=STYLE.small)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.spines["top"].set_visible(True)
    ax.xaxis.set(ticks_position="top", label_position="top")
    ax.set(yticks=[], xlabel=with_unit(result.target, result.unit))
    return ax


def draw_decision(result: Attribution, row: int | None, top: int, ax: Axes | None) -> Axes:
    """Draw how every sample gets from the reference to its output, feature by feature upwards."""
    values = numbers(result.values)
    rows = ranked(np.abs(values).mean(0), result.features, top)
    picks = np.union1d(evenly(len(values), PATHS), [] if row is None else [row]).astype(int)
    steps = [numbers(result.reference)[picks, None], rows.columns(values[picks])[:, ::-1]]
    x = np.concatenate(steps, 1).cumsum(1)  # the least important feature first
    y = np.arange(len(rows.names), -1, -1) - 0.5
    ax = rows_axes(ax, len(rows.names), 1.5)
    low, span = x[:, -1].min(), float(np.ptp(x[:, -1])) or 1.0
    look: Any = {"cmap": STYLE.sequence, "norm": Normalize(low, low + BRIGHT * span)}
    look |= {"linewidths": 0.7, "alpha": 0.7, "rasterized": len(x) > PATHS // 5, "label": "_paths"}
    ax.add_collection(LineCollection([*np.stack([x, 0 * x + y], 2)], array=x[:, -1], **look))
    ax.axvline(float(x[:, 0].mean()), color=STYLE.muted, linewidth=0.6, zorder=1)
    if row is not None:
        ax.plot(*(x[picks == row][0], y), "--", color=STYLE.ink, label=f"sample {row}")
        ax.legend(loc="lower right")
    ax.margins(x=0.03)
    ax.autoscale_view(scaley=False)
    name_rows(ax, rows.names, others=len(rows.others) > 0)
    ax.set_xlabel(with_unit(result.target, result.unit))
    return ax


def draw_heatmap(result: Attribution, order: str, top: int, ax: Axes | None) -> Axes:
    """Draw all values as colors: features in rows, samples in columns, their outputs above."""
    values, output = numbers(result.values), numbers(result.output)
    picks, words = np.argsort(output, kind="stable"), "in order of output"
    if order == "cluster" and len(values) > 1:
        from scipy.cluster.hierarchy import leaves_list, linkage

        picks, words = evenly(len(values), CLUSTERED), "clustered by values"
        picks = picks[leaves_list(linkage(values[picks], "ward"))]
    rows = ranked(np.abs(values).mean(0), result.features, top)
    table = rows.columns(values[picks]).T
    ax = rows_axes(ax, len(rows.names) + 3, 1.5)
    most = float(np.quantile(np.abs(table), 0.999)) or 1.0  # one value does not bleach the rest
    look: Any = {"cmap": DIVERGING, "vmin": -most, "vmax": most, "interpolation": "nearest"}
    color_bar(ax, ax.imshow(table, aspect="auto", **look), contribution(result))
    ax.set_ylim(len(table) - 0.5, -0.5)
    name_rows(ax, rows.names, others=len(rows.others) > 0)
    ax.set_xlabel(f"{len(picks):,} samples, {words}")
    above = ax.inset_axes((0, 1.03, 1, 0.22), label="_output")
    tidy(above)
    above.plot(output[picks], color=STYLE.ink, linewidth=0.8)
    above.set(xlim=(-0.5, len(picks) - 0.5), xticks=[], ylabel="output")
    return ax


def draw_dependence(
    result: Attribution, samples: Array | None, feature: Any, other: Any, ax: Axes | None
) -> Axes:
    """Draw a feature's values against it, in colors of the feature that it interacts with most."""
    if samples is None:
        raise MethodError(message(CALL, "samples beside the values", "none", "Pass x=..."))
    expected = f"feature, a name or an index below {len(result.features)}"
    find = partial(find_place, CALL, expected, names=result.features, advice="Name one")
    i, values = find(feature), numbers(result.values)
    j = strongest_partner(result, samples, i) if other is None else find(other)
    ax = axes_for(ax, (STYLE.column, 0.75 * STYLE.column))
    low, high = np.quantile(samples[:, j], [0.02, 0.98])
    norm = Normalize(low, low + BRIGHT * (high - low or 1.0))
    look: Any = {"c": samples[:, j], "cmap": STYLE.sequence, "norm": norm, "label": "_samples"}
    look |= {"s": 9, "linewidths": 0, "rasterized": len(samples) > 4 * PATHS}
    ax.axhline(0, color=STYLE.faint, linewidth=0.6, zorder=0.8)
    points = ax.scatter(samples[:, i], values[:, i], **look)
    bar = color_bar(ax, points, literal(result.features[j], most=LONGEST))
    bar.ax.set_ylim(low, high if high > low else None)
    ax.set(xlabel=literal(result.features[i], most=LONGEST), ylabel=contribution(result))
    return ax


def strongest_partner(result: Attribution, samples: Array, i: int) -> int:
    """Return the feature that another one interacts with most, as `plot.attribution` says."""
    if result.interactions is not None:
        sizes = np.abs(numbers(result.interactions)[:, i]).mean(0)
    else:
        sizes, widths = np.zeros(samples.shape[1]), samples.std(0)
        parts = np.array_split(np.argsort(samples[:, i], kind="stable"), BINS)
        for part in parts[: len(samples)]:
            moved, beside = numbers(result.values)[part, i], samples[part]
            both = (moved - moved.mean()) @ (beside - beside.mean(0))
            sizes += np.abs(both) / np.where(widths > 0, widths, np.inf)
    return int(np.where(np.arange(len(sizes)) == i, -1.0, sizes).argmax())


def draw_image(
    result: Attribution, samples: Array | None, row: int | None, shape: Any, ax: Axes | None
) -> Axes:
    """Draw the values of pixels beside these, of one sample or the mean sizes over all."""
    pixels = result.values.shape[1]
    channels = (shape or ())[2:] in ((), (1,), (3,))
    if shape is None or len(shape) < 2 or not channels or math.prod(shape) != pixels:
        expected = f"shape (height, width) or (height, width, 3) of {pixels} features"
        raise ShapeError(message(CALL, expected, repr(shape), "Pass shape=..."))
    values = numbers(result.values).reshape(-1, *shape[:2], math.prod(shape[2:])).sum(-1)
    table = np.abs(values).mean(0) if row is None else values[row]
    ax = axes_for(ax, (1.4 * STYLE.column, 0.7 * STYLE.column * shape[0] / shape[1]), bare=True)
    ax.set_axis_off()
    left, right = (ax.inset_axes((at, 0.02, 0.42, 0.86)) for at in (0.0, 0.45))
    if samples is not None:
        shown = (samples - samples.min()) / (np.ptp(samples) or 1.0)  # channels are from 0 to 1
        shown = (shown.mean(0) if row is None else shown[row]).reshape(shape)
        left.imshow(shown, cmap="Greys_r", vmin=0.0, vmax=1.0)
    most = float(np.abs(table).max()) or 1.0
    look: Any = {"cmap": STYLE.sequence, "vmin": 0.0} if row is None else {"cmap": DIVERGING}
    image = right.imshow(table, **{"vmin": -most, "vmax": most} | look)
    for panel, words in ((left, "mean sample"), (right, "mean |value|")):
        panel.set(xticks=[], yticks=[])
        panel.set_title(words if row is None else words.removeprefix("mean ").strip("|"))
    color_bar(ax, image, contribution(result), key=right.inset_axes((1.04, 0.0, 0.05, 1.0)))
    return ax
