"""Geometry of a network diagram, in inches: nodes, boxes and names.

Inputs lie at the bottom; boxes are grouped over the node they come from, so that no lines cross.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from kanlens.model._nodes import Grouping
from kanlens.plotting._style import STYLE, Array, Look, distinct, fitted, label, literal, text_width

MAX_ROWS = 4
PITCH = 0.30  # between the centers of boxes in a new figure, smallest wanted
PITCH_GOOD = 0.50
PITCH_MOST = 0.62
PAGE = 7.0
FILL = 0.84  # share of the pitch that the box takes
GAP = 0.45  # between groups, in pitches
FAN = 0.40  # room for the lines below and above the boxes in a new figure, smallest
SLOPE = 0.045  # more room above the boxes, where lines cross: a share of the width
LANE = 0.27  # between the lines of boxes that stand above one another, in box sizes
DROP = 0.26  # from a node that multiplies down to its factors
STEP = 0.2  # between two factors, at most
CROWD = 40  # nodes in a level beyond which they are dots in an even row

SLANT = 40.0  # degrees, of names too long for their place
LINE = 1.25 * STYLE.text / 72  # inches from one line of text to the next
APART = 0.08  # inches between names side by side
MAX_NAME_LENGTH = 40
NODE = 0.09  # inches from a node to its name


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """The curve boxes of one layer."""

    out: Array  # (box,), with in_ the edge in each
    in_: Array
    centers: Array  # (box, 2)
    lanes: Array  # (box,): x at which the line of each enters and leaves the stack of boxes
    ends: tuple[float, float]  # y of the lower and the upper edge of the stack
    size: float  # width and height of every box


@dataclass(frozen=True, kw_only=True, eq=False)
class DiagramLayout:
    """Positions in a diagram; width and height exclude the names."""

    width: float
    height: float
    nodes: tuple[Array, ...]  # (node, 2), from the inputs up; NaN for nodes that are not drawn
    arrivals: tuple[Array, ...]  # (out, 2) of each layer: nodes, or factors of a product
    boxes: tuple[Boxes, ...]


class _Band(NamedTuple):
    """Numbers of columns and rows of the boxes of one layer."""

    rows: int
    columns: Array  # (node,): columns of the group of every node below
    pitch: float


def arrange(
    shown: Sequence[Array],
    edges: Sequence[tuple[Array, Array]],
    *,
    groups: Sequence[Grouping] | None = None,
    width: float | None = None,
    height: float | None = None,
    limits: tuple[float, float] = (3.0, 8.6),
) -> DiagramLayout:
    """Place nodes and boxes so that no two boxes overlap.

    `shown` has a mask (node,) of each level, `edges` the edges with a box (out, in_) of each layer,
    and `groups` its products. Sizes that are None follow from these.
    """
    below = shown[: len(edges)]
    pairs = zip(edges, below, strict=True)
    counts = [np.bincount(in_, minlength=len(level)) for (_, in_), level in pairs]
    if width is None:
        width = float(np.clip(max(map(_needed_width, counts, below)), *limits))
    share = None if height is None else height / len(edges)
    groups = groups or [Grouping(len(level)) for level in shown[1:]]
    drop = DROP if share is None else min(DROP, 0.15 * share)  # of factors below their node
    drops = [drop if group.arities else 0.0 for group in groups]
    bands, heights = list[_Band](), list[float]()
    for count, level, drop in zip(counts, below, drops, strict=True):
        room = None
        if share is not None:
            room = max(share - drop - 2 * FAN - SLOPE * width, 0.5 * (share - drop))
        bands.append(band := _band(count, level, width, room))
        tall = band.rows * band.pitch + 2 * max(FAN, 0.6 * band.pitch) + SLOPE * width
        heights.append(tall + drop if share is None else share)
    levels = np.concatenate([[0.0], np.cumsum(heights)])
    across = map(partial(_across, width), shown, [*bands, None])
    nodes = tuple(
        np.stack([xs, np.full(len(xs), y)], axis=1) for xs, y in zip(across, levels, strict=True)
    )
    boxes = tuple(
        _boxes(edge, band, nodes[index], (levels[index], levels[index + 1] - drops[index]), width)
        for index, (edge, band) in enumerate(zip(edges, bands, strict=True))
    )
    arrivals = tuple(map(partial(_arrivals, width), groups, nodes[1:], drops))
    return DiagramLayout(
        width=width, height=float(levels[-1]), nodes=nodes, arrivals=arrivals, boxes=boxes
    )


def _arrivals(width: float, group: Grouping, nodes: Array, drop: float) -> Array:
    """Return where edges end (out, 2): at their node, or next to the factors of a product."""
    spaces = np.diff(np.sort(nodes[np.isfinite(nodes[:, 0]), 0]))
    slot = float(spaces.min(initial=width))
    places = [nodes[node] for node in range(group.sums)]
    for product, arity in enumerate(group.arities):
        step = min(STEP, 0.75 * slot / arity)
        for factor in range(arity):
            offset = (factor - (arity - 1) / 2) * step
            places.append(nodes[group.sums + product] + np.array([offset, -drop]))
    return np.array(places).reshape(-1, 2)


def _units(count: Array, shown: Array, rows: int) -> float:
    """Return the width of the boxes of a layer and of their gaps, in pitches."""
    if int(shown.sum()) > CROWD:
        return math.ceil(int(count.sum()) / rows) + GAP
    columns = np.maximum(-(-count // rows), 0.5)[shown]
    return max(float(np.sum(columns + GAP)), GAP)


def _needed_width(count: Array, shown: Array) -> float:
    """Return a width for boxes of good size in the fewest rows on a page."""
    units = [_units(count, shown, rows) for rows in range(1, MAX_ROWS + 1)]
    fitting = [width for width in units if width * PITCH <= PAGE]
    return min(fitting[0] * PITCH_GOOD, PAGE) if fitting else units[-1] * PITCH


def _band(count: Array, shown: Array, width: float, room: float | None) -> _Band:
    """Choose the fewest rows with boxes of the wanted size, else the largest boxes."""
    best = _Band(1, count, 0.0)
    for rows in range(1, MAX_ROWS + 1):
        pitch = min(width / _units(count, shown, rows), PITCH_MOST)
        if room is not None:
            pitch = min(pitch, room / rows)
        if pitch > 1.15 * best.pitch:
            best = _Band(rows, -(-count // rows), pitch)
        if best.pitch >= PITCH:
            break
    return best


def _across(width: float, shown: Array, band: _Band | None) -> Array:
    """Return the x of nodes: centers of groups of boxes, or evenly spaced."""
    xs = np.full(len(shown), np.nan)
    n = int(shown.sum())
    if band is None or n > CROWD:
        xs[shown] = (np.arange(n) + 0.5) * width / max(n, 1)
        return xs
    slots = (np.maximum(band.columns, 0.5)[shown] + GAP) * band.pitch
    slots = slots + (width - slots.sum()) / max(n, 1)
    xs[shown] = np.cumsum(slots) - slots / 2
    return xs


def _boxes(
    edge: tuple[Array, Array], band: _Band, below: Array, ends: tuple[float, float], width: float
) -> Boxes:
    """Stack the boxes of each group over its node, column after column."""
    order = np.lexsort((edge[0], edge[1]))
    out, in_ = edge[0][order], edge[1][order]
    if int(np.isfinite(below[:, 0]).sum()) > CROWD:
        place, count = np.arange(len(out)), np.full(len(out), len(out))
        middle = np.full(len(out), width / 2)
    else:
        place = np.arange(len(out)) - np.searchsorted(in_, in_)  # index of each box in its group
        count, middle = np.bincount(in_, minlength=len(below))[in_], below[in_, 0]
    columns = -(-count // band.rows)
    least, extra = np.divmod(count, columns)  # the first `extra` columns hold one box more
    tall = extra * (least + 1)
    first, lower = place < tall, np.maximum(least, 1)
    column = np.where(first, place // (least + 1), extra + (place - tall) // lower)
    row = np.where(first, place % (least + 1), (place - tall) % lower)
    stack = np.where(first, least + 1, least)
    x = middle + (column - (columns - 1) / 2) * band.pitch
    offset = (stack - 1) / 2 - row  # of each box from the middle of its stack
    size, height = FILL * band.pitch, ends[1] - ends[0]
    center = (ends[0] + ends[1] - min(SLOPE * width, 0.15 * height)) / 2
    reach = ((band.rows - 1) * band.pitch + size) / 2
    return Boxes(
        out=out,
        in_=in_,
        centers=np.stack([x, center + offset * band.pitch], axis=1),
        lanes=x + offset * LANE * size,
        ends=(center - reach, center + reach),
        size=size,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """Names of one level of nodes, with their positions."""

    x: Array  # (name,)
    nodes: Array  # (name,): which node each belongs to
    texts: list[str]  # without markup
    angle: float  # 0, 40 or 90 degrees
    side: int  # -1 below the nodes, 1 above them
    height: float  # room they take below or above
    overhang: float  # how far they reach beyond the diagram at its sides

    @property
    def overhangs(self) -> tuple[float, float]:
        """Inches beyond the left and the right end of the diagram."""
        if self.angle != SLANT:
            return self.overhang, self.overhang
        return (self.overhang, 0.0) if self.side < 0 else (0.0, self.overhang)

    def draw(self, ax: Axes, y: float, muted: Array) -> None:
        """Write names next to nodes at height `y`; those in `muted` (node,) are pale."""
        below = self.side < 0
        look: Look = {"ha": "center", "va": "top" if below else "bottom", "zorder": 6}
        if self.angle:
            look |= {"rotation": self.angle, "rotation_mode": "anchor"}
            look["ha"] = "right" if below else "left"
        if self.angle > 80:
            look["va"] = "center"
        for x, node, text in zip(self.x, self.nodes, self.texts, strict=True):
            color = STYLE.muted if muted[node] else STYLE.ink
            ax.text(x, y + self.side * NODE, text, color=color, **look)


def place_labels(
    x: Array,
    names: list[tuple[str, str]],
    strength: Array,
    *,
    width: float,
    side: int,
    room: float | None = None,
) -> Labels:
    """Choose names that fit along a level, and rotate wide ones.

    `x` (node,) increases; `names` are (name, unit). Without room for all, the strongest nodes are
    named. Names higher than `room` lose their unit, then their middle.
    """
    picks = with_room(x, strength)
    at, full = x[picks], [label(*names[i]) for i in picks]
    short = distinct((names[i][0] for i in picks), partial(literal, most=MAX_NAME_LENGTH))
    both = zip(full, short, strict=True)
    texts = [text if len(text) <= MAX_NAME_LENGTH else less for text, less in both]
    widths = np.array([text_width(text, STYLE.text) for text in texts])
    angle = _angle(at, widths, width, side)
    rise = math.sin(math.radians(angle))
    longest = max(0.3, (room - 0.2) / rise) if angle and room is not None else math.inf
    if widths.max(initial=0.0) > longest:
        fit = partial(fitted, width=longest, size=STYLE.text)
        short = distinct((names[i][0] for i in picks), fit)
        pairs = zip(texts, widths, short, strict=True)
        texts = [text if wide <= longest else less for text, wide, less in pairs]
        widths = np.array([text_width(text, STYLE.text) for text in texts])
    return Labels(
        x=at,
        nodes=picks,
        texts=texts,
        angle=angle,
        side=side,
        height=0.2 + float(widths.max()) * rise if angle else 0.24,
        overhang=_overhang(at, widths, width, side, angle),
    )


def _angle(x: Array, widths: Array, width: float, side: int) -> float:
    spaces = np.diff(x)
    if not (spaces - (widths[1:] + widths[:-1]) / 2 < APART).any():
        return 0.0
    tight = spaces.min() * math.sin(math.radians(SLANT)) < LINE
    return 90.0 if tight or _overhang(x, widths, width, side, SLANT) > 0.2 * width else SLANT


def _overhang(x: Array, widths: Array, width: float, side: int, angle: float) -> float:
    if angle == SLANT:
        reach = widths * math.cos(math.radians(SLANT))
        return max(0.0, float((reach - (x if side < 0 else width - x)).max()))
    reach = widths / 2 if not angle else np.full(len(x), LINE / 2)
    return max(0.0, float((reach - np.minimum(x, width - x)).max()))


def with_room(x: Array, strength: Array) -> Array:
    """Return the indices of the nodes whose names do not collide."""
    if len(x) < 2 or float(np.diff(x).min()) >= LINE:
        return np.arange(len(x))
    picks: list[int] = []
    for i in np.argsort(-strength, kind="stable"):
        if all(abs(x[i] - x[j]) >= 2.5 * LINE for j in picks):
            picks.append(int(i))
    return np.array(sorted(picks))
