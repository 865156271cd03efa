"""What the slopes of a target show it to be a function of: few monomials, or one sum of powers.

The slopes are those of a smooth model of the rows. By the logarithms of the columns, those of a
function of few monomials lie in the span of their exponents [1]_; by the powers of a sum, those of
a function of it are everywhere in the ratio of its weights.

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
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import linear
from kanlens.discovery.monomials import evaluate, monomial
from kanlens.discovery.problems import SearchProblem
from kanlens.discovery.regression import Array, Basis, away, quick_error, solve, spread_rows, varies
from kanlens.discovery.smoothness import kernel, left_out, logarithmic


@dataclass(frozen=True, eq=False)
class Slopes:
    """The slopes of a target by every column, on the rows that tell most of them."""

    columns: Array  # (row, feature)
    values: Array  # (row, feature)
    error: float  # leave-one-out, of the smooth model that has them

    @classmethod
    def of(cls, problem: SearchProblem) -> Slopes:
        """Take the slopes of a smooth model of the target, or of its logarithm.

        The slopes of both are in the same ratios.
        """
        x, (error, stretches, target) = problem.columns, smooth_model(problem)
        rows = spread_rows(len(target), tuned.SLOPE_ROWS)
        slopes, variance = _slopes(_seen(x)[rows] * stretches, target[rows])
        known = variance <= np.quantile(variance, tuned.KNOWN_SLOPES)
        rates = [1 / c if logarithmic(c) else np.ones(len(c)) for c in x.T]
        by_column = slopes * stretches * np.stack(rates, axis=1)[rows]
        return cls(x[rows][known], by_column[known], error)


def smooth_model(problem: SearchProblem) -> tuple[float, Array, Array]:
    """Return error, stretches of the columns and target of the smooth model that errs least."""
    target = problem.target
    few = spread_rows(len(target), tuned.SMOOTH_ROWS)
    sizes = [target, np.log(np.abs(target))] if problem.one_sign and away(target) else [target]
    models = [(*_stretches(_seen(problem.columns)[few], t[few]), t) for t in sizes]
    return min(models, key=lambda model: model[0])


def _seen(x: Array) -> Array:
    """Return columns as a smooth model sees them, those of a wide range by their logarithm."""
    return np.stack([np.log(c) if logarithmic(c) else c for c in x.T], axis=1)


def _stretches(x: Array, target: Array) -> tuple[float, Array]:
    """Return how columns are to be stretched for a smooth model to err least, after its error."""
    t = (target - target.mean()) / (target.std() or 1.0)
    x = x - x.mean(axis=0)
    nugget = np.full(len(t), tuned.SLOPE_NUGGET)

    def error(stretches: Array) -> float:
        return float(np.mean(np.square(left_out(x * stretches, t, 1.0, nugget)[0])))

    spread = np.maximum(x.std(axis=0), np.finfo(float).tiny)
    same = [1 / (scale * spread) for scale in tuned.LENGTHS]
    best, found = min(((error(s), s) for s in same), key=lambda pair: pair[0])
    factor = tuned.STRETCH
    while factor > tuned.LEAST_STRETCH:
        before = best
        for i, by in itertools.product(range(x.shape[1]), (factor, 1 / factor)):
            trial = found.copy()
            trial[i] *= by
            level = error(trial)
            if level < best:
                best, found = level, trial
        if best > tuned.STRETCH_GAIN * before:
            factor = np.sqrt(factor)
    return best, found


def _slopes(x: Array, target: Array) -> tuple[Array, Array]:
    """Return the slopes of a smooth model at its rows, (row, feature), and its variances there."""
    x = x - x.mean(axis=0)
    k = kernel(x, x, 1.0)
    inverse = np.linalg.inv(k + tuned.SLOPE_NUGGET * np.eye(len(x)))
    weights = inverse @ (target - target.mean())
    slopes = (k @ (weights[:, None] * x) - x * (k @ weights)[:, None]) / x.shape[1]
    return slopes, np.asarray(1 / np.diag(inverse))


def few_monomials(problem: SearchProblem, slopes: Slopes) -> Iterator[SearchProblem]:
    """Yield problems of fewer columns, monomials of those there are, the fewest first."""
    moved = slopes.values * slopes.columns
    if len(moved) < problem.width or not np.isfinite(moved).all():
        return
    _, sizes, across = np.linalg.svd(moved, full_matrices=False)
    falls = sizes[1:] / np.maximum(sizes[:-1], 1e-300)
    for count in range(1, problem.width):
        if falls[count - 1] < tuned.LEAST_FALL:
            chosen = _basis(problem, across, sizes, count)
            if len(chosen) == count:
                columns = evaluate(problem.columns, np.stack(chosen))
                names = tuple(monomial(problem.names, powers) for powers in chosen)
                if np.isfinite(columns).all() and all(map(varies, columns.T)):
                    yield replace(problem, columns=columns, names=names)


def _basis(problem: SearchProblem, across: Array, sizes: Array, count: int) -> list[Array]:
    """Return the simplest exponents that span the first directions, as far as these are known."""
    every, costs = _exponents(problem.width)
    length = np.sqrt(np.square(every).sum(axis=1))
    parts = every @ across.T / length[:, None]
    off = np.sqrt(np.square(parts[:, count:]).sum(axis=1))
    unsure = np.sqrt(np.square(parts[:, :count] * (sizes[count] / sizes[:count])).sum(axis=1))
    near = off < np.minimum(tuned.SPAN_ROOM[0] + tuned.SPAN_ROOM[1] * unsure, tuned.SPAN_ROOM[2])
    whole = (every == np.round(every))[:, ~problem.positive].all(axis=1)
    one_sign = np.ptp(np.sign(problem.columns), axis=0) == 0
    clear = np.where(one_sign, tuned.CLEAR_OF_POLE, tuned.CLEAR_OF_BOTH_SIGNS)
    divides = ~(every < 0)[:, ~away(problem.columns, clear)].any(axis=1)
    able = np.flatnonzero(near & whole & divides)
    found: list[Array] = []
    for k in able[np.argsort(costs[able], kind="stable")]:
        trial = np.stack([*found, every[k]]) / np.sqrt(len(found) + 1)
        if np.linalg.matrix_rank(trial, tol=tuned.SAME_SPAN) > len(found):
            found.append(every[k])
        if len(found) == count:
            break
    return found


@lru_cache(maxsize=8)
def _exponents(width: int) -> tuple[Array, Array]:
    """Return all exponents of monomials, (monomial, feature), and what each costs."""
    most = width if width <= tuned.MOST_SPANNED else tuned.MOST_SPANNED // 2
    powers = np.array(sorted(tuned.POWER_COSTS, key=abs))
    found = []
    for places in itertools.combinations(range(width), most):
        block = np.zeros((len(powers) ** most, width))
        block[:, places] = np.array(list(itertools.product(powers, repeat=most)))
        found.append(block)
    every = np.unique(np.concatenate(found), axis=0)
    every = every[(every != 0).any(axis=1)]
    return every, np.vectorize(tuned.POWER_COSTS.__getitem__)(every).sum(axis=1)


def sums_of_powers(problem: SearchProblem, slopes: Slopes) -> Iterator[SearchProblem]:
    """Yield problems of one column, a sum of multiples of powers, the likeliest first."""
    if problem.width > tuned.WIDEST_SUM or not np.isfinite(slopes.values).all():
        return
    whole = tuple(p for p in tuned.SUMMED_POWERS if p in (1.0, 2.0))
    allowed = [tuned.SUMMED_POWERS if ok else whole for ok in problem.positive]
    ranked = []
    for powers in itertools.product(*allowed):
        gap, weights = _ratios(problem, slopes, np.array(powers))
        if gap < tuned.SUM_GAP:
            ranked.append((gap, powers, weights))
    for _, powers, rough in sorted(ranked, key=lambda item: item[0])[: tuned.SUMS_TRIED]:
        terms = problem.columns ** np.array(powers)
        weights, error = _sharpened(problem, terms, rough)
        if error < tuned.SUM_ERROR:
            sizes = np.abs(weights) * np.std(terms, axis=0)
            weights = np.where(sizes > tuned.IDLE_WEIGHT * sizes.max(), weights, 0.0)
            first = int(sizes.argmax())
            weights = weights / weights[first]
            names = [n ** sympy.Rational(p) for n, p in zip(problem.names, powers, strict=True)]
            rest = np.where(np.arange(len(weights)) == first, 0.0, weights)
            yield problem.onto(terms @ weights, names[first] + linear(rest, names))


def _ratios(problem: SearchProblem, slopes: Slopes, powers: Array) -> tuple[float, Array]:
    """Return the share of slopes by powers that are not in one ratio, and that ratio."""
    spread = np.std(problem.columns**powers, axis=0)
    with np.errstate(all="ignore"):
        turned = slopes.values / (powers * slopes.columns ** (powers - 1)) * spread
    turned = turned[np.isfinite(turned).all(axis=1)]
    if len(turned) < len(slopes.values) // 2:
        return 1.0, spread
    turned = turned / (np.sqrt(np.square(turned).sum(axis=1))[:, None] + 1e-300)
    values, vectors = np.linalg.eigh(turned.T @ turned / len(turned))
    return 1 - float(values[-1]), vectors[:, -1] / spread


def _sharpened(problem: SearchProblem, terms: Array, weights: Array) -> tuple[Array, float]:
    """Improve the weights of a sum whose splines tell the target; return them with the error."""
    best, found = np.inf, weights
    for _ in range(tuned.SHARPENED):
        total = terms @ weights
        basis = Basis.of(total, tuned.SUM_PIECES)
        matrix = basis.at(total)
        error = quick_error(matrix, problem.target, problem.held_out)
        if not error < best:
            break
        best, found = error, weights
        curve = solve(matrix, problem.target)
        step = tuned.SUM_STEP * float(np.ptp(total))
        rise = (basis.at(total + step) - basis.at(total - step)) @ curve / (2 * step)
        moves = solve(rise[:, None] * terms[:, 1:], problem.target - matrix @ curve)
        weights = weights + np.concatenate(([0.0], moves))
    return found, float(best)
