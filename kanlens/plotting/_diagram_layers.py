"""Layers of a network diagram: lines, boxes, sums and products."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb

from kanlens.model._network import KAN
from kanlens.model._terms import SPLINE
from kanlens.model._trace import Trace, edge_curves, layer_statistics
from kanlens.plotting._layout import CROWD, Boxes, DiagramLayout
from kanlens.plotting._style import STYLE, Array, Look

FLAT = 0.03  # a curve of less than this share of the layer's largest range is not blown up
MAX_BOXES = 100  # in a layer; beyond, the strongest `SHOWN_BOXES` get a box
SHOWN_BOXES = 60
MAX_LINES = 3000  # edges of a layer drawn without a box, the strongest
RASTERIZE_FROM = 1500  # lines beyond which they are one image inside the vector picture


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCurves:
    """The edges of one layer of a diagram."""

    index: int
    strength: Array  # (out, in): of every edge, 0 where it is masked
    symbolic: Array  # (out, in): whether it is a named function
    out: Array  # (box,), with in_ the edges drawn with their curve, strongest first
    in_: Array
    rest_out: Array  # (line,), with rest_in the nonzero edges drawn as lines only
    rest_in: Array
    y: Array  # (box, point): the curves, evenly over their ranges

    @property
    def relative(self) -> Array:
        """Strength relative to the strongest edge of the layer, shape (out, in)."""
        largest = self.strength.max(initial=0)
        return self.strength / largest if largest > 0 else np.zeros_like(self.strength)

    def unit_curves(self) -> Array:
        """Return the curves scaled into the unit square, shape (box, point, 2)."""
        if not self.y.size:
            return np.zeros((*self.y.shape, 2))
        y = np.where(np.isfinite(self.y), self.y, np.nan)
        low, high = (np.nan_to_num(end.reduce(y, axis=1)) for end in (np.fmin, np.fmax))
        reach = np.maximum(high - low, FLAT * (high - low).max())
        scale = np.where(reach > 0, reach, 1.0)
        y = 0.5 + (y - ((low + high) / 2)[:, None]) / scale[:, None]
        x = np.broadcast_to(np.linspace(0, 1, self.y.shape[1]), y.shape)
        return np.stack([x, y], axis=2)


def layer_curves(
    model: KAN, record: Trace | None, scores: list[Array] | None, top: int | None
) -> list[LayerCurves]:
    """Sort edges by `scores` (out, in), else by standard deviation; sample the first `top`."""
    layers = []
    for index, statistics in enumerate(layer_statistics(model, record)):
        layer = model.layers[index]
        nonzero = (layer.mask != 0).cpu().numpy()
        size = statistics.edge_std.double().numpy() if scores is None else scores[index]
        strength = np.where(nonzero, size, 0.0)
        order = np.argsort(np.where(nonzero, -strength, np.inf), axis=None, kind="stable")
        out, in_ = np.unravel_index(order[: int(nonzero.sum())], nonzero.shape)
        most = top if top is not None else len(out) if len(out) <= MAX_BOXES else SHOWN_BOXES
        low, high = (end.to(layer.mask) for end in (statistics.input_low, statistics.input_high))
        middle, width = (low + high) / 2, torch.where(high > low, high - low, 1.0)
        picks = torch.as_tensor(out[:most]), torch.as_tensor(in_[:most])
        layers.append(
            LayerCurves(
                index=index,
                strength=strength,
                symbolic=np.array(layer.functions) != SPLINE,
                out=out[:most],
                in_=in_[:most],
                rest_out=out[most:],
                rest_in=in_[most:],
                y=edge_curves(layer, middle - width / 2, middle + width / 2, *picks).numpy(),
            )
        )
    return layers


def draw_layers(
    ax: Axes, model: KAN, curves: list[LayerCurves], layout: DiagramLayout, unused: list[Array]
) -> None:
    """Draw edges and nodes, in inches; `unused` nodes are pale."""
    for index, layer in enumerate(curves):
        _draw_lines(ax, layer, layout, index)
        _draw_boxes(ax, layer, layout.boxes[index])
        _draw_products(ax, model, layout, index)
        nodes, places = model.nodes[index], layout.nodes[index + 1]
        if nodes.normalized and nodes.apart < len(places):  # hollow squares
            size = 6 if int(np.isfinite(places[:, 0]).sum()) > CROWD else 30
            square: Look = {"marker": "s", "c": STYLE.paper, "edgecolors": STYLE.ink}
            square |= {"s": size, "linewidths": 0.9, "zorder": 6, "label": f"_normalized {index}"}
            x, y = places[nodes.apart :].T
            ax.scatter(x, y, **square)
    for level, places in enumerate(layout.nodes):
        crowded = int(np.isfinite(places[:, 0]).sum()) > CROWD
        ends = level in (0, len(layout.nodes) - 1)
        ax.scatter(
            places[:, 0],
            places[:, 1],
            s=3 if crowded else 22,
            c=STYLE.paper if ends and not crowded else STYLE.ink,
            edgecolors=np.where(unused[level], STYLE.faint, STYLE.ink).tolist(),
            linewidths=0.0 if crowded else 0.9,
            zorder=5,
            label=f"_nodes {level}",
        )


def _shades(relative: Array, least: float, color: str = STYLE.ink) -> Array:
    """Return opaque colors from pale to full, for overlapping lines."""
    share = (least + (1 - least) * np.clip(relative, 0, 1))[:, None]
    full, paper = np.array(to_rgb(color)), np.array(to_rgb(STYLE.paper))
    return np.asarray(share * full + (1 - share) * paper)


def _draw_lines(ax: Axes, layer: LayerCurves, layout: DiagramLayout, index: int) -> None:
    below, above = layout.nodes[index], layout.arrivals[index]
    boxes = layout.boxes[index]
    if len(layer.rest_out):
        _draw_rest(ax, layer, below, above)
    relative = layer.relative[boxes.out, boxes.in_]
    order = np.argsort(relative, kind="stable")
    doors = [np.stack([boxes.lanes, np.full(len(order), end)], axis=1) for end in boxes.ends]
    middles = np.stack([boxes.lanes, boxes.centers[:, 1]], axis=1)[:, None]
    legs = {
        "into": np.concatenate([_bent(below[boxes.in_], doors[0]), middles], axis=1),
        "out of": np.concatenate([middles, _bent(doors[1], above[boxes.out])], axis=1),
    }
    for name, leg in legs.items():
        lines = LineCollection(
            list(leg[order]),
            colors=_shades(relative[order], 0.15),
            linewidths=0.4 + 0.9 * relative[order],
            zorder=2,
            label=f"_lines {name} boxes {index}",
        )
        ax.add_collection(lines, autolim=False)


def _draw_rest(ax: Axes, layer: LayerCurves, below: Array, above: Array) -> None:
    """Draw edges without a box as straight lines, the strongest last."""
    rest = slice(0, MAX_LINES)
    out, in_ = layer.rest_out[rest][::-1], layer.rest_in[rest][::-1]
    relative = layer.relative[out, in_]
    paleness = min(1.0, 6 / math.sqrt(len(out)))  # many lines add up
    lines = LineCollection(
        list(np.stack([below[in_], above[out]], axis=1)),
        colors=_shades(paleness * relative, 0.05),
        linewidths=0.25 + 0.4 * relative,
        zorder=1,
        label=f"_lines without box {layer.index}",
        rasterized=len(out) > RASTERIZE_FROM,
    )
    ax.add_collection(lines, autolim=False)


def _bent(start: Array, end: Array) -> Array:  # (line, 2) each -> (line, point, 2)
    """Connect pairs of points by curves with nearly vertical ends."""
    t = np.linspace(0, 1, 25)[None, :]
    ease = 0.35 * t + 0.65 * t * t * (3 - 2 * t)
    x = start[:, :1] + (end[:, :1] - start[:, :1]) * ease
    y = start[:, 1:] + (end[:, 1:] - start[:, 1:]) * t
    return np.stack([x, y], axis=2)


def _draw_boxes(ax: Axes, layer: LayerCurves, boxes: Boxes) -> None:
    """Draw frames and curves of one layer, as one collection for each kind."""
    relative = layer.relative[boxes.out, boxes.in_]
    named = layer.symbolic[boxes.out, boxes.in_]
    color = np.where(named[:, None], _shades(relative, 0.55, STYLE.accent), _shades(relative, 0.35))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * boxes.size / 2
    frames = PolyCollection(
        list(boxes.centers[:, None] + corners),
        facecolors=STYLE.paper,
        edgecolors=color,
        linewidths=np.where(named, 1.0, 0.5),
        zorder=3,
        label=f"_boxes {layer.index}",
    )
    ax.add_collection(frames, autolim=False)
    picks = {edge: row for row, edge in enumerate(zip(layer.out, layer.in_, strict=True))}
    rows = [picks[edge] for edge in zip(boxes.out, boxes.in_, strict=True)]
    shape = layer.unit_curves()[rows]  # (box, point, 2) from 0 to 1
    inside = (shape - 0.5) * boxes.size * np.array([0.86, 0.74])
    curves = LineCollection(
        list(boxes.centers[:, None] + inside),
        colors=color,
        linewidths=min(1.3, 0.5 + 2.2 * boxes.size),
        capstyle="round",
        joinstyle="round",
        zorder=4,
        label=f"_curves {layer.index}",
    )
    ax.add_collection(curves, autolim=False)


def _draw_products(ax: Axes, model: KAN, layout: DiagramLayout, index: int) -> None:
    """Draw products: a circled cross, and a dot per factor."""
    grouping, above = model.nodes[index].grouping, layout.nodes[index + 1]
    sums = grouping.sums
    factors = layout.arrivals[index][sums:]
    owners = above[model.nodes[index].owner[sums:].cpu().numpy()]
    shown = np.isfinite(owners[:, 0])
    if not shown.any():
        return
    varies = (model.layers[index].mask != 0).any(1).cpu().numpy()[sums:][shown]
    ink = np.where(varies, STYLE.ink, STYLE.faint)
    legs = LineCollection(
        list(np.stack([factors[shown], owners[shown]], axis=1)),
        colors=list(ink),
        linewidths=0.9,
        zorder=4,
        label=f"_factors {index}",
    )
    ax.add_collection(legs, autolim=False)
    crowded = int(np.isfinite(above[:, 0]).sum()) > CROWD
    (x, y), size = factors[shown].T, 2 if crowded else 9
    ax.scatter(x, y, s=size, c=list(ink), linewidths=0.0, zorder=5)
    x, y = above[sums:][np.isfinite(above[sums:, 0])].T
    size = 8 if crowded else 62
    circle: Look = {"c": STYLE.paper, "edgecolors": STYLE.ink, "linewidths": 0.9}
    ax.scatter(x, y, s=size, zorder=6, label=f"_products {index}", **circle)
    ax.scatter(x, y, s=size / 3, zorder=7, marker="x", c=STYLE.ink, linewidths=0.9)
