"""Least squares with a judgement: fits on some rows, errors on the others, terms dropped by BIC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from kanlens.deadlines import check_time

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


FLOOR = 1e-22  # relative squared error that is rounding
_RIDGE = 1e-13


def relative_error(values: Array, target: Array) -> float:
    """Return the mean squared error over the variance; infinite where something is not finite.

    Examples
    --------
    >>> relative_error(np.zeros(2), np.array([-1.0, 1.0]))
    1.0
    """
    with np.errstate(all="ignore"):
        error = float(np.mean(np.square(values - target)))
    spread = float(np.var(target))
    if not np.isfinite(error):
        return float("inf")
    return error / spread if spread > 0 else (0.0 if error == 0 else float("inf"))


def quick_error(matrix: Array, target: Array, held_out: Array) -> float:
    """Fit on some rows by normal equations and return the relative error on the others.

    Parameters
    ----------
    matrix : ndarray, shape (row, column)
    target : ndarray, shape (row,)
    held_out : ndarray of bool, shape (row,)

    Returns
    -------
    float
    """
    check_time()
    size = np.sqrt(np.mean(np.square(matrix), axis=0))
    scaled = matrix / np.where(size > 0, size, 1.0)
    rows = scaled[~held_out]
    gram = rows.T @ rows
    gram[np.diag_indices_from(gram)] += _RIDGE * len(rows)
    try:
        solution = np.linalg.solve(gram, rows.T @ target[~held_out])
    except np.linalg.LinAlgError:
        return float("inf")
    judged = held_out if held_out.any() else ~held_out
    return relative_error(scaled[judged] @ solution, target[judged])


def weighted(weights: Array | None, matrix: Array, target: Array) -> tuple[Array, Array]:
    """Multiply rows of a least-squares problem by weights; None for weights of 1.

    Examples
    --------
    >>> weighted(np.array([2.0]), np.array([[1.0, 3.0]]), np.array([5.0]))
    (array([[2., 6.]]), array([10.]))
    """
    if weights is None:
        return matrix, target
    return matrix * weights[:, None], target * weights


def solve(matrix: Array, target: Array) -> Array:
    """Return least-squares coefficients, columns scaled to unit size first."""
    check_time()
    size = np.sqrt(np.mean(np.square(matrix), axis=0))
    size = np.where(size > 0, size, 1.0)
    found = np.linalg.lstsq(matrix / size, target, rcond=1e-13)[0]
    return np.asarray(found / size)


@dataclass(frozen=True, eq=False)
class Selection:
    """The groups of columns that a fit needs.

    Attributes
    ----------
    groups : tuple of int
        Which are kept.
    error : float
        Relative squared error on the fitted rows.
    """

    groups: tuple[int, ...]
    error: float


def eliminate(
    matrix: Array, target: Array, groups: Array, *, ridge: float = 1e-13
) -> list[Selection]:
    """Drop groups of columns one by one, always the one that is missed least.

    Parameters
    ----------
    matrix : ndarray, shape (row, column)
    target : ndarray, shape (row,)
    groups : ndarray of int, shape (column,)
        The group of each column, counted from 0.
    ridge : float
        Damping, in parts of the largest singular value; columns that say the same need some.

    Returns
    -------
    list of Selection
        By the Bayesian information criterion, best first.
    """
    size = np.sqrt(np.mean(np.square(matrix), axis=0))
    scaled = matrix / np.where(size > 0, size, 1.0)
    packed: Array = np.asarray(np.linalg.qr(np.column_stack((scaled, target)), mode="r"))
    rows, spread = len(target), float(np.var(target)) or 1.0
    kept = sorted({int(g) for g in groups})
    found: list[tuple[float, Selection]] = []
    while True:
        check_time()
        columns = np.isin(groups, kept)
        error, losses = _losses(packed, groups, columns, kept, ridge)
        share = max(error / rows / spread, FLOOR)
        score = rows * np.log(share) + int(columns.sum()) * np.log(rows)
        found.append((score, Selection(tuple(kept), share)))
        if len(kept) < 2:
            break
        least = min(kept, key=lambda g: losses[g])
        kept = [g for g in kept if g != least]
    return [selection for _, selection in sorted(found, key=lambda pair: pair[0])]


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
    losses = {}
    for g in kept:
        which = mine == g
        c = coefficients[which]
        losses[g] = float(c @ np.linalg.lstsq(inverse[np.ix_(which, which)], c, rcond=1e-13)[0])
    return float(residual @ residual), losses
