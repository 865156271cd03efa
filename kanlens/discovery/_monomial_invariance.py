"""Functions of few monomials or of a sum, by slopes of a smooth model.

With respect to the logarithms of the columns, the slopes of a function of few monomials lie in the
span of their exponents [1]_; if a monomial multiplies it, in a shifted plane. The slopes of a
function of a sum are in the same ratios as those of the sum.

References
----------
.. [1] P. G. Constantine, Active Subspaces, 2015.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.linalg import eigh

from kanlens.discovery import _settings as tuned
from kanlens.discovery._additive import ColumnSplines, by_column, column_splines
from kanlens.discovery._monomials import allowed, evaluate, monomial, simplest
from kanlens.discovery._regression import (
    Array,
    Basis,
    away,
    quick_error,
    solve,
    spread_rows,
    varies,
)
from kanlens.discovery._search_problem import SearchProblem, divided
from kanlens.discovery._smoothness import kernel, left_out, logarithmic, solved


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of a target by every column, on the rows where they are most certain."""

    columns: Array  # (row, feature)
    values: Array  # (row, feature)
    sizes: Array  # (row,): the target; ones where the slopes are those of its logarithm

    @classmethod
    @lru_cache(maxsize=4)  # a search uses them twice
    def of(cls, problem: SearchProblem) -> Slopes:
        """Return the slopes of a smooth model of the target or its logarithm."""
        x, (_, stretches, target) = problem.columns, smooth_model(problem)
        rows = spread_rows(len(target), tuned.SLOPE_ROWS)
        slopes, variance = _slopes(_seen(x)[rows] * stretches, target[rows])
        sure = variance <= np.quantile(variance, tuned.KNOWN_SLOPES)
        rates = [1 / c if logarithmic(c) else np.ones(len(c)) for c in x.T]
        by_column = slopes * stretches * np.stack(rates, axis=1)[rows]
        sizes = target if target is problem.target else np.ones(len(target))
        return cls(x[rows][sure], by_column[sure], sizes[rows][sure])


@lru_cache(maxsize=64)  # a search uses each one again
def smooth_model(problem: SearchProblem) -> tuple[float, Array, Array]:
    """Return error, inverse length scales and target (or its log) of the smoothest model."""
    x, target = _seen(problem.columns), problem.target
    rows, few = (spread_rows(len(x), n) for n in (tuned.SMOOTH_ROWS, tuned.STRETCH_ROWS))
    sizes = [target, np.log(np.abs(target))] if problem.one_sign and away(target) else [target]
    spread = np.maximum(x[few].std(axis=0), np.finfo(float).tiny)
    starts = ((t, 1 / (scale * spread)) for t in sizes for scale in tuned.LENGTHS)
    smoothest, first = min(starts, key=lambda pair: _loo_error(x[few], pair[0][few], pair[1]))
    stretches = _stretches(x[few], smoothest[few], first)
    return _loo_error(x[rows], smoothest[rows], stretches), stretches, smoothest


def error_of_y(problem: SearchProblem) -> float:
    """Return the trimmed mean squared error of the smooth model in units of y."""
    x, (_, stretches, target) = _seen(problem.columns), smooth_model(problem)
    rate = problem.steepness * (1.0 if target is problem.target else problem.target)
    rows = spread_rows(len(x), tuned.SMOOTH_ROWS)
    errors = _loo_errors(x[rows], target[rows], stretches) * rate[rows]
    return float(np.mean(np.sort(np.square(errors))[: round(tuned.JUDGING * len(rows))]))


def _seen(x: Array) -> Array:
    """Return the columns, with logarithms for those of a wide range."""
    return np.stack([np.log(c) if logarithmic(c) else c for c in x.T], axis=1)


def _loo_error(x: Array, target: Array, stretches: Array) -> float:
    """Return the relative leave-one-out error of a smooth model."""
    return float(np.mean(np.square(_loo_errors(x, target, stretches)))) / (target.var() or 1.0)


def _loo_errors(x: Array, target: Array, stretches: Array) -> Array:
    """Return the leave-one-out errors of a smooth model."""
    spread = target.std() or 1.0
    x = (x - x.mean(axis=0)) * stretches
    nugget = np.full(len(target), tuned.SLOPE_NUGGET)
    return left_out(x, (target - target.mean()) / spread, 1.0, nugget)[0] * spread


def _stretches(x: Array, target: Array, stretches: Array) -> Array:
    """Optimize the inverse length scales of a smooth model by coordinate search."""
    best, factor = _loo_error(x, target, stretches), tuned.STRETCH
    while factor > tuned.LEAST_STRETCH:
        before = best
        for i, by in itertools.product(range(x.shape[1]), (factor, 1 / factor)):
            trial = stretches.copy()
            trial[i] *= by
            level = _loo_error(x, target, trial)
            if level < best:
                best, stretches = level, trial
        if best > tuned.STRETCH_GAIN * before:
            factor = np.sqrt(factor)
    return stretches


def _slopes(x: Array, target: Array) -> tuple[Array, Array]:
    """Return slopes (row, feature) and variances of a smooth model."""
    x = x - x.mean(axis=0)
    k = kernel(x, x, 1.0)
    weights, variances = solved(k + tuned.SLOPE_NUGGET * np.eye(len(x)), target - target.mean())
    slopes = (k @ (weights[:, None] * x) - x * (k @ weights)[:, None]) / x.shape[1]
    return slopes, variances


def few_monomials(problem: SearchProblem, slopes: Slopes) -> Iterator[SearchProblem]:
    """Yield problems of few monomials in place of columns, first with a factor divided out."""
    moved = slopes.values * slopes.columns
    if len(moved) <= problem.width or not np.isfinite(moved).all():
        return
    seen = set()
    for rows in (np.column_stack((moved, slopes.sizes)), moved):
        _, sizes, across = np.linalg.svd(rows, full_matrices=False)
        falls = sizes[1:] / np.maximum(sizes[:-1], 1e-300)
        extra = len(sizes) - problem.width
        for count in range(1, problem.width):
            if falls[count + extra - 1] >= tuned.MAX_SINGULAR_RATIO:
                continue
            chosen, factors = _basis(problem, across, sizes, count)
            if len(chosen) != count or not len(factors):
                continue
            key = np.concatenate((*chosen, factors[0])).tobytes()
            columns = evaluate(problem.columns, np.stack(chosen))
            if key not in seen and np.isfinite(columns).all() and all(map(varies, columns.T)):
                names = tuple(monomial(problem.names, powers) for powers in chosen)
                less = divided(problem, factors[0], set()) if factors[0].any() else problem
                yield replace(less, columns=columns, names=names)
            seen.add(key)


def _basis(
    problem: SearchProblem, across: Array, sizes: Array, count: int
) -> tuple[list[Array], Array]:
    """Return the simplest exponents in the span, and the exponents of factors."""
    exponents, _ = simplest(problem.width)
    extra = len(sizes) - problem.width
    able = exponents[_near(exponents, 0.0, across, sizes, count + extra)]
    able = able[allowed(problem, able)]
    left = able / np.maximum(np.sqrt(np.square(able).sum(axis=1)), 0.5)[:, None]
    chosen: list[Array] = []
    while len(chosen) < count:
        new = np.flatnonzero(np.square(left).sum(axis=1) > tuned.SAME_SPAN**2)
        if not len(new):
            break
        chosen.append(able[new[0]])
        own = left[new[0]] / np.sqrt(np.square(left[new[0]]).sum())
        left = left - (left @ own)[:, None] * own
    if not extra:
        return chosen, exponents[:1]
    factors = exponents[_near(exponents, 1.0, across, sizes, count + 1)]
    return chosen, factors[allowed(problem, -factors, tuned.NO_ZERO)]


def _near(exponents: Array, last: float, across: Array, sizes: Array, count: int) -> Array:
    """Return the indices of exponents nearly in the span of the first `count` directions."""
    whole = np.column_stack((exponents, np.full(len(exponents), last)))[:, : len(sizes)]
    length = np.linalg.norm(whole, axis=1) + 1e-300
    off = np.linalg.norm(whole @ across[count:].T, axis=1) / length
    near = np.flatnonzero(off < tuned.SPAN_ROOM[2])
    parts = whole[near] @ across[:count].T / length[near, None]
    unsure = np.linalg.norm(parts * (sizes[count] / sizes[:count]), axis=1)
    return np.asarray(near[off[near] < tuned.SPAN_ROOM[0] + tuned.SPAN_ROOM[1] * unsure])


def sum_of_splines(problem: SearchProblem, slopes: Slopes) -> ColumnSplines:
    """Fit splines of the columns so that the target depends on their sum only."""
    bases, matrix, owners = column_splines(problem, tuned.SUMMED_PIECES)
    first = _matched_to_slopes(problem, slopes, bases, owners[1:] - 1)
    error, weights = _improved(problem, matrix[:, 1:], first, tuned.SUM_PIECES)
    if error < tuned.SUM_ERROR:
        total = matrix[:, 1:] @ weights
        bases, matrix, owners = column_splines(problem, 2 * tuned.SUMMED_PIECES)
        first = solve(matrix, total)[1:]
        last, weights = _improved(problem, matrix[:, 1:], first, 2 * tuned.SUM_PIECES)
        error = min(error, last)  # finer splines of the sum may miss its ends
    return ColumnSplines(bases, by_column(weights, owners[1:]), error)


def _matched_to_slopes(
    problem: SearchProblem, slopes: Slopes, bases: list[Basis], owners: Array
) -> Array:
    """Return splines whose slopes are in the ratios of the target's.

    This condition is linear: the slope of one by i times that of the other by j must be the same
    with i and j exchanged. Smooth splines continue where no slopes are known.
    """
    size = problem.columns.std(axis=0)
    rises = np.zeros((len(slopes.values), len(owners)))
    bends = np.zeros((len(owners), len(owners)))
    for i, basis in enumerate(bases):
        x, step, own = slopes.columns[:, i], tuned.SUM_STEP * (basis.high - basis.low), owners == i
        slope = (basis.at(x + step) - basis.at(x - step))[:, 1:] / (2 * step)
        rises[:, own] = slope * size[i] if size[i] > 0 and step > 0 else 0.0
        second = np.diff(np.eye(own.sum() + 1), 2, axis=0)[:, 1:]
        bends[np.ix_(own, own)] = second.T @ second
    moved = slopes.values * size
    moved = moved / (np.sqrt(np.square(moved).sum(axis=1))[:, None] + 1e-300)
    wrong = np.zeros_like(bends)
    for i, j in itertools.combinations(range(problem.width), 2):
        gap = moved[:, [i]] * rises * (owners == j) - moved[:, [j]] * rises * (owners == i)
        wrong += gap.T @ gap
    weight = (rises.T @ rises) * (owners[:, None] == owners)
    room = tuned.SUM_RIDGE * np.trace(weight)
    weight = weight + tuned.SUM_RIDGE * room * np.eye(len(owners))
    return np.asarray(eigh(wrong + room * bends, weight, subset_by_index=(0, 0))[1][:, 0])


def _improved(
    problem: SearchProblem, matrix: Array, weights: Array, pieces: int
) -> tuple[float, Array]:
    """Fit splines of columns and of their sum; return error and weights."""
    best, best_weights, rows = np.inf, weights, problem.fitted
    for _ in range(tuned.SUM_ROUNDS):
        total = matrix @ weights
        basis = Basis(total, pieces)
        over = basis.at(total)
        error = quick_error(over, problem.target, problem.held_out)
        if not error < tuned.MIN_REFINEMENT_GAIN * best:
            break
        best, best_weights = error, weights
        curve = solve(over[rows], problem.target[rows])
        step = tuned.SUM_STEP * float(np.ptp(total))
        rise = (basis.at(total + step) - basis.at(total - step)) @ curve / (2 * step)
        both = np.column_stack((over, rise[:, None] * matrix))
        left = problem.target - over @ curve
        size = np.sqrt(np.square(both).mean(axis=0)) + 1e-300
        moves = np.linalg.lstsq((both / size)[rows], left[rows], rcond=tuned.SUM_RIDGE)[0] / size
        weights = weights + moves[over.shape[1] :]
    return float(best), best_weights
