"""Attributions to pairs of features, and flows through edges."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from kanlens._lazy import optimize
from kanlens.attribution._result import Attribution
from kanlens.errors import InvalidValueError
from kanlens.plotting._formats import MINUS
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
    axes_for,
    color_bar,
    distinct,
    label,
    literal,
    numbers,
    size_in_inches,
)

CALL = "plot.attribution"
SCALED = (-3, 4)  # powers of ten outside of which matplotlib factors one out of the ticks
CELL = 0.36  # inches
ROOM = 1.5  # for names
WRITTEN = 10  # features up to which every cell has its number
MAX_NAME_LENGTH = 24
NOTHING = 1e-12  # of the largest value: rounding, written as 0
DIVERGING = LinearSegmentedColormap.from_list(
    "effects", [STYLE.negative, STYLE.paper, STYLE.positive]
)

GAP = 0.025  # between two nodes of a level, as a share of the height
BAR = 0.016  # width of a node, as a share of the distance of two levels
MIN_FLOW_SHARE = 2e-3  # flows below this share of the largest are not drawn
HIGH, WIDE = 0.27, 1.9  # inches for each node and each layer
LINE = 0.13  # inches between the middles of two names


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranked:
    """Features in decreasing order of size; those beyond `top` are drawn as one row."""

    order: Array  # indices of the features that have a row each
    others: Array  # indices of the features that share the last row
    names: list[str]

    @classmethod
    def of(cls, sizes: Array, features: tuple[str, ...], top: int, *, most: int) -> Ranked:
        """Sort features by sizes (in,); one name stands for those beyond `top`."""
        order, others = np.split(np.argsort(-sizes, kind="stable"), [top])
        names = distinct((features[i] for i in order), partial(literal, most=most))
        names += [f"{len(others)} other{'s' * (len(others) > 1)}"] * (len(others) > 0)
        return cls(order=order, others=others, names=names)

    def columns(self, values: Array) -> Array:
        """Return values (..., in) in this order; those of `others` are added up."""
        shown = values[..., self.order]
        if not len(self.others):
            return shown
        return np.concatenate([shown, values[..., self.others].sum(-1, keepdims=True)], axis=-1)


def draw_interactions(result: Attribution, row: int | None, top: int, ax: Axes | None) -> Axes:
    """Draw the matrix of main effects and interactions of features.

    Over all samples, the mean |value| is drawn; of one sample the value, orange if it raises the
    output and blue if it lowers it. Only pairs are colored; main effects are on gray.
    """
    if result.interactions is None:
        expected, got = "an Attribution with interactions", f"one of method {result.method!r}"
        raise InvalidValueError(CALL, expected, got, "Use {method}", method="interactions")
    values = numbers(result.interactions)
    table = np.abs(values).mean(0) if row is None else values[row]
    order = np.argsort(-np.abs(table).sum(1), kind="stable")[:top]
    table = table[np.ix_(order, order)]
    names = distinct((result.features[i] for i in order), partial(literal, most=MAX_NAME_LENGTH))
    side = CELL * len(names)
    ax = axes_for(ax, (side + ROOM + 0.9, side + ROOM))
    alone = np.eye(len(table), dtype=bool)  # main effects would leave pairs no color
    most = float(np.abs(table[~alone]).max(initial=0.0)) or 1.0
    low, colors = (0.0, STYLE.sequence) if row is None else (-most, DIVERGING)
    shown = np.ma.masked_array(table, alone)
    image = ax.imshow(shown, cmap=colors, vmin=low, vmax=most, aspect="equal")
    ax.set_facecolor(STYLE.faint)
    places = np.arange(len(names))
    ax.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(places, names)
    ax.spines[:].set_visible(False)
    ax.set_xticks(places[:-1] + 0.5, minor=True)
    ax.set_yticks(places[:-1] + 0.5, minor=True)
    ax.tick_params(which="both", length=0)
    ax.grid(which="minor", color=STYLE.paper, linewidth=1.2)
    if len(names) <= WRITTEN:
        _write_cells(ax, table, image)
    what = "mean |interaction|" if row is None else "interaction"
    whose = label(result.target, result.unit, most=MAX_NAME_LENGTH)
    color_bar(ax, image, f"{what} for {whose}")
    return ax


def _write_cells(ax: Axes, table: Array, image: ScalarMappable) -> None:
    """Write the number into every cell, in a contrasting color."""
    most = float(np.abs(table).max())
    least = NOTHING * most
    for (y, x), value in np.ndenumerate(table):
        red, green, blue, _ = image.to_rgba(value)
        dark = x != y and 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        text = _short(value if abs(value) > least else 0.0, most)
        color = STYLE.paper if dark else STYLE.ink
        ax.text(x, y, text, ha="center", va="center", fontsize=STYLE.small - 1.5, color=color)


def _short(value: float, most: float) -> str:
    """Return a number as text, without the power of ten of the color bar."""
    power = math.floor(math.log10(most)) if most > 0 else 0
    if not SCALED[0] <= power < SCALED[1]:
        value, power = value / 10.0**power, 0
    text = f"{value:.2g}"
    if "e" in text:
        text = f"{value:.{max(0, 2 - power)}f}"
    return "0" if float(text) == 0 else text.replace("-", MINUS)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Level:
    """The drawn nodes of a level: lower ends, heights and names."""

    low: Array
    height: Array
    names: list[str]


def draw_flows(result: Attribution, row: int | None, top: int, ax: Axes | None) -> Axes:
    """Draw the flow through every edge as a band as wide as its size.

    Without `row`, it is the mean |flow| over all samples; with `row`, the flow of that sample,
    orange if it raises the output. The height of a node is the larger of its inflow and outflow.
    """
    if result.paths is None or result.owners is None:
        expected, got = "an Attribution with paths", f"one of method {result.method!r}"
        raise InvalidValueError(CALL, expected, got, "Use {method}", method="secant")
    flows = []  # (batch, node, in): what flows into the factors of one product is added up
    for flow, owner in zip(result.paths, result.owners, strict=True):
        member = np.arange(max(owner) + 1)[:, None] == np.asarray(owner)  # (node, out)
        flows.append(np.einsum("no,boi->bni", member.astype(float), numbers(flow)))
    tables = [np.abs(flow).mean(0) if row is None else flow[row] for flow in flows]
    ranked = Ranked.of(np.abs(tables[0]).sum(0), result.features, top, most=MAX_NAME_LENGTH)
    tables[0] = ranked.columns(tables[0])
    tables[-1] = tables[-1][np.abs(tables[-1]).sum(1) > 0] if tables[-1].any() else tables[-1][:1]
    levels = _levels(tables, ranked.names, result)
    most = max(len(level.low) for level in levels)
    ax = axes_for(ax, (WIDE * len(tables) + 1.4, HIGH * most + 0.5), bare=True)
    low = min(float(level.low.min()) for level in levels)
    high = max(float((level.low + level.height).max()) for level in levels)
    ax.set(xlim=(-0.42, len(levels) - 0.7), ylim=(low - GAP, high + GAP))
    ax.set_axis_off()
    for index, table in enumerate(tables):
        _draw_bands(ax, table, levels[index], levels[index + 1], index, signed=row is not None)
    for index, level in enumerate(levels):
        _draw_nodes(ax, level, index, last=len(levels) - 1)
    return ax


def _levels(tables: list[Array], features: list[str], result: Attribution) -> list[_Level]:
    """Stack the nodes of every level, centered; all levels share one scale."""
    sizes = [np.abs(tables[0]).sum(0)]
    for before, after in pairwise(tables):
        sizes.append(np.maximum(np.abs(before).sum(1), np.abs(after).sum(0)))
    sizes.append(np.abs(tables[-1]).sum(1))
    scale = max(float(size.sum()) for size in sizes) or 1.0
    levels = []
    for index, size in enumerate(sizes):
        names = [f"h{index}_{k + 1}" for k in range(len(size))]
        names = features if index == 0 else names
        names = [literal(result.target, most=MAX_NAME_LENGTH)] if index == len(tables) else names
        height = size / scale
        tops = 0.5 + (height.sum() + GAP * (len(height) - 1)) / 2
        low = tops - np.cumsum(height) - GAP * np.arange(len(height))
        levels.append(_Level(low=low, height=height, names=names))
    return levels


def _draw_bands(
    ax: Axes, table: Array, below: _Level, above: _Level, index: int, *, signed: bool
) -> None:
    """Draw one band for every edge (out, in) between two levels."""
    sizes = np.abs(table)
    most = float(sizes.max()) or 1.0
    leaving = below.height / np.where(sizes.sum(0) > 0, sizes.sum(0), 1.0)
    arriving = above.height / np.where(sizes.sum(1) > 0, sizes.sum(1), 1.0)
    start, end = below.low + below.height, above.low + above.height
    for i in range(table.shape[1]):
        for o in range(table.shape[0]):
            out, into = sizes[o, i] * leaving[i], sizes[o, i] * arriving[o]
            start[i], end[o] = start[i] - out, end[o] - into
            if sizes[o, i] < MIN_FLOW_SHARE * most:
                continue
            color = STYLE.muted
            if signed:
                color = STYLE.positive if table[o, i] > 0 else STYLE.negative
            band = _band(index + BAR / 2, index + 1 - BAR / 2, (start[i], out), (end[o], into))
            ax.add_patch(PathPatch(band, facecolor=color, alpha=0.42, linewidth=0))


def _band(x0: float, x1: float, start: tuple[float, float], end: tuple[float, float]) -> Path:
    """Return the outline of a band between two intervals (low, height)."""
    middle = (x0 + x1) / 2
    (y0, h0), (y1, h1) = start, end
    points = [
        (x0, y0), (middle, y0), (middle, y1), (x1, y1),
        (x1, y1 + h1), (middle, y1 + h1), (middle, y0 + h0), (x0, y0 + h0), (x0, y0),
    ]  # fmt: skip
    curve = [Path.CURVE4] * 3
    return Path(points, [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY])


def _draw_nodes(ax: Axes, level: _Level, index: int, *, last: int) -> None:
    inch = np.ptp(ax.get_ylim()) / size_in_inches(ax)[1]
    places = spread_apart(level.low + level.height / 2, LINE * inch)
    for low, height, name, place in zip(level.low, level.height, level.names, places, strict=True):
        box = (index - BAR / 2, low), BAR, max(height, 2e-3)
        ax.add_patch(Rectangle(*box, color=STYLE.ink, linewidth=0))
        side = {0: ("right", -0.03), last: ("left", 0.03)}.get(index, ("left", 0.02))
        style = {} if index in (0, last) else ASIDE
        ax.text(index + side[1], place, name, ha=side[0], va="center", **style)


def spread_apart(places: Array, least: float) -> Array:
    """Return the nearest positions that decrease by at least `least`."""
    steps = least * np.arange(len(places))
    return np.asarray(optimize.isotonic_regression(places + steps, increasing=False).x - steps)
