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
from typing import TypeAlias

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
    "periodic": (-1, 1.0),  # difference between the ends, which is 0
}
ROUNDING = 1e-12  # of the range of a curve
Bounds: TypeAlias = Sequence[tuple[Tensor, Tensor]]  # of slopes of the edges of each layer


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
        if not isinstance(shape, str):
            expected, advice = f"the shapes of {name!r} as text", "For example 'increasing concave'"
            raise InvalidValueError("fit", expected, repr(shape), advice, "leave the column out")
        for word in shape.split() or [""]:
            check_choice("fit", "constraints", word, SHAPES)
        own = {SHAPES[word] for word in shape.split()}
        flat = {(1, 1.0), (1, -1.0)} <= own or {(0, 1.0), (0, -1.0)} <= own
        if flat or ("periodic" in shape and any(order > 0 for order, _ in own)):
            expected, got = "shapes that do not make a curve constant", f"{shape!r} of {name!r}"
            raise InvalidValueError("fit", expected, got, "Leave one of them out")
        if name not in numbers:
            expected, got = "constraints of numeric columns", f"{name!r}, which has categories"
            raise InvalidValueError("fit", expected, got, "Leave it out")
    return dict(constraints or {})


class MonotonePaths:
    """Projection after gradient steps by which paths from constrained columns stay monotone [2]_.

    Edges from these columns get ordered control points and no base function; edges after them
    increase.
    """

    def __init__(self, model: KAN, constraints: Mapping[str, str] | None) -> None:
        shapes = read_constraints(constraints, model.schema.features)
        self.model, self.signs = model, list[Tensor]()
        sums = all(nodes.plain for nodes in model.nodes)
        sums = sums and all(layer.splines_alone for layer in model.layers)
        if shapes and not (sums and set(shapes.values()) <= {"increasing", "decreasing"}):
            expected = "increasing or decreasing constraints on a network of sums of splines"
            advice = "Train by fit_default with hidden=(), or with max_edges"
            raise InvalidValueError("fit", expected, repr(shapes), advice)
        model.constraints = shapes
        words = [shapes.get(f.column, "") * (f.kind == "numeric") for f in model.schema.features]
        signs = torch.tensor([SHAPES[word][1] if word else 0.0 for word in words])
        for layer in model.layers if shapes else ():
            self.signs.append(signs.to(layer.grid))
            signs = (layer.mask[:, signs != 0] != 0).any(1).float()

    @torch.no_grad()
    def keep(self) -> None:
        """Replace control points by the mean of the nearest ordered ones above and below them."""
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
    """Return whether a shape is convex or concave, and so linear beyond the data."""
    return any(order == 2 for order, _ in orders(shape))


def fixed_places(model: KAN, shape: str, feature: int) -> Array:
    """Return a feature's scaled low end, 0 and high end (3,) if a shape needs them, else (0,)."""
    if all(order > 0 for order, _ in orders(shape)):
        return np.zeros(0)
    ends = torch.tensor([[-torch.inf], [0.0], [torch.inf]]).to(model.input_scale)
    places = model.scale_inputs(ends.expand(-1, len(model.input_scale)))[:, feature]
    return np.asarray(places.double().cpu())


def settle_ends(model: KAN, x: Tensor) -> None:
    """Set the range of features: unlimited if convex or concave, that of x (batch, in) if periodic.

    Curves are constant beyond the range.
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
    """Return the matrix (inequality, breakpoint) whose product with heights must be at least 0."""
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
    """Return the x (p,) nearest to `point` for which ``cone @ x >= 0``, up to rounding.

    The norm is that of the inverse of ``root @ root.T``.
    """
    from scipy.optimize import nnls

    slack = cone @ point
    if (slack >= 0).all():
        return point
    moved = root.T @ cone.T  # (p, inequality)
    sizes = np.maximum(np.sqrt((moved**2).sum(0)), 1e-300)
    moved, slack = moved / sizes, slack / sizes
    scale = float(abs(slack).max())
    system = np.vstack([moved, -slack / scale])
    target = np.append(np.zeros(len(point)), 1.0)
    weights, _ = nnls(system, target, maxiter=30 * len(slack))
    rest = system @ weights - target
    return np.asarray(point - root @ (rest[:-1] / rest[-1] * scale))


def shaped(knots: Array, heights: Array, shape: str, zero: float = 0.0) -> Array:
    """Return heights of exactly a shape, given heights that have it up to rounding."""
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
    """Return the constraints that are proven for all outputs at all values of all columns.

    Edges of the column have its shape; later edges increase (linearly if it is convex or concave).
    """
    if not model.constraints or bool((model.output_scale <= 0).any()):
        return {}
    model, features = float64_copy(model), model.schema.features
    places = {f.column: k for k, f in enumerate(features) if f.kind == "numeric"}
    ends = [torch.full_like(layer.grid[:, 0], MAX_COORDINATE) for layer in model.layers]
    slopes = [own.edge_slope_bounds(-far, far) for own, far in zip(model.layers, ends, strict=True)]
    return {
        column: shape
        for column, shape in model.constraints.items()
        if column in places
        and all(_holds(model, slopes, places[column], word) for word in shape.split())
    }


def _holds(model: KAN, slopes: Bounds, place: int, word: str) -> bool:
    """Return whether the shape `word` of feature `place` is proven by bounds of all slopes."""
    order, sign = SHAPES[word]
    lower, upper = (end[:, place] for end in slopes[0])
    holds = order != 1 or bool((sign * (lower if sign > 0 else upper) >= 0).all())
    reached = model.layers[0].mask[:, place] != 0
    for level, nodes in enumerate(model.nodes):
        if nodes.scaled or bool(reached[nodes.apart :].any()):  # products, and normalized nodes
            return False
        reached = reached.nonzero()[:, 0]
        for lower, upper in slopes[level + 1 : level + 2]:
            rising = (lower >= 0) | (order < 0)
            if order == 2:  # straight
                rising = rising & (lower >= (1 - ROUNDING) * upper)
            holds &= bool(rising[:, reached].all())
            reached = (model.layers[level + 1].mask[:, reached] != 0).any(1)
    return holds and (order == 1 or _is_shaped(model, place, word))


def _is_shaped(model: KAN, place: int, word: str) -> bool:
    """Return whether the edges of a feature have a shape, up to rounding."""
    layer, (order, _) = model.layers[0], SHAPES[word]
    fixed = fixed_places(model, word, place)
    if order == 2 and bool(model.input_low[place].isfinite() | model.input_high[place].isfinite()):
        return False
    for out in (layer.mask[:, place] != 0).nonzero()[:, 0].tolist():
        edge = layer.edge(out, place)
        if edge.degree != 1 or edge.functions.functions or edge.extrapolation != "linear":
            return False
        knots, heights = edge.knots[1:-1], edge.coefficients
        away = np.abs(knots - fixed[:, None]).min(1)
        off = np.abs(shaped(knots, heights, word, *fixed[1:2]) - heights)
        if (away > ROUNDING * np.ptp(knots)).any() or (off > ROUNDING * np.ptp(heights)).any():
            return False
    return True


def check_proven(model: KAN) -> None:
    """Warn of constraints that are not proven."""
    for name in sorted(model.constraints.keys() - proven_shapes(model).keys()):
        expected, got = f"to be {model.constraints[name]}", f"no proof for {name!r}"
        fields = "fit", expected, got, "Train with {extrapolation}"
        words = {"argument": name, "extrapolation": "constant"}
        warnings.warn(KanlensWarning(*fields, **words), stacklevel=4)
