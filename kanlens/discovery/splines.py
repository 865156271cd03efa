"""Cubic splines of one column, as columns of a least-squares problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanlens.discovery.regression import Array
from kanlens.splines import spline

GRID_POINTS = 128  # where a fitted curve is handed on


@dataclass(frozen=True, eq=False)
class Basis:
    """B-splines on the range of one column.

    Attributes
    ----------
    knots : Tensor, shape (1, knot)
    degree : int
    low, high : float
        The range.
    """

    knots: Tensor
    degree: int
    low: float
    high: float

    @classmethod
    def of(cls, x: Array, pieces: int) -> Basis:
        """Lay knots over a column: half evenly, half where its values are.

        Examples
        --------
        >>> Basis.of(np.linspace(0.0, 1.0, 50), 5).at(np.zeros(1)).shape
        (1, 8)
        """
        values = np.unique(x)
        low, high = float(values[0]), float(values[-1])
        count = max(1, min(pieces, len(values) - 3))
        degree = 3 if len(values) > 3 else max(1, len(values) - 1)
        places = np.linspace(0.0, 1.0, count + 1)
        cuts = 0.5 * (low + (high - low) * places) + 0.5 * np.quantile(x, places)
        knots = spline.extend(torch.from_numpy(cuts)[None], degree)
        return cls(knots, degree, low, high)

    def at(self, x: Array) -> Array:
        """Evaluate every B-spline, (row, basis)."""
        points = torch.from_numpy(np.ascontiguousarray(np.clip(x, self.low, self.high)))[:, None]
        return np.asarray(spline.basis(points, self.knots, self.degree)[:, 0].numpy())

    @property
    def grid(self) -> Array:
        """Points spread evenly over the range."""
        return np.linspace(self.low, self.high, GRID_POINTS)


def varies(x: Array) -> bool:
    """Say whether a column has more than one value, beyond rounding."""
    return bool(np.ptp(x) > 1e-12 * (np.abs(x).max() + 1e-300))
