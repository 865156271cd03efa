"""Attributions sample by sample: heat maps, dependence on a feature, images."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from kanlens.attribution.result import Attribution
from kanlens.checks import find_place
from kanlens.errors import MethodError, ShapeError, message
from kanlens.plotting.formats import number
from kanlens.plotting.interactions import CALL, DIVERGING, Ranked
from kanlens.plotting.style import (
    STYLE,
    Array,
    axes_for,
    color_bar,
    literal,
    name_rows,
    numbers,
    rows_axes,
    tidy,
    with_unit,
)

GAP = "not explained (gap)"
LONGEST = 32  # characters of a name
MANY = 2000  # points beyond which they are an image inside the vector picture
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
    one_hot = set().union(*result.groups.values())
    for place, i in enumerate(rows.order):
        if samples is not None:
            value = float(samples[row, i])
            said = {0.0: ": no", 1.0: ": yes"}.get(value) if i in one_hot else None
            names[place] += said or f" = {number(value, 4)}"
    gap = float(result.completeness_gap[row])
    if abs(gap) > 1e-3 * max(np.abs(values).sum(), abs(gap + values.sum())):
        names, steps = [*names, GAP], np.append(steps, gap)
    return names, steps, len(rows.order)


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
    look |= {"s": 9, "linewidths": 0, "rasterized": len(samples) > MANY}
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
