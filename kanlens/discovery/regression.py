"""Linear least squares, judged on held-out rows: splines of a column, terms dropped by BIC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kanlens.discovery import settings as tuned
from kanlens.long_work import check_time
from kanlens.splines import spline

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ErrorScale:
    """Scale of errors: absolute, or asinh(value / unit), a logarithm with a sign."""

    unit: float = 0.0  # 0 for absolute errors

    @classmethod
    def of(cls, target: Array) -> ErrorScale:
        """Return the logarithmic scale of a target over many decades, else the absolute one."""
        low, high = decades(target)
        return cls(10.0**low) if np.isfinite(low) and high - low > tuned.DECADES else ABSOLUTE

    def __call__(self, values: Array) -> Array:
        """Return values on this scale."""
        return np.arcsinh(values / self.unit) if self.unit else values


ABSOLUTE = ErrorScale()


def relative_error(values: Array, target: Array, scale: ErrorScale = ABSOLUTE) -> float:
    """Return the mean squared error over the variance; infinite where something is not finite."""
    with np.errstate(all="ignore"):
        values, target = scale(values), scale(target)
        error = float(np.mean(np.square(values - target)))
    spread = float(np.var(target))
    if not np.isfinite(error):
        return float("inf")
    return error / spread if spread > 0 else (0.0 if error == 0 else float("inf"))


def quick_error(matrix: Array, target: Array, held_out: Array) -> float:
    """Fit on some rows by normal equations and return the relative error on the others."""
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
    made = scaled[judged] @ solution
    return [relative_error(*pair) for pair in zip(made.T, values[judged].T, strict=True)]


def weighted(weights: Array | None, matrix: Array, target: Array) -> tuple[Array, Array]:
    """Multiply rows of a least-squares problem by weights; None for weights of 1."""
    return (matrix, target) if weights is None else (matrix * weights[:, None], target * weights)


def solve(matrix: Array, target: Array) -> Array:
    """Return least-squares coefficients, columns scaled to unit size first."""
    check_time()
    size = _sizes(matrix)
    return np.asarray(np.linalg.lstsq(matrix / size, target, rcond=tuned.RIDGE)[0] / size)


def _sizes(matrix: Array) -> Array:
    """Return the root mean square of every column, 1 for those of zeros."""
    size = np.sqrt(np.mean(np.square(matrix), axis=0))
    return np.where(size > 0, size, 1.0)


@dataclass(frozen=True, eq=False)
class Selection:
    """The groups of columns that a fit keeps, and its relative squared error."""

    groups: tuple[int, ...]
    error: float


def eliminate(
    matrix: Array, target: Array, groups: Array | None = None, *, ridge: float = tuned.RIDGE
) -> list[Selection]:
    """Drop groups of columns one by one, always the one that is missed least.

    `groups` numbers the group of each column from 0; default: each column is one. The ridge is in
    parts of the largest singular value. Selections are sorted by the Bayesian information
    criterion, best first.
    """
    groups = np.arange(matrix.shape[1]) if groups is None else groups
    packed: Any = np.linalg.qr(np.column_stack((matrix / _sizes(matrix), target)), mode="r")
    rows, spread = len(target), float(np.var(target)) or 1.0
    kept = sorted({int(g) for g in groups})
    scored: list[tuple[float, Selection]] = []
    while True:
        check_time()
        columns = np.isin(groups, kept)
        error, losses = _losses(packed, groups, columns, kept, ridge)
        share = max(error / rows / spread, tuned.FLOOR)
        score = rows * np.log(share) + int(columns.sum()) * np.log(rows)
        scored.append((score, Selection(tuple(kept), share)))
        if len(kept) < 2:
            return [selection for _, selection in sorted(scored, key=lambda pair: pair[0])]
        kept.remove(min(kept, key=lambda g: losses[g]))


def _losses(
    packed: Array, groups: Array, columns: Array, kept: list[int], ridge: float
) -> tuple[float, dict[int, float]]:
    """Return the squared error with all kept groups, and by how much each lowers it."""
    part, right = packed[:, :-1][:, columns], packed[:, -1]
    u, s, vt = np.linalg.svd(part, full_matrices=False)
    damped = np.square(s) + (ridge * s[0]) ** 2
    coefficients = vt.T @ (s / damped * (u.T @ right))
    residual = right - part @ coefficients
    inverse = (vt.T / damped) @ vt
    mine = groups[columns]
    if len(mine) == len(kept):  # one column each
        gains = np.square(coefficients) / np.maximum(np.diag(inverse), np.finfo(float).tiny)
        return float(residual @ residual), dict(zip(mine.tolist(), gains.tolist(), strict=True))
    losses = {}
    for g in kept:
        which = mine == g
        c = coefficients[which]
        block = inverse[np.ix_(which, which)]
        losses[g] = float(c @ np.linalg.lstsq(block, c, rcond=tuned.RIDGE)[0])
    return float(residual @ residual), losses


def best_pairs(matrix: Array, target: Array) -> list[tuple[float, tuple[int, int]]]:
    """Return the pairs of columns that with a constant fit a target best, after their errors."""
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


@dataclass(frozen=True, eq=False)
class Basis:
    """Cubic B-splines on the range of one column, as columns of a least-squares problem."""

    knots: Tensor  # (1, knot)
    degree: int
    low: float
    high: float

    @classmethod
    def of(cls, x: Array, pieces: int) -> Basis:
        """Lay knots over a column: half evenly, half where its values are."""
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
        return np.linspace(self.low, self.high, tuned.GRID_POINTS)


def varies(x: Array) -> bool:
    """Return whether a column has more than one value, beyond rounding."""
    return bool(np.ptp(x) > 1e-12 * (np.abs(x).max() + 1e-300))


def away(values: Array, share: float | Array = tuned.DIVISOR) -> Any:
    """Return whether each column keeps away from zero, by a share of its typical size.

    That is the largest, and the smallest but for a few of a column over many decades.
    """
    size = np.abs(values)
    least, most = size.min(axis=0), size.max(axis=0)
    if np.all(least > share * most):
        return least > share * most
    low, high = decades(size)
    return least > share * np.where(high - low > tuned.DECADES, 10.0**low, most)


def decades(values: Array) -> tuple[Any, Any]:
    """Return the decimal logarithms of the sizes between which nearly all of a column lie."""
    with np.errstate(divide="ignore"):
        low, high = np.log10(np.quantile(np.abs(values), tuned.CORE, axis=0))
    return low, high


def spread_rows(count: int, most: int) -> Array:
    """Return the numbers of at most so many rows, spread evenly."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
