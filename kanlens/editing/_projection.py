"""Splines nearest to a function, in the mean square at the inputs of an edge, under constraints.

The control points of a spline's derivative are differences of its control points [1]_: if these
have one sign, so has the derivative, and only then for splines up to degree 2 (3 for the second
derivative).

References
----------
.. [1] C. de Boor, A Practical Guide to Splines, 1978, chapters X and XI.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kanlens.data._cell_parsing import Array
from kanlens.model._kan_linear import KANLinear
from kanlens.model._terms import SPLINE
from kanlens.splines import _spline as spline
from kanlens.training._constraints import inequalities, nearest_feasible, shaped

EVEN = 1e-9  # weight of the grid over that of the rows; determines intervals without rows
PER_INTERVAL = 8  # points of the grid in each interval


class EdgeProjection:
    """Fits of splines to a function at inputs `u` (row,), on the grid of one input of a layer.

    `cuts` are the breakpoints, `greville` (basis,) the coefficients of the identity function.
    """

    def __init__(
        self,
        layer: KANLinear,
        in_: int,
        u: Array,
        function: Callable[[Array], Array],
        *,
        even: float = EVEN,
    ) -> None:
        knots, self.degree = layer.grid[[in_]].double().cpu(), layer.spline_order
        self.knots: Array = knots[0].numpy()
        self.cuts: Array = spline.breakpoints(knots, self.degree)[0].numpy()
        self.greville: Array = spline.greville(knots, self.degree)[0].numpy()
        places = np.arange(PER_INTERVAL * layer.grid_size + 1) / PER_INTERVAL
        grid = np.interp(places, np.arange(len(self.cuts)), self.cuts)
        points = torch.from_numpy(np.concatenate([u, grid]))[:, None]
        mode = layer.extrapolation
        basis = spline.basis(points, knots, self.degree, extrapolation=mode)[:, 0].numpy()
        self._system = np.column_stack([basis, function(points[:, 0].numpy())])
        shares = np.repeat([1 / max(len(u), 1), even / len(grid)], [len(u), len(grid)])
        reduced = np.asarray(np.linalg.qr(self._system * np.sqrt(shares)[:, None], mode="r"))
        self._matrix, self._target = reduced[:, :-1], reduced[:, -1]

    def error(self, coefficients: Array) -> float:
        """Return the largest difference of a spline from the function, on rows and grid."""
        return float(np.abs(self._system @ [*coefficients, -1.0]).max())

    def distance(self, coefficients: Array) -> float:
        """Return the root mean square difference of a spline from the function."""
        return float(np.linalg.norm(self._matrix @ coefficients - self._target))

    def nearest(self) -> Array:
        """Return the coefficients of the nearest spline, without constraints."""
        return self._solve(np.eye(len(self.greville)))

    def shaped(self, shape: str) -> Array:
        """Return the nearest spline whose control points have a shape, such as "increasing"."""
        cone, root = inequalities(self.greville, shape), np.linalg.inv(self._matrix[:-1])
        return shaped(self.greville, nearest_feasible(self.nearest(), root, cone), shape)

    def smooth(self, strength: float) -> Array:
        """Return the nearest spline, with changes of slope between control points penalized."""
        places, identity = np.diff(self.greville)[:, None], np.eye(len(self.greville))
        rough = np.diff(np.diff(identity, axis=0) / places, axis=0) * places.mean()
        matrix = np.vstack([self._matrix, np.sqrt(strength) * rough])
        target = np.append(self._target, np.zeros(len(rough)))
        return np.asarray(np.linalg.lstsq(matrix, target, rcond=None)[0])

    def flat_outside(self, low: float, high: float) -> Array:
        """Return the nearest spline that is constant below `low` and above `high`."""
        order = self.degree + 1
        below, above = self.knots[:-order] < low, self.knots[order:] > high
        inner = np.eye(len(below))[:, ~(below | above)]
        ends = [part[:, None] for part in (below, above & ~below) if part.any()]
        return self._solve(np.column_stack([*ends, inner]).astype(np.float64))

    def _solve(self, free: Array) -> Array:
        """Return the best spline coefficients in the span of the columns of `free`."""
        return np.asarray(free @ np.linalg.lstsq(self._matrix @ free, self._target, rcond=None)[0])


def write_spline(layer: KANLinear, out: int, in_: int, coefficients: Array) -> None:
    """Replace a whole edge with a spline; a masked edge stays masked."""
    if layer.functions[out][in_] != SPLINE:
        layer.assign(out, in_, SPLINE)
    layer.spline_weight[out, in_] = torch.from_numpy(coefficients).to(layer.spline_weight)
    layer.base_weight[out, in_] = 0.0
    if layer.enable_standalone_scale_spline:
        layer.spline_scaler[out, in_] = 1.0
    if layer.series:
        layer.series_weight[out, in_] = 0.0
