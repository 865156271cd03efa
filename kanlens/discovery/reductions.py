"""Reductions to simpler problems: power-law factors divided out, two columns merged."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from kanlens.deadlines import Deadline
from kanlens.discovery import settings as tuned
from kanlens.discovery.problems import SearchProblem
from kanlens.discovery.regression import Array, away, eliminate, relative_error, solve
from kanlens.discovery.smoothness import loo_error, noise_of, noise_ratio
from kanlens.symbolic.composition import Expr

PAIRS: tuple[Callable[[Any, Any], Any], ...] = (  # of two columns, or of their names
    lambda a, b: a - b,
    lambda a, b: a + b,
    lambda a, b: a**2 + b**2,
    lambda a, b: a**2 - b**2,
)


@dataclass(frozen=True, eq=False)
class Reduction:
    """A simpler problem and its leave-one-out error."""

    problem: SearchProblem
    loo_error: float


def divided(problem: SearchProblem, exponents: Array, drop: set[int]) -> SearchProblem:
    """Divide the target by powers, multiples of one half, of columns, and leave out columns."""
    factor = np.ones(len(problem.target))
    name: Expr = sympy.Integer(1)
    for i in np.flatnonzero(exponents):
        power = float(exponents[i])
        factor = factor * raised(problem.columns[:, i], power)
        name = name * problem.names[i] ** sympy.Rational(power)
    return problem.over(factor, name).without(drop)


def raised(column: Array, power: float) -> Array:
    """Return a power of a column; of its size where the power is no whole number."""
    if float(power).is_integer():
        return np.asarray(column ** int(power))
    return np.asarray(np.abs(column) ** power)


def exponents_of(problem: SearchProblem) -> Array:
    """Estimate the exponent of each column in a power law, by least absolute deviations.

    0 where none is sensible, NaN for columns that are zero somewhere.
    """
    usable = np.flatnonzero(away(problem.columns, tuned.NO_ZERO))
    found = np.full(problem.width, np.nan)
    size = np.abs(problem.target)
    rows = size > tuned.POWER * size.max()
    if len(usable) == 0 or rows.sum() < problem.width + 2:
        return found
    logs = np.log(np.abs(problem.columns[np.ix_(rows, usable)]))
    matrix, target = np.column_stack((np.ones(len(logs)), logs)), np.log(size[rows])
    weights = np.ones(len(target))
    for _ in range(tuned.REWEIGHTINGS):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(matrix * root[:, None], target * root, rcond=None)[0]
        residual = np.abs(target - matrix @ solution)
        weights = 1 / np.maximum(residual, 1e-3 * (residual.mean() + 1e-300) + 1e-12)
    found[usable] = solution[1:]
    return found


def few_powers(problem: SearchProblem) -> list[tuple[float, ...]]:
    """Return the powers of as few columns as tell the target's size, where not all are needed.

    Where columns go together there are several such choices: the one with the simplest powers,
    whole ones before halves.
    """
    usable = np.flatnonzero(np.isfinite(exponents_of(problem)))
    size = np.abs(problem.target)
    if not 2 <= len(usable) <= tuned.MOST_CHOSEN or not size.min() > 0:
        return []
    matrix = np.column_stack((np.ones(len(size)), np.log(np.abs(problem.columns[:, usable]))))
    target = np.log(size)
    best = eliminate(matrix, target)[0]
    count = sum(1 for k in best.groups if k)
    if not 0 < count < len(usable):
        return []
    choices = []
    for places in itertools.combinations(range(1, matrix.shape[1]), count):
        few = matrix[:, (0, *places)]
        powers = solve(few, target)
        error = relative_error(few @ powers, target)
        if error <= tuned.AS_GOOD * max(best.error, tuned.FLOOR):
            whole = np.zeros(problem.width)
            whole[usable[np.array(places) - 1]] = powers[1:]
            choices.append((_oddness(powers[1:]), tuple(whole)))
    return [min(choices)[1]] if choices else []


def _oddness(powers: Array) -> tuple[float, float]:
    """Return the distance of exponents from whole and half numbers, and their size."""
    whole = np.abs(powers - np.round(powers)) < tuned.WHOLE_POWER
    half = np.abs(2 * powers - np.round(2 * powers)) < 2 * tuned.WHOLE_POWER
    return float(np.where(whole, 0, np.where(half, 1, 3)).sum()), float(np.abs(powers).sum())


def rounded_exponents(problem: SearchProblem) -> Array:
    """Return the estimated exponents that are near a multiple of one half, others as 0."""
    estimate = exponents_of(problem)
    half = np.round(2 * estimate) / 2
    good = np.abs(estimate - half) < tuned.NEAR_HALF
    return np.asarray(np.where(good & (np.abs(half) <= tuned.HIGHEST_EXPONENT), half, 0.0))


def best_loo_error(problem: SearchProblem) -> float:
    """Return the loo_error of the target, or of its logarithm where it has one sign."""
    found = loo_error(problem.columns, problem.target)
    if problem.one_sign and away(problem.target, tuned.LOGARITHM_OF_SURFACE):
        found = min(found, loo_error(problem.columns, np.log(np.abs(problem.target))))
    return found


def _ways_without(problem: SearchProblem) -> Iterator[tuple[int, float, SearchProblem]]:
    """Yield each column, a power of it, and the problem divided by that and without the column."""
    estimate = np.nan_to_num(rounded_exponents(problem))
    for i in range(problem.width):
        for power in sorted({0.0, float(estimate[i])}):
            exponents = np.zeros(problem.width)
            exponents[i] = power
            yield i, power, divided(problem, exponents, {i})


def remove_power_factors(problem: SearchProblem, deadline: Deadline) -> SearchProblem:
    """Greedily remove power-law factors while the leave-one-out error falls."""
    now, level = problem, best_loo_error(problem)
    while now.width > 1 and not deadline.passed:
        tries: list[tuple[float, int, float]] = []
        for i, power, trial in _ways_without(now):
            if deadline.passed:
                return now
            tries.append((best_loo_error(trial), i, power))
        tries.sort()
        good = [(i, p) for value, i, p in tries if value < tuned.LOO_GAIN * level]
        moved = _jointly(now, good, level) or _jointly(now, good[:1], level)
        if moved is None:
            return now
        now, level = moved.problem, moved.loo_error
    return now


def remove_factors_to_noise(problem: SearchProblem, deadline: Deadline) -> SearchProblem:
    """Greedily remove power-law factors while the residual stays within the noise.

    Under noise no move lowers the leave-one-out error; but while what is left out is within
    the noise, in units of y, a column less is a gain.
    """
    noise = noise_of(problem.columns, problem.target)
    now = problem
    while noise and now.width > 1:
        moves: list[tuple[float, int, SearchProblem]] = []
        for _, _, trial in _ways_without(now):
            if deadline.passed:
                return now
            level = noise_ratio(trial.columns, trial.target, trial.steepness, noise)
            moves.append((level, len(moves), trial))
        moves.sort(key=lambda move: move[:2])
        if moves[0][0] > tuned.AUDIBLE:
            break
        now = moves[0][2]
    return now


def _jointly(
    problem: SearchProblem, moves: list[tuple[int, float]], level: float
) -> Reduction | None:
    """Make several moves at once; None unless the leave-one-out error falls."""
    if not moves:
        return None
    exponents = np.zeros(problem.width)
    drop: set[int] = set()
    for i, power in moves:
        if i not in drop and len(drop) < problem.width - 1:
            exponents[i] = power
            drop.add(i)
    trial = divided(problem, exponents, drop)
    value = best_loo_error(trial)
    return Reduction(trial, value) if value < level else None


def paired(problem: SearchProblem, deadline: Deadline) -> list[Reduction]:
    """Merge two columns in every simple way; the least leave-one-out errors first."""
    found: list[Reduction] = []
    for trial in _merged(problem):
        if deadline.passed:
            break
        found.append(Reduction(trial, best_loo_error(trial)))
    return sorted(found, key=lambda r: r.loo_error)


def _merged(problem: SearchProblem) -> Iterator[SearchProblem]:
    """Yield the problems with a simple combination in the place of two columns."""
    for i, j in itertools.combinations(range(problem.width), 2):
        (a, p), (b, q) = ((problem.columns[:, k], problem.names[k]) for k in (i, j))
        yield problem.joined(i, j, a * b, p * q)
        for form in PAIRS:
            yield problem.joined(i, j, form(a, b), form(p, q))
        if away(b):
            yield problem.joined(i, j, a / b, p / q)
        if away(a):
            yield problem.joined(i, j, b / a, q / p)
