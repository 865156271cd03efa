"""Shapes that curves must have: increasing, decreasing, convex or concave.

A shape of a piecewise linear curve is a set of linear inequalities of its heights at breakpoints.
The penalized least squares fit under them is the point nearest to the fit without them in the norm
of its posterior precision: a least distance problem, solved by nonnegative least squares [1]_.

References
----------
.. [1] C. Lawson and R. Hanson, Solving Least Squares Problems, 1974, chapter 23.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kanlens._checks import check_choice
from kanlens.data._cell_parsing import Array
from kanlens.data._schema import Feature
from kanlens.errors import DTypeError, InvalidValueError

SHAPES = {  # order of the differences that have a sign, and the sign
    "increasing": (1, 1.0),
    "decreasing": (1, -1.0),
    "convex": (2, 1.0),
    "concave": (2, -1.0),
}


def read_constraints(
    constraints: Mapping[str, str] | None, features: Sequence[Feature]
) -> dict[str, str]:
    """Return the shape of each constrained column."""
    if constraints is not None and not isinstance(constraints, Mapping):
        expected, advice = "constraints as a mapping", "For example {'age': 'increasing'}"
        raise DTypeError("fit", expected, type(constraints).__name__, advice)
    numbers = {f.column for f in features if f.kind == "numeric"}
    for name, shape in (constraints or {}).items():
        check_choice("fit", "constraints", name, dict.fromkeys(f.column for f in features))
        check_choice("fit", "constraints", shape, SHAPES)
        if name not in numbers:
            expected, got = "constraints of columns of numbers", f"{name!r}, which has categories"
            raise InvalidValueError("fit", expected, got, "Leave it out")
    return dict(constraints or {})


def inequalities(knots: Array, shape: str) -> Array:
    """Return the matrix (row, breakpoint) whose product with the heights must not be negative."""
    order, sign = SHAPES[shape]
    rows = np.diff(np.eye(len(knots)), axis=0) / np.diff(knots)[:, None]
    if order == 2:
        rows = np.diff(rows, axis=0)
    sizes = abs(rows).max(1, keepdims=True, initial=1e-300)
    return np.asarray(sign * rows / sizes)


def nearest_feasible(point: Array, covariance: Array, cone: Array) -> Array:
    """Return the point (p,) nearest to one with ``cone @ point >= 0``, up to rounding.

    The norm is that of the inverse of `covariance` (p, p).
    """
    from scipy.optimize import nnls

    slack = cone @ point
    if (slack >= 0).all():
        return point
    root = np.linalg.cholesky(covariance)
    moved = root.T @ cone.T  # (p, row)
    sizes = np.maximum(np.sqrt((moved**2).sum(0)), 1e-300)
    moved, slack = moved / sizes, slack / sizes
    scale = float(abs(slack).max())
    system = np.vstack([moved, -slack / scale])
    target = np.append(np.zeros(len(point)), 1.0)
    weights, _ = nnls(system, target, maxiter=30 * len(slack))
    rest = system @ weights - target
    return np.asarray(point - root @ (rest[:-1] / rest[-1] * scale))


def shaped(knots: Array, heights: Array, shape: str) -> Array:
    """Correct heights that have a shape only up to rounding."""
    order, sign = SHAPES[shape]
    if order == 1:
        return np.asarray(sign * np.maximum.accumulate(sign * heights))
    gaps = np.diff(knots)
    slopes = sign * np.maximum.accumulate(sign * np.diff(heights) / gaps)
    moved = np.append(0.0, np.cumsum(slopes * gaps))
    return np.asarray(moved + (heights - moved).mean())
