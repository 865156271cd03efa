"""The network diagram: every function of a model in one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb

from kanlens.checks import check_count, message
from kanlens.errors import DataError, ShapeError
from kanlens.model.acceptance import Model, check_model
from kanlens.model.network import KAN
from kanlens.plotting.labels import Labels, place_labels
from kanlens.plotting.layout import CROWD, Array, Boxes, Layout, arrange
from kanlens.plotting.product_nodes import draw_products
from kanlens.plotting.samples import LayerCurves, layer_curves
from kanlens.plotting.style import STYLE, axes_for, check_axes, context, literal, size_in_inches

if TYPE_CHECKING:
    from kanlens.model.network import Rows

CALL = "plot.network"
MOST_BOXES = 100  # in a layer; beyond, the strongest `FEWER` get a box
FEWER = 60
MOST_LINES = 3000  # of a layer drawn without a box, the strongest
MANY_LINES = 1500  # beyond, they become one image inside the vector picture
MARGIN = 0.12  # inches
NOTE = 0.2  # inches, for a line on what is left out


@context()
def network(
    model: Model,
    *,
    x: Rows | None = None,
    ax: Axes | None = None,
    scores: Sequence[Any] | None = None,
    top: int | None = None,
    hidden_names: bool = False,
) -> Axes:
    """Draw a model as a diagram: its nodes, and on every live edge the function it learned.

    Inputs lie at the bottom and outputs on top. Each box holds one function over the range of
    the training data (over the grid when that is unknown), scaled to the height of the box;
    functions that hardly vary beside the others of their layer are drawn flat. Dark and thick
    edges are strong, pale and thin ones weak, relative to the strongest edge of the layer.
    Functions with a formula, put there by `kanlens.symbolize`, are blue with a heavier frame. A
    node with a cross multiplies the sums that the dots below it stand for; a pale dot is constant.

    Parameters
    ----------
    model : KAN or fitted estimator
        Left as it is.
    x : Tensor, ndarray or DataFrame, shape (batch, in), optional
        Data that ranges and strengths are taken from, in the units of the data; the statistics
        stored in the model when None.
    ax : Axes, optional
        Where to draw; a new figure of fitting size, made by pyplot, when None.
    scores : sequence of array-like, each of shape (out, in), optional
        Strength of every edge, one array per layer; the standard deviation of each edge over
        the data when None.
    top : int, optional
        How many edges of a layer get a box, the strongest first; the others are only lines.
        All when None, or the strongest 60 in a layer of more than 100.
    hidden_names : bool
        Whether hidden nodes get their names, h1_1 and so on.

    Returns
    -------
    Axes
        In inches, without frame; names of inputs and outputs carry their units.

    Raises
    ------
    ShapeError
        If `scores` does not fit the layers, or `x` not the model.
    DataError
        If a score or a cell of `x` is not finite.
    DTypeError
        If `ax` is no Axes.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, figure 2.4.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> network(KAN([2, 3, 1]), ax=axes) is axes
    True
    """
    check_axes(ax, call=CALL)
    model = check_model(CALL, model)
    if top is not None:
        check_count(CALL, "top", top, least=0)
    given = _checked_scores(model, scores)
    limit = _limit(model, top)
    curves = layer_curves(model, x=x, scores=given, most=limit, call=CALL)
    layout, below, above = _fitted(model, curves, ax)
    limits = _limits(layout, (below, above), _note_height(curves))
    ax = axes_for(
        ax, (limits[0][1] - limits[0][0], limits[1][1] - limits[1][0]), call=CALL, bare=True
    )
    ax.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    ax.set_axis_off()
    for index, layer in enumerate(curves):
        _draw_lines(ax, layer, layout, index)
        _draw_boxes(ax, layer, layout.boxes[index])
        draw_products(ax, model, layout, index)
    unused = _unused_nodes(model)
    _draw_nodes(ax, layout, unused)
    below.draw(ax, 0.0, unused[0])
    above.draw(ax, layout.height, unused[-1])
    if hidden_names:
        _draw_hidden_names(ax, layout)
    _draw_note(ax, curves)
    return ax


def _limit(model: KAN, top: int | None) -> list[int]:
    if top is not None:
        return [top] * len(model.layers)
    alive = [int((layer.mask != 0).sum()) for layer in model.layers]
    return [count if count <= MOST_BOXES else FEWER for count in alive]


def _checked_scores(model: KAN, scores: Sequence[Any] | None) -> list[Array] | None:
    if scores is None:
        return None
    arrays = [np.asarray(torch.as_tensor(one).detach().cpu(), dtype=np.float64) for one in scores]
    expected = [(layer.out_features, layer.in_features) for layer in model.layers]
    if [one.shape for one in arrays] != expected:
        wanted = f"scores of shapes {', '.join(map(str, expected))}"
        got = ", ".join(str(one.shape) for one in arrays) or "none"
        advice = "Pass one (out, in) array per layer"
        raise ShapeError(message(CALL, wanted, got, advice))
    if not all(np.isfinite(one).all() for one in arrays):
        raise DataError(message(CALL, "finite scores", "NaN or infinity", "Correct the scores"))
    return [np.maximum(one, 0) for one in arrays]


def _unused_nodes(model: KAN) -> list[Array]:
    """Return which nodes have no live edge, shape (node,) for each level."""
    masks = [(layer.mask != 0).cpu().numpy() for layer in model.layers]
    fed = [
        np.bincount(nodes.owner.cpu().numpy(), weights=mask.any(1)) > 0
        for nodes, mask in zip(model.nodes, masks, strict=True)
    ]
    ways_in = [np.zeros(masks[0].shape[1], dtype=bool), *fed]
    ways_out = [*(mask.any(0) for mask in masks), np.zeros(len(fed[-1]), dtype=bool)]
    return [np.asarray(~(one | other)) for one, other in zip(ways_in, ways_out, strict=True)]


def _shown_nodes(model: KAN) -> list[Array]:
    """Return which nodes are drawn: all inputs and outputs, hidden ones with a live edge."""
    shown: list[Array] = [~unused for unused in _unused_nodes(model)]
    shown[0][:] = shown[-1][:] = True
    return shown


def _fitted(
    model: KAN, curves: list[LayerCurves], ax: Axes | None
) -> tuple[Layout, Labels, Labels]:
    """Lay the diagram out so that it and its names fill the axes, or a figure of their own."""
    shown = _shown_nodes(model)
    edges = [(layer.out, layer.in_) for layer in curves]
    groups = [nodes.grouping for nodes in model.nodes]
    last = curves[-1].strength.max(1, initial=0)  # (sub,)
    loudest = np.array([last[list(groups[-1].members(n))].max() for n in range(groups[-1].nodes)])
    strength = curves[0].strength.max(0, initial=0), loudest
    width, height = (None, None) if ax is None else size_in_inches(ax)
    room = None if height is None else 0.4 * height
    layout = arrange(shown, edges, groups=groups, width=width, height=height)
    for _ in range(3):  # names need room, which moves nodes, which changes the room of names
        below, above = (
            place_labels(
                layout.nodes[level][:, 0], names, size, width=layout.width, side=side, room=room
            )
            for level, names, size, side in zip(
                (0, -1), _names(model), strength, (-1, 1), strict=True
            )
        )
        if width is None or height is None:
            break
        sides = np.maximum(below.overhangs, above.overhangs).sum() + 2 * MARGIN
        rest = height - below.height - above.height - 2 * MARGIN - _note_height(curves)
        size = {"width": max(width - sides, 0.5), "height": max(rest, 0.5)}
        layout = arrange(shown, edges, groups=groups, **size)
    return layout, below, above


def _names(model: KAN) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    schema = model.schema
    return [(f.name, f.unit) for f in schema.features], [(o.name, o.unit) for o in schema.outputs]


def _limits(
    layout: Layout, labels: tuple[Labels, Labels], note: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the range of x and of y that holds the diagram, its names and its note."""
    below, above = labels
    left, right = np.maximum(below.overhangs, above.overhangs)
    x = (-MARGIN - float(left), layout.width + MARGIN + float(right))
    return x, (-MARGIN - below.height - note, layout.height + MARGIN + above.height)


def _shades(relative: Array, least: float, color: str = STYLE.ink) -> Array:
    """Return opaque colors from pale to full: overlapping lines then keep their meaning."""
    share = (least + (1 - least) * np.clip(relative, 0, 1))[:, None]
    full, paper = np.array(to_rgb(color)), np.array(to_rgb(STYLE.paper))
    return np.asarray(share * full + (1 - share) * paper)


def _draw_lines(ax: Axes, layer: LayerCurves, layout: Layout, index: int) -> None:
    below, above = layout.nodes[index], layout.arrivals[index]
    boxes = layout.boxes[index]
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
    rest = slice(0, MOST_LINES)
    out, in_ = layer.rest_out[rest][::-1], layer.rest_in[rest][::-1]
    if not len(out):
        return
    relative = layer.relative[out, in_]
    paleness = min(1.0, 6 / math.sqrt(len(out)))  # many lines add up
    lines = LineCollection(
        list(np.stack([below[in_], above[out]], axis=1)),
        colors=_shades(paleness * relative, 0.05),
        linewidths=0.25 + 0.4 * relative,
        zorder=1,
        label=f"_lines without box {layer.index}",
        rasterized=len(out) > MANY_LINES,
    )
    ax.add_collection(lines, autolim=False)


def _bent(start: Array, end: Array) -> Array:  # (line, 2) each -> (line, point, 2)
    """Join two rows of points by curves that leave and arrive rather upright."""
    t = np.linspace(0, 1, 25)[None, :]
    ease = 0.35 * t + 0.65 * t * t * (3 - 2 * t)
    x = start[:, :1] + (end[:, :1] - start[:, :1]) * ease
    y = start[:, 1:] + (end[:, 1:] - start[:, 1:]) * t
    return np.stack([x, y], axis=2)


def _draw_boxes(ax: Axes, layer: LayerCurves, boxes: Boxes) -> None:
    """Draw frames and curves of one layer, each kind as one collection."""
    relative = layer.relative[boxes.out, boxes.in_]
    known = layer.symbolic[boxes.out, boxes.in_]
    color = np.where(known[:, None], _shades(relative, 0.55, STYLE.accent), _shades(relative, 0.35))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * boxes.size / 2
    frames = PolyCollection(
        list(boxes.centers[:, None] + corners),
        facecolors=STYLE.paper,
        edgecolors=color,
        linewidths=np.where(known, 1.0, 0.5),
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


def _draw_nodes(ax: Axes, layout: Layout, unused: list[Array]) -> None:
    for level, places in enumerate(layout.nodes):
        crowded = int(np.isfinite(places[:, 0]).sum()) > CROWD
        ends = level in (0, len(layout.nodes) - 1)
        ax.scatter(
            places[:, 0],
            places[:, 1],
            s=3 if crowded else 22,
            c=STYLE.paper if ends and not crowded else STYLE.ink,
            edgecolors=np.where(unused[level], STYLE.faint, STYLE.ink),
            linewidths=0.0 if crowded else 0.9,
            zorder=5,
            label=f"_nodes {level}",
        )


def _draw_hidden_names(ax: Axes, layout: Layout) -> None:
    for level, places in enumerate(layout.nodes[1:-1], start=1):
        for unit, (x, y) in enumerate(places, start=1):
            if np.isfinite(x):
                ax.text(
                    x + 0.1,
                    y,
                    literal(f"h{level}_{unit}"),
                    ha="left",
                    va="center",
                    fontsize=STYLE.small,
                    color=STYLE.muted,
                    zorder=6,
                    bbox={"facecolor": STYLE.paper, "alpha": 0.75, "linewidth": 0, "pad": 0},
                )


def _note(curves: list[LayerCurves]) -> str:
    """Say what is left out, layer by layer; empty when nothing is."""
    parts = []
    for layer in curves:
        boxes, rest = len(layer.out), len(layer.rest_out)
        if rest:
            lines = f", {min(rest, MOST_LINES):,} as lines" if rest > MOST_LINES else ""
            parts.append(f"layer {layer.index}: {boxes:,} of {boxes + rest:,}{lines}")
    return f"Curves shown, strongest first: {'; '.join(parts)}" if parts else ""


def _note_height(curves: list[LayerCurves]) -> float:
    return NOTE if _note(curves) else 0.0


def _draw_note(ax: Axes, curves: list[LayerCurves]) -> None:
    text, left, bottom = _note(curves), ax.get_xlim()[0], ax.get_ylim()[0]
    if text:
        style: dict[str, Any] = {"fontsize": STYLE.small, "color": STYLE.muted}
        ax.text(left + MARGIN, bottom + 0.04, text, ha="left", va="bottom", **style)
