"""Linear least squares: errors, elimination, pairs of terms, splines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from kanlens._runtime import check_time
from kanlens.discovery import _settings as tuned
from kanlens.splines import _spline as spline

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ErrorScale:
    """Scale of errors: absolute, or asinh(value / unit), a signed logarithm."""

    unit: float = 0.0  # 0 for absolute errors

    @classmethod
    def of(cls, target: Array) -> ErrorScale:
        """Return the logarithmic scale for a target that spans decades, else the absolute one."""
        low, high = decades(target)
        return cls(10.0**low) if np.isfinite(low) and high - low > tuned.DECADES else ABSOLUTE

    def __call__(self, values: Array) -> Array:
        """Return values on this scale."""
        return np.arcsinh(values / self.unit) if self.unit else values


ABSOLUTE = ErrorScale()


def relative_error(values: Array, target: Array, scale: ErrorScale = ABSOLUTE) -> float:
    """Return the mean squared error over the variance; infinite if not finite."""
    with np.errstate(all="ignore"):
        values, target = scale(values), scale(target)
        error = float(np.mean(np.square(values - target)))
    spread = float(np.var(target))
    if not np.isfinite(error):
        return float("inf")
    return error / spread if spread > 0 else (0.0 if error == 0 else float("inf"))


def quick_error(matrix: Array, target: Array, held_out: Array) -> float:
    """Fit by normal equations and return the relative held-out error."""
    return quick_errors(matrix, [target], held_out)[0]


def quick_errors(matrix: Array, targets: Sequence[Array], held_out: Array) -> list[float]:
    """Return the `quick_error` of every target."""
    check_time()
    scaled, values = matrix / _sizes(matrix), np.stack(targets, axis=1)
    rows = scaled[~held_out]
    gram = rows.T @ rows
    gram[np.diag_indices_from(gram)] += tuned.RIDGE * len(rows)
    try:
        solution = np.linalg.solve(gram, rows.T @ values[~held_out])
    except np.linalg.LinAlgError:
        return [float("inf")] * len(targets)
    judged = held_out if held_out.any() else ~held_out
    fits = scaled[judged] @ solution
    return [relative_error(*pair) for pair in zip(fits.T, values[judged].T, strict=True)]


def weighted(weights: Array | None, matrix: Array, target: Array) -> tuple[Array, Array]:
    """Multiply rows of a least-squares problem by weights, if there are any."""
    return (matrix, target) if weights is None else (matrix * weights[:, None], target * weights)


def solve(matrix: Array, target: Array) -> Array:
    """Return least-squares coefficients; columns are scaled to unit size first."""
    check_time()
    size = _sizes(matrix)
    return np.asarray(np.linalg.lstsq(matrix / size, target, rcond=tuned.RIDGE)[0] / size)


def _sizes(matrix: Array) -> Array:
    """Return the root mean square of every column; 1 for columns of zeros."""
    size = np.sqrt(np.mean(np.square(matrix), axis=0))
    return np.where(size > 0, size, 1.0)


def eliminate(
    matrix: Array, target: Array, groups: Array | None = None, *, ridge: float = tuned.RIDGE
) -> list[tuple[float, list[int]]]:
    """Drop groups of columns one by one, always the least important.

    `groups` numbers the group of each column from 0; by default, each column is one. The ridge is
    relative to the largest singular value. Each step's relative squared error and remaining groups
    are returned, the best by the Bayesian information criterion first.
    """
    groups = np.arange(matrix.shape[1]) if groups is None else groups
    packed: Any = np.linalg.qr(np.column_stack((matrix / _sizes(matrix), target)), mode="r")
    rows, spread = len(target), float(np.var(target)) or 1.0
    active = sorted({int(g) for g in groups})
    scored: list[tuple[float, tuple[float, list[int]]]] = []
    while True:
        check_time()
        columns = np.isin(groups, active)
        error, losses = _losses(packed, groups, columns, active, ridge)
        share = max(error / rows / spread, tuned.FLOOR)
        score = rows * np.log(share) + int(columns.sum()) * np.log(rows)
        scored.append((score, (share, list(active))))
        if len(active) < 2:
            return [selection for _, selection in sorted(scored, key=lambda pair: pair[0])]
        active.remove(min(active, key=lambda g: losses[g]))


def _losses(
    packed: Array, groups: Array, columns: Array, active: list[int], ridge: float
) -> tuple[float, dict[int, float]]:
    """Return the squared error with the active groups, and the increase without each."""
    part, right = packed[:, :-1][:, columns], packed[:, -1]
    u, s, vt = np.linalg.svd(part, full_matrices=False)
    damped = np.square(s) + (ridge * s[0]) ** 2
    coefficients = vt.T @ (s / damped * (u.T @ right))
    residual = right - part @ coefficients
    inverse = (vt.T / damped) @ vt
    mine = groups[columns]
    if len(mine) == len(active):  # one column each
        gains = np.square(coefficients) / np.maximum(np.diag(inverse), np.finfo(float).tiny)
        return float(residual @ residual), dict(zip(mine.tolist(), gains.tolist(), strict=True))
    losses = {}
    for g in active:
        which = mine == g
        c = coefficients[which]
        block = inverse[np.ix_(which, which)]
        losses[g] = float(c @ np.linalg.lstsq(block, c, rcond=tuned.RIDGE)[0])
    return float(residual @ residual), losses


def best_pairs(matrix: Array, target: Array) -> list[tuple[float, tuple[int, int]]]:
    """Return relative squared errors and columns of the best sums of two and a constant."""
    centered = matrix - matrix.mean(axis=0)
    size = np.sqrt(np.square(centered).sum(axis=0))
    centered = centered / np.where(size > 0, size, 1.0)
    y = target - target.mean()
    y = y / (np.sqrt(y @ y) or 1.0)
    gram, right = centered.T @ centered, centered.T @ y
    i, j = np.triu_indices(len(right), 1)
    cross = gram[i, j]
    determinant = np.maximum(1 - cross**2, 1e-9)
    gain = (right[i] ** 2 + right[j] ** 2 - 2 * cross * right[i] * right[j]) / determinant
    pairs = []
    for k in np.argsort(-gain)[: tuned.PAIRS_COMPARED]:
        pair = centered[:, [i[k], j[k]]]
        residual = y - pair @ np.linalg.lstsq(pair, y, rcond=None)[0]
        pairs.append((float(residual @ residual), (int(i[k]), int(j[k]))))
    return sorted(pairs)


class Basis:
    """Cubic B-splines on the range of a column; half of the knots are even, half are quantiles."""

    def __init__(self, x: Array, pieces: int) -> None:
        values = np.unique(x)
        self.low, self.high = float(values[0]), float(values[-1])
        self.degree = 3 if len(values) > 3 else max(1, len(values) - 1)
        places = np.linspace(0.0, 1.0, max(1, min(pieces, len(values) - 3)) + 1)
        even = self.low + (self.high - self.low) * places
        cuts = 0.5 * even + 0.5 * np.quantile(x, places)
        self.knots = spline.extend(torch.from_numpy(cuts)[None], self.degree)  # (1, knot)

    def at(self, x: Array) -> Array:
        """Evaluate every B-spline, (row, basis)."""
        points = torch.from_numpy(np.ascontiguousarray(np.clip(x, self.low, self.high)))[:, None]
        return np.asarray(spline.basis(points, self.knots, self.degree)[:, 0].numpy())

    @property
    def grid(self) -> Array:
        """Points spread evenly over the range."""
        return np.linspace(self.low, self.high, tuned.GRID_POINTS)


def varies(x: Array) -> bool:
    """Return whether a column varies by more than rounding."""
    return bool(np.ptp(x) > 1e-12 * (np.abs(x).max() + 1e-300))


def away(values: Array, share: float | Array = tuned.DIVISOR) -> Any:
    """Return whether the absolute values of each column, without outliers, stay away from zero."""
    size = np.abs(values)
    least, most = size.min(axis=0), size.max(axis=0)
    if np.all(least > share * most):
        return least > share * most
    low, high = decades(size)
    return least > share * np.where(high - low > tuned.DECADES, 10.0**low, most)


def decades(values: Array) -> tuple[Any, Any]:
    """Return the decimal logarithms of a low and a high quantile of each column's |values|."""
    with np.errstate(divide="ignore"):
        low, high = np.log10(np.quantile(np.abs(values), tuned.CORE, axis=0))
    return low, high


def spread_rows(count: int, most: int) -> Array:
    """Return the indices of at most `most` rows, spread evenly."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
