"""Shapes that curves must have, such as increasing or convex, and proofs that networks have them.

A shape of a piecewise linear curve is a set of linear inequalities of its heights at breakpoints.
The penalized least squares fit under them is the point nearest to the fit without them in the norm
of its posterior precision: a least distance problem, solved by nonnegative least squares [1]_.

References
----------
.. [1] C. Lawson and R. Hanson, Solving Least Squares Problems, 1974, chapter 23.
.. [2] D. Runje and S. Shankaranarayana, Constrained Monotonic Neural Networks, 2023.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice
from kanlens.data._cell_parsing import Array
from kanlens.data._schema import Feature
from kanlens.errors import DTypeError, InvalidValueError, KanlensWarning
from kanlens.model._analysis import float64_copy
from kanlens.model._layer_enclosures import MAX_COORDINATE
from kanlens.model._network import KAN
from kanlens.splines import _spline as spline

SHAPES = {  # order of the differences that have a sign, and the sign
    "increasing": (1, 1.0),
    "decreasing": (1, -1.0),
    "convex": (2, 1.0),
    "concave": (2, -1.0),
    "positive": (0, 1.0),  # differences from the height at 0
    "negative": (0, -1.0),
    "periodic": (-1, 1.0),  # that of the ends, which is 0
}
ROUNDING = 1e-12  # of the range of a curve


def read_constraints(
    constraints: Mapping[str, str] | None, features: Sequence[Feature]
) -> dict[str, str]:
    """Return the shape of each constrained column, or several separated by spaces."""
    if constraints is not None and not isinstance(constraints, Mapping):
        expected, advice = "constraints as a mapping", "For example {'age': 'increasing'}"
        raise DTypeError("fit", expected, type(constraints).__name__, advice)
    numbers = {f.column for f in features if f.kind == "numeric"}
    for name, shape in (constraints or {}).items():
        check_choice("fit", "constraints", name, dict.fromkeys(f.column for f in features))
        for word in str(shape).split() or [""]:
            check_choice("fit", "constraints", word, SHAPES)
        if name not in numbers:
            expected, got = "constraints of columns of numbers", f"{name!r}, which has categories"
            raise InvalidValueError("fit", expected, got, "Leave it out")
    return dict(constraints or {})


class MonotonePaths:
    """Steps of training by gradients after which every path from some columns is monotone [2]_.

    Edges from these columns have ordered control points and no base function; those after them
    rise.
    """

    def __init__(self, model: KAN, constraints: Mapping[str, str] | None) -> None:
        shapes = read_constraints(constraints, model.schema.features)
        self.model, self.signs = model, list[Tensor]()
        expected = ""
        if not set(shapes.values()) <= {"increasing", "decreasing"}:
            expected = "increasing and decreasing columns of a network trained by gradients"
        elif shapes and not (
            all(nodes.plain for nodes in model.nodes)
            and all(layer.splines_alone for layer in model.layers)
        ):
            expected = "monotone columns of a network of sums of splines"
        if expected:
            advice = "Train by fit_default with hidden=(), or with max_edges"
            raise InvalidValueError("fit", expected, repr(shapes), advice)
        model.constraints = shapes
        words = [shapes.get(f.column, "") * (f.kind == "numeric") for f in model.schema.features]
        signs = torch.tensor([SHAPES[word][1] if word else 0.0 for word in words])
        for layer in model.layers if shapes else ():
            self.signs.append(signs.to(layer.grid))
            signs = _reached(layer.mask != 0, signs[:, None].abs())[:, 0].float()

    @torch.no_grad()
    def keep(self) -> None:
        """Put the control points in order, by means of the nearest curves above and below."""
        for layer, signs in zip(self.model.layers, self.signs, strict=False):
            own = signs.nonzero()[:, 0]
            sign, places = signs[own, None], spline.greville(layer.grid[own], layer.spline_order)
            base = layer.base_weight[:, own, None].abs() * layer.base_activation(places)
            points = sign * layer.coefficients()[:, own] + base
            above, below = points.cummax(-1).values, points.flip(-1).cummin(-1).values.flip(-1)
            layer.spline_weight[:, own] = sign * (above + below) / 2
            layer.base_weight[:, own] = 0.0
            if layer.enable_standalone_scale_spline:
                layer.spline_scaler[:, own] = 1.0


def orders(shape: str) -> list[tuple[int, float]]:
    """Return order and sign of each shape of a column, the highest order first."""
    return sorted((SHAPES[word] for word in shape.split()), reverse=True)


def is_bent(shape: str) -> bool:
    """Return whether a shape is convex or concave; beyond the data it goes on straight."""
    return any(order == 2 for order, _ in orders(shape))


def fixed_places(model: KAN, column: str, feature: int) -> Array:
    """Return 0 and the ends of a column in scaled units, if its shape depends on them."""
    if all(order > 0 for order, _ in orders(model.constraints.get(column, ""))):
        return np.zeros(0)
    ends = torch.tensor([[-torch.inf], [0.0], [torch.inf]]).to(model.input_scale)
    places = model.scale_inputs(ends.expand(-1, len(model.input_scale)))[:, feature]
    return np.asarray(places.double().cpu())


def settle_ends(model: KAN, x: Tensor) -> None:
    """Let convex and concave curves go on straight beyond rows x (batch, in); close periodic ones.

    Others are constant beyond the range of the model.
    """
    for place, feature in enumerate(model.schema.features):
        shape = model.constraints.get(feature.column, "") if feature.kind == "numeric" else ""
        ends = model.input_low[place : place + 1], model.input_high[place : place + 1]
        if is_bent(shape):
            ends[0].fill_(-torch.inf)
            ends[1].fill_(torch.inf)
        elif "periodic" in shape and model.holds_inputs:
            ends[0].clamp_(min=x[:, place].min())
            ends[1].clamp_(max=x[:, place].max())


def inequalities(knots: Array, shape: str, zero: float = 0.0) -> Array:
    """Return the matrix (row, breakpoint) whose product with the heights must not be negative."""
    parts = [np.zeros((0, len(knots)))]
    for order, sign in orders(shape):
        rows = np.diff(np.eye(len(knots)), axis=0) / np.diff(knots)[:, None]
        if order == 2:
            rows = np.diff(rows, axis=0)
        elif order == 0:
            rows = np.eye(len(knots)) - np.eye(len(knots))[np.abs(knots - zero).argmin()]
        elif order == -1:
            rows = np.outer([1.0, -1.0], np.eye(len(knots))[-1] - np.eye(len(knots))[0])
        sizes = abs(rows).max(1, keepdims=True, initial=1e-300)
        parts.append(sign * rows / sizes)
    return np.concatenate(parts)


def nearest_feasible(point: Array, root: Array, cone: Array) -> Array:
    """Return the point (p,) nearest to one with ``cone @ point >= 0``, up to rounding.

    The norm is that of the inverse of ``root @ root.T``.
    """
    from scipy.optimize import nnls

    slack = cone @ point
    if (slack >= 0).all():
        return point
    moved = root.T @ cone.T  # (p, row)
    sizes = np.maximum(np.sqrt((moved**2).sum(0)), 1e-300)
    moved, slack = moved / sizes, slack / sizes
    scale = float(abs(slack).max())
    system = np.vstack([moved, -slack / scale])
    target = np.append(np.zeros(len(point)), 1.0)
    weights, _ = nnls(system, target, maxiter=30 * len(slack))
    rest = system @ weights - target
    return np.asarray(point - root @ (rest[:-1] / rest[-1] * scale))


def shaped(knots: Array, heights: Array, shape: str, zero: float = 0.0) -> Array:
    """Return heights that have a shape exactly, for those that have it up to rounding."""
    from scipy.optimize import isotonic_regression

    gaps, heights = np.diff(knots), np.array(heights)
    for order, sign in orders(shape):
        if order == 2:
            slopes = np.diff(heights) / gaps
            slopes = isotonic_regression(slopes, weights=gaps, increasing=sign > 0).x
            moved = np.append(0.0, np.cumsum(slopes * gaps))
            heights = moved + (heights - moved).mean()
        elif order == 1:
            heights = sign * np.maximum.accumulate(sign * heights)
        elif order == 0:
            level = heights[np.abs(knots - zero).argmin()]
            heights = sign * np.maximum(sign * heights, sign * level)
        else:
            heights[[0, -1]] = heights[[0, -1]].mean()
    return heights


@torch.no_grad()
def proven_shapes(model: KAN) -> dict[str, str]:
    """Return the constraints that are proven, of all outputs at all values of all columns.

    A column is increasing where every path of edges from it is; other shapes are those of its own
    edges, and increasing paths, straight ones for a convex curve, keep them.
    """
    if not model.constraints:
        return {}
    model, features = float64_copy(model), model.schema.features
    places = {f.column: k for k, f in enumerate(features) if f.kind == "numeric"}
    columns = [column for column in model.constraints if column in places]
    own = [places[column] for column in columns]
    ends = [torch.full((layer.in_features,), MAX_COORDINATE).double() for layer in model.layers]
    slopes = [
        layer.edge_slope_bounds(-far, far) for layer, far in zip(model.layers, ends, strict=True)
    ]
    first = model.layers[0].mask != 0
    rises, falls, _ = _flow(model, slopes, own)
    _, later_falls, bent = _flow(model, [(0.0 * first, 1.0 * first), *slopes[1:]], own)
    holds = {}
    for k, column in enumerate(columns):
        lost = {-1: False, 0: bool(later_falls[k]), 2: bool(later_falls[k] | bent[k])}
        holds[column] = all(
            not bool(falls[k] if sign > 0 else rises[k])
            if order == 1
            else not lost[order] and _is_shaped(model, column, own[k], order)
            for order, sign in orders(model.constraints[column])
        )
    return {column: model.constraints[column] for column in columns if holds[column]}


def _flow(
    model: KAN, slopes: Sequence[tuple[Tensor, Tensor]], places: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the features at `places` that may raise an output, lower it, or enter a bend.

    `slopes` bound those of the edges (out, in) of each layer; bends are of later layers.
    """
    rising = torch.eye(model.widths[0], dtype=torch.bool)[:, list(places)]
    falling, bent = torch.zeros_like(rising), torch.zeros(len(places), dtype=torch.bool)
    for level, (nodes, (lower, upper)) in enumerate(zip(model.nodes, slopes, strict=True)):
        curved = (upper - lower > ROUNDING * upper.abs()) & (level > 0)
        bent |= _reached(curved, rising | falling).any(0)
        up, down = ~(upper <= 0), ~(lower >= 0)
        rising, falling = (
            _reached(up, rising) | _reached(down, falling),
            _reached(up, falling) | _reached(down, rising),
        )
        mixed = torch.arange(nodes.grouping.nodes)[:, None] >= nodes.apart  # products and the like
        if nodes.scaled:
            mixed |= nodes.scale[:, None] <= 0
        moved = _reached(nodes.owner == torch.arange(len(mixed))[:, None], rising | falling)
        moved[nodes.apart :] |= moved[nodes.apart :].any(0) & (nodes.normalized > 0)
        bent |= (mixed & moved).any(0)
        sums = nodes.grouping.sums
        rising, falling = (
            torch.cat([part[:sums], moved[sums:]]) | (mixed & moved) for part in (rising, falling)
        )
    return rising.any(0), falling.any(0), bent


def _reached(edges: Tensor, nodes: Tensor) -> Tensor:
    """Return the outs (out, feature) of edges (out, in) from some of the nodes (in, feature)."""
    return edges.double() @ nodes.double() > 0


def _is_shaped(model: KAN, column: str, feature: int, order: int) -> bool:
    """Return whether the edges of a column have its shape of an order, up to rounding."""
    layer, places = model.layers[0], fixed_places(model, column, feature)
    words = [word for word in model.constraints[column].split() if SHAPES[word][0] == order]
    if order == 2 and bool(
        model.input_low[feature].isfinite() | model.input_high[feature].isfinite()
    ):
        return False
    for out in (layer.mask[:, feature] != 0).nonzero()[:, 0].tolist():
        edge = layer.edge(out, feature)
        knots, heights = edge.knots[1:-1], edge.coefficients
        if edge.degree != 1 or edge.functions.functions or edge.extrapolation != "linear":
            return False
        away = np.abs(knots - places[:, None]).min(1)
        clean = shaped(knots, heights, " ".join(words), *places[1:2])
        if (away > ROUNDING * np.ptp(knots)).any():
            return False
        if (np.abs(clean - heights) > ROUNDING * np.ptp(heights)).any():
            return False
    return True


def check_proven(model: KAN) -> None:
    """Warn of constraints that are not proven."""
    lacking = model.constraints.keys() - proven_shapes(model).keys()
    for name in sorted(lacking):
        got = f"no proof for {name!r}"
        expected, advice = f"to be {model.constraints[name]}", "Train with {extrapolation}"
        warning = KanlensWarning(
            "fit", expected, got, advice, argument=name, extrapolation="constant"
        )
        warnings.warn(warning, stacklevel=4)
