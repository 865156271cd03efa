"""Link functions: increasing cubic splines of a sum (inverse links, in the terms of a GLM).

They are linear outside their range. One that makes a response additive can replace many products
[1]_.

References
----------
.. [1] R. Weisberg and A. Welsh, Adapting for the missing link, 1994.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import BSpline

from kanlens.data._cell_parsing import Array
from kanlens.training._curve_design import DenseDesign, difference_modes
from kanlens.training._variance_components import restricted_fit

DEGREE, INTERVALS, MODES = 3, 12, 8
MIN_SLOPE = 0.05  # of a link, over that of its linear part
BEND = 1e-3  # initial variance of the nonlinear modes over that of the linear one
NOISE = 0.3  # initial error variance over the variance of the targets
POINTS = 200  # at which slopes are evaluated


@dataclass(frozen=True, eq=False)
class Link:
    """An increasing spline on even intervals between two ends, with its B-spline weights."""

    low: float
    high: float
    weights: Array

    @classmethod
    def line(cls, sums: Array) -> Link:
        """Return the identity on the range of sums (batch,)."""
        link = cls(float(sums.min()), max(float(sums.max()), float(sums.min()) + 1.0), sums[:0])
        return replace(link, weights=link.centers)

    @property
    def centers(self) -> Array:
        """Weights of the identity: means of `DEGREE` knots (Greville abscissae)."""
        return np.convolve(self.knots[1:-1], np.full(DEGREE, 1 / DEGREE), "valid")

    @property
    def knots(self) -> Array:
        """The knots, `DEGREE` of them beyond each end."""
        places = np.arange(-DEGREE, INTERVALS + DEGREE + 1)
        return self.low + (self.high - self.low) / INTERVALS * places

    def inside(self, sums: Array) -> Array:
        """Return sums (batch,) clipped to the range from `low` to `high`."""
        knots = self.knots
        return np.clip(sums, knots[DEGREE], knots[-DEGREE - 1])

    def __call__(self, sums: Array) -> Array:
        """Return the values at sums (batch,)."""
        inside = self.inside(sums)
        spline = BSpline(self.knots, self.weights, DEGREE)
        return np.asarray(spline(inside) + self.slope(inside) * (sums - inside))

    def slope(self, sums: Array) -> Array:
        """Return the slopes at sums (batch,)."""
        return np.asarray(BSpline(self.knots, self.weights, DEGREE).derivative()(self.inside(sums)))

    def stretched(self, factor: float) -> Link:
        """Return the link with the same values at `factor` times the sums."""
        return replace(self, low=self.low * factor, high=self.high * factor)


def bends(sums: Array) -> Array:
    """Return nonlinear functions (batch, mode) of sums (batch,), to test for a link."""
    link = Link(float(sums.min()), float(sums.max()), np.zeros(INTERVALS + DEGREE))
    return np.asarray(_basis(link, sums) @ difference_modes(INTERVALS + DEGREE, 2, MODES))


def fit_link(sums: Array, targets: Array, weights: Array) -> tuple[Link, float]:
    """Return the link function from sums to targets (batch,), and the slope of its linear part."""
    rows = weights > 0
    low, high = float(sums[rows].min()), float(sums[rows].max())
    link = Link(low, max(high, low + 1e-12), np.zeros(INTERVALS + DEGREE))
    line = link.centers
    modes = np.column_stack((line - line.mean(), difference_modes(len(line), 2, MODES)))
    design = DenseDesign(_basis(link, sums) @ modes, np.minimum(np.arange(1 + MODES), 1))
    equations, mean = design.equations(weights, targets)
    sizes = equations.sums(equations.diagonal)
    start = np.array([1.0, BEND]) * equations.square / np.maximum(sizes, 1e-300)
    noise = NOISE * equations.square / equations.rows
    coefficients = restricted_fit(equations, start, noise).coefficients
    level = mean - weights @ design.values(coefficients) / weights.sum()
    straight = replace(link, weights=modes[:, 0] * coefficients[0])
    bend = replace(link, weights=modes[:, 1:] @ coefficients[1:])
    points = np.linspace(low, high, POINTS)
    slope, bent = float(straight.slope(points)[0]), bend.slope(points)
    room = (1 - MIN_SLOPE) * slope / np.maximum(-bent, 1e-300)
    share = min(1.0, float(room.min()))
    return replace(link, weights=level + straight.weights + share * bend.weights), slope


def _basis(link: Link, sums: Array) -> Array:
    return BSpline.design_matrix(link.inside(sums), link.knots, DEGREE).toarray()
