"""Network diagrams: the functions of a model, or strengths of edges."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from kanlens._checks import check_choice, check_count
from kanlens.errors import DataError, ShapeError
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN, Rows
from kanlens.model._trace import Trace, traced
from kanlens.plotting._diagram_layers import MAX_LINES, LayerCurves, draw_layers, layer_curves
from kanlens.plotting._layout import DiagramLayout, Labels, arrange, place_labels, with_room
from kanlens.plotting._style import (
    ASIDE,
    STYLE,
    Array,
    Look,
    axes_for,
    color_bar,
    distinct,
    literal,
    numbers,
    picture,
    size_in_inches,
    text_width,
)

CALL = "plot.network"
MARGIN = 0.12  # inches
NOTE = 0.2  # inches, for a line on the curves that are left out

MATRIX_FROM = 250  # nonzero edges of a layer above which "auto" draws strengths
NAMED = 32  # nodes of a level up to which each has its name
PATHS = 5  # strongest paths from a feature to an output, whose edges are numbered
Path = tuple[tuple[int, int], ...]  # its edges (in, out), one for each layer
MAX_NAME_LENGTH = 18
FRAME = (0.95, 0.85, 0.55, 0.12)  # inches left, right, below each matrix and above the last
LETTER = 0.046  # inches that each letter of a rotated name adds to its height
BAR = 0.09  # inches, width of the color bar
ROWS = (0.6, 2.6, 0.14)  # inches: least and largest height of a matrix, height of a row


@picture(CALL)
def network(
    model: Model,
    *,
    x: Rows | Trace | None = None,
    ax: Axes | None = None,
    scores: Sequence[Any] | None = None,
    top: int | None = None,
    hidden_names: bool = False,
    kind: str = "auto",
) -> Axes:
    """Draw a model as a diagram of nodes and the functions on its edges.

    Inputs lie at the bottom and outputs on top. Each box holds one function over the range of
    the training data (or the grid), scaled to the box; functions that hardly vary, relative to
    their layer, are flat. Dark and thick edges are strong, relative to the strongest of the layer.
    Named functions from `kanlens.symbolize` are blue with a heavier frame. A node with a cross
    multiplies the sums of the dots below it; a pale dot is constant.

    Parameters
    ----------
    model : KAN or fitted estimator
        Not changed.
    x : Trace, or Tensor, ndarray or DataFrame of shape (batch, in), optional
        Data for ranges and strengths; the statistics stored in the model when None.
    scores : sequence of array-like, each of shape (out, in), optional
        Strengths of edges, one array per layer; standard deviations over the data when None.
    top : int, optional
        Number of edges of a layer with a box, the strongest first; the others are only lines.
        All when None, or the strongest 60 in a layer of more than 100.
    hidden_names : bool
        Whether hidden nodes get their names, such as h1_1.
    kind : {"auto", "curves", "strengths"}
        ``"strengths"``: a matrix of relative strengths for each layer, gray without an edge; the
        numbers 1 to 5 mark the five strongest paths. ``"auto"``: without `top`, ``"strengths"`` if
        a layer has more than 250 nonzero edges.

    Returns
    -------
    Axes
        In inches, without frame; names of inputs and outputs carry their units.

    Raises
    ------
    ShapeError
        If `scores` does not fit the layers, or `x` does not fit the model.
    DataError
        If a score or a cell of `x` is not finite.

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
    model = check_model(CALL, model)
    if top is not None:
        check_count(CALL, "top", top, least=0)
    check_choice(CALL, "kind", kind, ("auto", "curves", "strengths"))
    curves = layer_curves(model, traced(CALL, model, x), _checked_scores(model, scores), top)
    widest = max(len(layer.out) + len(layer.rest_out) for layer in curves)
    levels = model.schema.features, model.schema.outputs
    ends = [[(node.name, node.unit) for node in level] for level in levels]
    if kind == "strengths" or (kind == "auto" and top is None and widest > MATRIX_FROM):
        return draw_strengths(ax, model, curves, ends)
    unused, note = _unused_nodes(model), _note(curves)
    layout, below, above = _fitted(model, curves, unused, ends, ax, NOTE if note else 0.0)
    left, right = np.maximum(below.overhangs, above.overhangs)
    across = -MARGIN - float(left), layout.width + MARGIN + float(right)
    bottom = -MARGIN - below.height - (NOTE if note else 0.0)
    upright = bottom, layout.height + MARGIN + above.height
    size = across[1] - across[0], upright[1] - upright[0]
    ax = axes_for(ax, size, bare=True)
    ax.set(xlim=across, ylim=upright, aspect="equal")
    ax.set_axis_off()
    draw_layers(ax, model, curves, layout, unused)
    below.draw(ax, 0.0, unused[0])
    above.draw(ax, layout.height, unused[-1])
    if hidden_names:
        _draw_hidden_names(ax, model, layout)
    if note:
        ax.text(across[0] + MARGIN, bottom + 0.04, note, ha="left", va="bottom", **ASIDE)
    return ax


def _checked_scores(model: KAN, scores: Sequence[Any] | None) -> list[Array] | None:
    """Return scores as arrays, at least 0; refuse other shapes and NaN."""
    if scores is None:
        return None
    arrays = [numbers(table) for table in scores]
    shapes = [(layer.out_features, layer.in_features) for layer in model.layers]
    if [table.shape for table in arrays] != shapes:
        expected = f"scores of shapes {', '.join(map(str, shapes))}"
        got = ", ".join(str(table.shape) for table in arrays) or "none"
        raise ShapeError(CALL, expected, got, "Pass one (out, in) array per layer")
    if not all(np.isfinite(table).all() for table in arrays):
        raise DataError(CALL, "finite scores", "NaN or infinity", "Correct the scores")
    return [np.maximum(table, 0) for table in arrays]


def _unused_nodes(model: KAN) -> list[Array]:
    """Return the mask (node,) of nodes without a nonzero edge, for each level."""
    masks = [(layer.mask != 0).cpu().numpy() for layer in model.layers]
    fed = [
        np.bincount(nodes.owner.cpu().numpy(), weights=mask.any(1)) > 0
        for nodes, mask in zip(model.nodes, masks, strict=True)
    ]
    ways_in = [np.zeros(masks[0].shape[1], dtype=bool), *fed]
    ways_out = [*(mask.any(0) for mask in masks), np.zeros(len(fed[-1]), dtype=bool)]
    return [np.asarray(~(fed_in | out)) for fed_in, out in zip(ways_in, ways_out, strict=True)]


def _fitted(
    model: KAN,
    curves: list[LayerCurves],
    unused: list[Array],
    ends: list[list[tuple[str, str]]],
    ax: Axes | None,
    note: float,
) -> tuple[DiagramLayout, Labels, Labels]:
    """Return a layout that fills the axes, and the names below and above it."""
    shown: list[Array] = [~level for level in unused]
    shown[0][:] = shown[-1][:] = True  # inputs and outputs, used or not
    edges = [(layer.out, layer.in_) for layer in curves]
    groups = [nodes.grouping for nodes in model.nodes]
    last = curves[-1].strength.max(1, initial=0)  # (sub,)
    largest = [last[list(groups[-1].members(n))].max() for n in range(groups[-1].nodes)]
    strength = curves[0].strength.max(0, initial=0), np.array(largest)
    width, height = (None, None) if ax is None else size_in_inches(ax)
    room = None if height is None else 0.4 * height
    layout = arrange(shown, edges, groups=groups, width=width, height=height)
    for last in (False, False, False, True):  # names take room, which moves nodes
        below, above = (
            place_labels(
                layout.nodes[level][:, 0], names, size, width=layout.width, side=side, room=room
            )
            for level, names, size, side in zip((0, -1), ends, strength, (-1, 1), strict=True)
        )
        if width is None or height is None or last:
            break
        sides = np.maximum(below.overhangs, above.overhangs).sum() + 2 * MARGIN
        rest = height - below.height - above.height - 2 * MARGIN - note
        size = {"width": max(width - sides, 0.5), "height": max(rest, 0.5)}
        layout = arrange(shown, edges, groups=groups, **size)
    return layout, below, above


def _draw_hidden_names(ax: Axes, model: KAN, layout: DiagramLayout) -> None:
    box = {"facecolor": STYLE.paper, "alpha": 0.75, "linewidth": 0, "pad": 0}
    style: Look = {"ha": "left", "zorder": 6, "bbox": box, **ASIDE}
    for level, places in enumerate(layout.nodes[1:-1], start=1):
        units = np.flatnonzero(np.isfinite(places[:, 0]))
        names = [literal(model.node_name(level, int(unit))) for unit in units]
        widest = max((text_width(name, STYLE.small) for name in names), default=0.0)
        x, y = places[units].T
        tight = widest + 0.25 > np.diff(x).min(initial=np.inf)  # the names stand upright then
        turned: Look = {"rotation": 90, "va": "bottom"} if tight else {"va": "center"}
        for k in with_room(x, -np.arange(len(x))):
            ax.text(x[k] + 0.1 - 0.01 * tight, y[k] + 0.03 * tight, names[k], **turned, **style)


def _note(curves: list[LayerCurves]) -> str:
    """Return a note on edges without a box; empty if all have one."""
    parts = []
    for layer in curves:
        boxes, rest = len(layer.out), len(layer.rest_out)
        if rest:
            lines = f", {min(rest, MAX_LINES):,} as lines" if rest > MAX_LINES else ""
            parts.append(f"layer {layer.index}: {boxes:,} of {boxes + rest:,}{lines}")
    return f"Curves shown, strongest first: {'; '.join(parts)}" if parts else ""


def draw_strengths(
    ax: Axes | None, model: KAN, curves: Sequence[LayerCurves], names: list[list[tuple[str, str]]]
) -> Axes:
    """Draw relative strengths (out, in) of layers, with names and units."""
    least, most, row = ROWS
    heights = [float(np.clip(row * len(layer.strength), least, most)) for layer in curves]
    left, right, below, above = FRAME
    letters = min(MAX_NAME_LENGTH, max(len(name) for name, _ in names[0]))
    foot = max(0.0, LETTER * letters + 0.1 - below) if len(names[0]) <= NAMED else 0.0
    spare = foot + len(curves) * below + above
    ax = axes_for(ax, (STYLE.page, sum(heights) + spare), bare=True)
    ax.set_axis_off()
    width, height = size_in_inches(ax)
    ax.set(xlim=(0, width), ylim=(0, height))  # in inches, as diagrams are
    scale = max(height - spare, 0.2) / sum(heights)
    bottom, paths = foot + below, strongest_paths(model, curves)
    mark: Look = {"ha": "center", "va": "center", "fontsize": STYLE.small - 1}
    mark["bbox"] = {"facecolor": STYLE.paper, "linewidth": 0, "pad": 0.6, "alpha": 0.9}
    for index, (layer, high) in enumerate(zip(curves, heights, strict=True)):
        box = (left / width, bottom / height, (width - left - right) / width, scale * high / height)
        panel = ax.inset_axes(box)
        look: Look = {"cmap": STYLE.sequence, "vmin": 0.0, "vmax": 1.0, "interpolation": "nearest"}
        image = panel.imshow(np.ma.masked_equal(layer.relative, 0.0), aspect="auto", **look)
        panel.set_facecolor(STYLE.faint)
        panel.spines[:].set_visible(False)
        for edge in {path[index] for path in paths}:
            ranks = [str(k) for k, path in enumerate(paths, start=1) if path[index] == edge]
            panel.text(*edge, ",".join(ranks), **mark)
        _name(panel, model, index, names)
        bottom += scale * high + below
    panel.set_title(f"1 to {PATHS}: the strongest paths", loc="left", pad=2, **ASIDE)
    middle = (width - right + 0.12) / width
    key = ax.inset_axes(
        (middle, (foot + below) / height, BAR / width, min(1.2, height - below) / height)
    )
    color_bar(ax, image, "strength / strongest of the layer", key=key)
    return ax


def strongest_paths(model: KAN, curves: Sequence[LayerCurves]) -> list[Path]:
    """Return the paths with the largest products of strengths, best first."""
    paths: list[tuple[float, int, Path]] = [(1.0, i, ()) for i in range(model.widths[0])]
    for layer, nodes in zip(curves, model.nodes, strict=True):
        grown, relative = list[tuple[float, int, Path]](), layer.relative.tolist()
        for out, node in enumerate(nodes.owner.tolist()):
            longer = ((s * relative[out][k], node, (*path, (k, out))) for s, k, path in paths)
            grown += heapq.nlargest(PATHS, longer)
        paths = grown
    return [path for size, _, path in heapq.nlargest(PATHS, paths) if size > 0]


def _name(panel: Axes, model: KAN, index: int, names: list[list[tuple[str, str]]]) -> None:
    """Label rows and columns, or write their number if there are many."""
    layer, last = model.layers[index], len(model.layers) - 1
    inputs = (names[0], "features") if index == 0 else ([], f"nodes of level {index}")
    outputs = (names[1], "outputs") if index == last else ([], f"nodes of level {index + 1}")
    turned: Look = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    for axis, count, (labels, words), look in (
        (panel.xaxis, layer.in_features, inputs, turned),
        (panel.yaxis, layer.out_features, outputs, {}),
    ):
        if count > NAMED or len(labels) != count:
            axis.set_ticks([])
            axis.set_label_text(f"{count:,} {words}", **ASIDE)
            continue
        full = (f"{name} ({unit})" if unit else name for name, unit in labels)
        short = distinct(full, lambda name: literal(name, most=MAX_NAME_LENGTH))
        axis.set_ticks(range(count), short, fontsize=STYLE.small, **look)
    panel.tick_params(length=0)
    panel.set_title(f"layer {index}", loc="right", pad=2, **ASIDE)
