"""Search problem: columns, a target, how a formula of it becomes one of y, and simpler problems.

The target takes functions, power-law factors are divided out, and two columns are merged.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.regression import Array, ErrorScale, away, eliminate, relative_error, solve
from kanlens.discovery.smoothness import loo_error, noise_of, noise_ratio
from kanlens.long_work import Deadline
from kanlens.symbolic.composition import Expr

Inverse = Callable[[Expr], Expr]
_TARGET = sympy.Symbol("_target", positive=True)


@dataclass(frozen=True, eq=False)
class SearchProblem:
    """A target to be written as a formula of columns."""

    columns: Array  # (row, feature)
    names: tuple[Expr, ...]  # of the columns, in the symbols of the table
    target: Array  # (row,)
    held_out: Array  # bool (row,): rows that judge and are not fitted
    rebuild: Inverse = lambda e: e  # from an expression of the target to that of y
    slope: Array | None = None  # (row,): |dy / dtarget|; None where it is 1 or not known
    scale: ErrorScale = field(default_factory=ErrorScale)  # of errors of y, whose slope is y's

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.columns.shape[1])

    @property
    def fitted(self) -> Array:
        """Rows that are fitted."""
        return ~self.held_out

    @property
    def count(self) -> int:
        """How many rows are fitted."""
        return int(self.fitted.sum())

    @property
    def judged(self) -> Array:
        """Rows that judge: those held out, or all of them where there are none."""
        return self.held_out if self.held_out.any() else ~self.held_out

    @property
    def one_sign(self) -> bool:
        """Whether the target is positive everywhere or negative everywhere."""
        return bool((self.target > 0).all() or (self.target < 0).all())

    @property
    def positive(self) -> Array:
        """Which columns are positive throughout, with some room."""
        return np.asarray((self.columns.min(axis=0) > 0) & away(self.columns))

    @property
    def weights(self) -> Array | None:
        """What makes residuals of the target those of y, at most 1; None if all alike."""
        if self.slope is None or not np.isfinite(self.slope).all():
            return None
        size = float(self.slope.max())
        if size <= 0 or self.slope.min() > 0.99 * size:
            return None
        return np.maximum(self.slope / size, 0.0 if self.scale.unit else tuned.LIGHTEST)

    @property
    def key(self) -> tuple[Expr, ...]:
        """Key that identifies a problem within a search."""
        return (*sorted(self.names, key=str), self.rebuild(_TARGET))

    @property
    def steepness(self) -> Array:
        """The slope, 1 where it is not known."""
        return np.ones(len(self.target)) if self.slope is None else self.slope

    def with_target(
        self, target: Array, rebuild: Inverse, slope: Array | None = None
    ) -> SearchProblem:
        """Return the problem of another target, from whose formula `rebuild` makes this one's."""
        outer = self.rebuild
        return dataclasses.replace(
            self, target=target, rebuild=lambda e: outer(rebuild(e)), slope=slope
        )

    def over(self, factor: Array, name: Expr) -> SearchProblem:
        """Divide the target by a factor."""
        slope = self.steepness * np.abs(factor)
        return self.with_target(self.target / factor, lambda e: e * name, slope)

    def through(self, transform: Transform) -> SearchProblem:
        """Take a function of the target."""
        side, slope = transform.side(self.target), self.slope
        if transform.name != "id":
            step = tuned.DIFFERENCE_STEP * np.abs(self.target)
            rise = transform.value(self.target + step) - transform.value(self.target - step)
            with np.errstate(all="ignore"):
                slope = self.steepness * 2 * step / np.abs(rise)
        target = transform.value(self.target)
        return self.with_target(target, lambda e: side * transform.expression(e), slope)

    def without(self, drop: set[int]) -> SearchProblem:
        """Leave out columns."""
        kept = [i for i in range(self.width) if i not in drop]
        names = tuple(self.names[i] for i in kept)
        return dataclasses.replace(self, columns=self.columns[:, kept], names=names)

    def joined(self, i: int, j: int, column: Array, name: Expr) -> SearchProblem:
        """Put one column in the place of two."""
        less = self.without({i, j})
        columns = np.column_stack((less.columns, column))
        return dataclasses.replace(less, columns=columns, names=(*less.names, name))

    def onto(self, column: Array, name: Expr) -> SearchProblem:
        """Put one column in the place of all."""
        return dataclasses.replace(self, columns=column[:, None], names=(name,), slope=None)


@dataclass(frozen=True, eq=False)
class Transform:
    """A function of the target that may be easier to fit than the target itself."""

    name: str
    value: Callable[[Array], Array]
    inverse: Callable[[Array], Array]  # the branch of positive values
    expression: Inverse  # the inverse as an expression

    def side(self, target: Array) -> int:
        """Return the sign of a target that fits, where its transform does not tell it; else 1."""
        return -1 if self.name in ONE_SIGN and target[0] < 0 else 1

    def fits(self, target: Array) -> bool:
        """Return whether a target is one-to-one with its transform and this is of sound size."""
        if self.name == "id":
            return True
        low, high, wide = float(target.min()), float(target.max()), float(np.ptp(target))
        largest = max(-low, high)
        if self.name in ONE_SIGN and not (low > 0 or high < 0):
            return False
        if self.name == "log":
            return bool(away(target, tuned.LOGARITHM))
        if self.name == "atanh":
            return largest < 1 and bool(np.ptp(np.arctanh(target)) > tuned.ANGLE)
        if self.name in ("exp", "sinh"):
            varied = self.name == "exp" or wide > tuned.ANGLE
            return varied and wide < tuned.EXPONENT and largest < tuned.EXPONENT
        if self.name in ("sin", "tan"):
            return largest <= np.pi / 2 and wide > tuned.ANGLE
        if self.name == "cos":
            return low >= 0 and high <= np.pi and wide > tuned.ANGLE
        return bool(away(target, tuned.POWER))


ONE_SIGN = ("sq", "invsq", "sqrt", "invsqrt", "log")
_HALF = sympy.Rational(1, 2)


TRANSFORMS = (
    Transform("id", lambda t: t, lambda s: s, lambda e: e),
    Transform("log", lambda t: np.log(np.abs(t)), np.exp, sympy.exp),
    Transform("inv", lambda t: 1 / t, lambda s: 1 / s, lambda e: 1 / e),
    Transform("sq", np.square, np.sqrt, lambda e: e**_HALF),
    Transform("invsq", lambda t: t**-2.0, lambda s: s**-0.5, lambda e: e**-_HALF),
    Transform("sqrt", lambda t: np.sqrt(np.abs(t)), np.square, lambda e: e**2),
    Transform("invsqrt", lambda t: np.abs(t) ** -0.5, lambda s: s**-2.0, lambda e: e**-2),
    Transform("exp", np.exp, np.log, sympy.log),
    Transform("sin", np.sin, np.arcsin, sympy.asin),
    Transform("tan", np.tan, np.arctan, sympy.atan),
    Transform("cos", np.cos, np.arccos, sympy.acos),
    Transform("atanh", np.arctanh, np.tanh, sympy.tanh),
    Transform("sinh", np.sinh, np.arcsinh, sympy.asinh),
)


def transformed(problem: SearchProblem, names: tuple[str, ...]) -> list[tuple[str, SearchProblem]]:
    """Return the problems of those of some transformed targets that make sense, with names."""
    fitting = (each for each in TRANSFORMS if each.name in names and each.fits(problem.target))
    return [(each.name, problem.through(each)) for each in fitting]


PAIRS: tuple[Callable[[Any, Any], Any], ...] = (  # of two columns, or of their names
    lambda a, b: a * b,
    lambda a, b: a - b,
    lambda a, b: a + b,
    lambda a, b: a**2 + b**2,
    lambda a, b: a**2 - b**2,
)


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
    """Estimate power-law exponents by least absolute deviations; NaN for columns with zeros."""
    usable = np.flatnonzero(away(problem.columns, tuned.NO_ZERO))
    exponents, size = np.full(problem.width, np.nan), np.abs(problem.target)
    rows = size > (0.0 if problem.scale.unit else tuned.POWER * size.max())
    if len(usable) == 0 or rows.sum() < problem.width + 2:
        return exponents
    logs = np.log(np.abs(problem.columns[np.ix_(rows, usable)]))
    matrix, target = np.column_stack((np.ones(len(logs)), logs)), np.log(size[rows])
    weights = np.ones(len(target))
    for _ in range(tuned.REWEIGHTINGS):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(matrix * root[:, None], target * root, rcond=None)[0]
        residual = np.abs(target - matrix @ solution)
        weights = 1 / np.maximum(residual, 1e-3 * (residual.mean() + 1e-300) + 1e-12)
    exponents[usable] = solution[1:]
    return exponents


def few_powers(problem: SearchProblem) -> list[tuple[float, ...]]:
    """Return the simplest powers of as few columns as tell the target's size, if not all do."""
    usable = np.flatnonzero(np.isfinite(exponents_of(problem)))
    size = np.abs(problem.target)
    if not 2 <= len(usable) <= tuned.MOST_CHOSEN or not size.min() > 0:
        return []
    matrix = np.column_stack((np.ones(len(size)), np.log(np.abs(problem.columns[:, usable]))))
    target = np.log(size)
    best = eliminate(matrix, target)[0]
    count = sum(map(bool, best.groups))
    if not 0 < count < len(usable):
        return []
    choices = []
    for places in itertools.combinations(range(1, matrix.shape[1]), count):
        few = matrix[:, (0, *places)]
        powers = solve(few, target)
        error = relative_error(few @ powers, target)
        if error <= tuned.AS_GOOD * max(best.error, tuned.FLOOR):
            exponents = np.zeros(problem.width)
            exponents[usable[np.array(places) - 1]] = powers[1:]
            p = powers[1:]
            whole = np.abs(p - np.round(p)) < tuned.WHOLE_POWER
            half = np.abs(2 * p - np.round(2 * p)) < 2 * tuned.WHOLE_POWER
            odd = np.where(whole, 0, np.where(half, 1, 3)).sum()
            choices.append((float(odd), float(np.abs(p).sum()), tuple(exponents)))
    return [min(choices)[-1]] if choices else []


def rounded_exponents(problem: SearchProblem, near: float = tuned.NEAR_HALF) -> Array:
    """Return the estimated exponents that are near a multiple of one half, others as 0."""
    estimate = exponents_of(problem)
    half = np.round(2 * estimate) / 2
    good = np.abs(estimate - half) < near
    return np.asarray(np.where(good & (np.abs(half) <= tuned.HIGHEST_EXPONENT), half, 0.0))


def best_loo_error(problem: SearchProblem) -> float:
    """Return the loo_error of the target, or of its logarithm if that is less."""
    targets = [problem.target]
    if problem.one_sign and away(problem.target, tuned.LOGARITHM_OF_SURFACE):
        targets.append(np.log(np.abs(problem.target)))
    elif problem.scale.unit and (wide := ErrorScale.of(problem.target)).unit:
        targets.append(wide(problem.target))
    return min(loo_error(problem.columns, target) for target in targets)


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
        sure = enumerate(rounded_exponents(now, tuned.SURE_POWER * bool(now.scale.unit)).tolist())
        moved = (
            _jointly(now, [(i, power) for i, power in sure if power and power.is_integer()], level)
            or _jointly(now, good, level)
            or _jointly(now, good[:1], level)
        )
        if moved is None:
            return now
        level, now = moved
    return now


def remove_factors_to_noise(problem: SearchProblem, deadline: Deadline) -> SearchProblem:
    """Greedily remove power-law factors while the residual stays within the noise.

    Under noise no move lowers the leave-one-out error; but while what is left out is within
    the noise, in units of y, a column less is a gain.
    """
    noise, now = noise_of(problem.columns, problem.target), problem
    while noise and now.width > 1:
        moves: list[tuple[float, SearchProblem]] = []
        for _, _, trial in _ways_without(now):
            if deadline.passed:
                return now
            level = noise_ratio(trial.columns, trial.target, trial.steepness, noise)
            moves.append((level, trial))
        level, best = min(moves, key=lambda move: move[0])
        if level > tuned.AUDIBLE:
            break
        now = best
    return now


def _jointly(
    problem: SearchProblem, moves: list[tuple[int, float]], level: float
) -> tuple[float, SearchProblem] | None:
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
    return (value, trial) if value < level else None


def paired(problem: SearchProblem, deadline: Deadline) -> list[tuple[float, SearchProblem]]:
    """Merge two columns in every simple way; the least leave-one-out errors first, with them."""
    within = itertools.takewhile(lambda _: not deadline.passed, _merged(problem))
    return sorted(((best_loo_error(trial), trial) for trial in within), key=lambda pair: pair[0])


def _merged(problem: SearchProblem) -> Iterator[SearchProblem]:
    """Yield the problems with a simple combination in the place of two columns."""
    for i, j in itertools.combinations(range(problem.width), 2):
        (a, p), (b, q) = ((problem.columns[:, k], problem.names[k]) for k in (i, j))
        for form in PAIRS:
            yield problem.joined(i, j, form(a, b), form(p, q))
        if away(b):
            yield problem.joined(i, j, a / b, p / q)
        if away(a):
            yield problem.joined(i, j, b / a, q / p)
