"""A target that depends on one column: a smooth curve through it, and formulas of that curve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import sympy

from kanlens.discovery.atoms import atoms_on
from kanlens.discovery.curves import U, fit_curves
from kanlens.discovery.front import Front
from kanlens.discovery.problems import TRANSFORMS, Problem, Transform
from kanlens.discovery.quotients import function_ratio_formulas
from kanlens.discovery.regression import Array, quick_error, relative_error, solve
from kanlens.discovery.splines import GRID_POINTS, Basis
from kanlens.symbolic.composition import Expr, evaluator

_PIECES = (2, 4, 8, 16, 32, 64, 100)
_OFFERED = 10
_OFFERED_NOISY = 24  # where noise leaves many formulas as good
_NOISY = 1e-5  # error of a curve that is not for want of pieces
_PAIRS = 3
_SMALL, _NARROW = 0.03, 0.8  # of a curve's largest value, of its range
_LOST = 0.05  # error of a curve that is no start for a refit
_RATES = (-6.0, -3.0, -2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0, 3.0, 6.0)
_ENDS = (0.005, 0.995)  # of the column's values, between which the curve is written as a formula


def smooth_curve(problem: Problem) -> tuple[Callable[[Array], Array], float]:
    """Return a smooth function through the target of the only column, and its error.

    The spline is laid where it fits best: through the target, its logarithm or its inverse, over
    the column or its logarithm.
    """
    x, held_out = problem.columns[:, 0], problem.held_out
    rows = int((~held_out).sum())
    best, found = float("inf"), _nowhere
    for transform in TRANSFORMS[:3]:
        if not transform.fits(problem.target):
            continue
        target = transform.value(problem.target)
        side = -1.0 if transform.name == "log" and (problem.target < 0).all() else 1.0
        for scale in (np.log, np.asarray) if problem.positive[0] else (np.asarray,):
            for pieces in _PIECES:
                if pieces > max(2, rows // 3):
                    break
                basis = Basis.of(scale(x), pieces)
                matrix = basis.at(scale(x))
                error = quick_error(matrix, target, held_out)
                if error < 0.8 * best:
                    best = error
                    found = partial(_spline, transform, side, scale, basis, solve(matrix, target))
    return found, best


def _spline(
    transform: Transform,
    side: float,
    scale: Callable[[Array], Array],
    basis: Basis,
    coefficients: Array,
    x: Array,
) -> Array:
    return np.asarray(side * transform.inverse(basis.at(scale(x)) @ coefficients))


def _nowhere(x: Array) -> Array:
    return np.full(len(x), np.nan)


def windows(problem: Problem, curve: Callable[[Array], Array]) -> tuple[Array, list[Array]]:
    """Return even points of the column, and the curve there.

    First over the whole range; where the curve falls to a small part of its largest value, also
    over the part of the range where it does not.

    Returns
    -------
    tuple of ndarray (window, point) and list of ndarray (point,)
    """
    low, high = np.quantile(problem.columns[:, 0], _ENDS)
    grids = [np.linspace(low, high, GRID_POINTS)]
    with np.errstate(all="ignore"):
        size = np.abs(curve(grids[0]))
    large = np.flatnonzero(size > _SMALL * size.max())
    if len(large) > 1 and large[-1] - large[0] < _NARROW * GRID_POINTS:
        grids.append(np.linspace(grids[0][large[0]], grids[0][large[-1]], GRID_POINTS))
    with np.errstate(all="ignore"):
        return np.stack(grids), [curve(grid) for grid in grids]


def curve_formulas(problem: Problem, front: Front, *, deep: bool = True) -> None:
    """Offer formulas of a target of one column.

    Parameters
    ----------
    problem : Problem
        Of one column.
    front : Front
    deep : bool
        Whether to try functions under and over the elementary ones, and sums of two.
    """
    if not front.is_new(U, *problem.key, sympy.Integer(int(deep))):
        return
    if deep and not front.done:
        _offer_pairs(problem, front)
    curve, error = smooth_curve(problem)
    grids, values = windows(problem, curve)
    if error > 0.5 or front.done or not all(np.isfinite(v).all() for v in values):
        return
    outer = (
        ("id", "log", "inv", "sq", "invsq", "sqrt", "invsqrt", "exp", "sinh") if deep else ("id",)
    )
    inner = ("id", "sq", "inv", "sqrt", "log", "exp") if deep else ("id", "sq")
    epsilon = float(np.clip(error, 1e-10, 1e-2))
    kept = _OFFERED_NOISY if deep and error > _NOISY else _OFFERED
    options = fit_curves(grids, values, outer=outer, inner=inner, epsilon=epsilon, kept=kept)
    for option in (each for turn in zip(*options, strict=True) for each in turn):
        if not front.done and option.error < _LOST:
            front.offer(problem.rebuild(option.expression.subs(U, problem.names[0])))
    if deep:
        for grid, value in zip(grids, values, strict=True):
            if not front.done:
                _offer_products(problem, grid, value, epsilon, front)
        function_ratio_formulas(problem, front)


def _offer_products(
    problem: Problem, grid: Array, values: Array, epsilon: float, front: Front
) -> None:
    """Offer products of a power or an exponential and another function."""
    factors = multipliers(grid)
    if not factors:
        return
    with np.errstate(all="ignore"):
        divided = [values / factor for factor, _ in factors]
    pairs = [(v, name) for v, (_, name) in zip(divided, factors, strict=True) if np.ptp(v) > 0]
    options = fit_curves(
        np.repeat(grid[None], len(pairs), axis=0),
        [v for v, _ in pairs],
        outer=("id", "inv"),
        epsilon=epsilon,
        kept=4,
    )
    every = []
    for curves, (_, name) in zip(options, pairs, strict=True):
        for curve in curves:
            made = evaluator((curve.expression * name,), (U,))(grid[:, None])[:, 0]
            error = relative_error(made, values)
            if error < _LOST:
                every.append((error, curve, name))
    every.sort(key=lambda item: replace(item[1], error=item[0]).score(epsilon))
    for _, curve, name in every[:_OFFERED]:
        if not front.done:
            front.offer(problem.rebuild((curve.expression * name).subs(U, problem.names[0])))


def multipliers(x: Array) -> list[tuple[Array, Expr]]:
    """Return factors that a function of one column may have, and their expressions of `U`.

    Powers, and exponentials whose rates are spread over what the range of the column can show.
    """
    found: list[tuple[Array, Expr]] = []
    clear = x.min() > 1e-3 * x.max() and x.min() > 0
    for power in (-3, -2, -1, 1, 2, 3):
        if power < 0 and np.abs(x).min() < 1e-9 * np.abs(x).max():
            continue
        if power < 0 or clear:
            found.append((x ** float(power), U**power))
    for rate in _RATES:
        k = 2.0 * rate / float(np.ptp(x))
        middle = float(x.mean())
        name = sympy.Float(float(np.exp(-k * middle))) * sympy.exp(sympy.Float(k) * U)
        found.append((np.exp(k * (x - middle)), name))
    return found


def _offer_pairs(problem: Problem, front: Front) -> None:
    """Offer the best sums of two functions of a fixed list, and a constant."""
    x, fitted = problem.columns[:, 0], ~problem.held_out
    atoms, matrix = atoms_on(x)
    for error, i, j in best_pairs(matrix[fitted], problem.target[fitted])[:_PAIRS]:
        if front.done or error > 0.01:
            return
        columns = np.column_stack((np.ones(len(x)), matrix[:, [i, j]]))
        c = solve(columns[fitted], problem.target[fitted])
        parts = [sympy.Float(float(c[0]))] if abs(c[0]) > 1e-9 * np.abs(c).max() else []
        for k, place in ((1, i), (2, j)):
            if abs(c[k]) > 1e-9 * np.abs(c).max():
                parts.append(sympy.Float(float(c[k])) * atoms[place].subs(U, problem.names[0]))
        front.offer(problem.rebuild(sympy.Add(*parts)))


def best_pairs(matrix: Array, target: Array) -> list[tuple[float, int, int]]:
    """Return the pairs of columns that with a constant fit a target best, best first.

    Returns
    -------
    list of (float, int, int)
        Relative squared error and the two columns.
    """
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
    order = np.argsort(-gain)[:20]
    found = []
    for k in order:
        pair = centered[:, [i[k], j[k]]]
        residual = y - pair @ np.linalg.lstsq(pair, y, rcond=None)[0]
        found.append((float(residual @ residual), int(i[k]), int(j[k])))
    return sorted(found)
