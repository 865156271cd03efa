"""Search problem: columns, a target, and reductions to simpler ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from kanlens._runtime import Deadline
from kanlens.discovery import _settings as tuned
from kanlens.discovery._regression import Array, ErrorScale, away, eliminate, relative_error, solve
from kanlens.discovery._smoothness import loo_error
from kanlens.symbolic._composition import Expr

Inverse = Callable[[Expr], Expr]
_TARGET = sympy.Symbol("_target", positive=True)


@dataclass(frozen=True, eq=False)
class SearchProblem:
    """A target that should be expressed as a formula of columns."""

    columns: Array  # (row, feature)
    names: tuple[Expr, ...]  # of the columns, in the symbols of the table
    target: Array  # (row,)
    held_out: Array  # bool (row,): rows that judge and are not fitted
    rebuild: Inverse = lambda e: e  # from an expression of the target to one of y
    slope: Array | None = None  # (row,): |dy / dtarget|, y on `scale`; None if 1 or unknown
    scale: ErrorScale = field(default_factory=ErrorScale)  # of errors of y

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.columns.shape[1])

    @property
    def fitted(self) -> Array:
        """Mask of the rows that are fitted."""
        return ~self.held_out

    @property
    def count(self) -> int:
        """Number of rows that are fitted."""
        return int(self.fitted.sum())

    @property
    def judged(self) -> Array:
        """Mask of the validation rows: those held out, or all if there are none."""
        return self.held_out if self.held_out.any() else ~self.held_out

    @property
    def one_sign(self) -> bool:
        """True if the target is positive everywhere or negative everywhere."""
        return bool((self.target > 0).all() or (self.target < 0).all())

    @property
    def positive(self) -> Array:
        """Mask of the columns that are positive and away from zero."""
        return np.asarray((self.columns.min(axis=0) > 0) & away(self.columns))

    @property
    def weights(self) -> Array | None:
        """Weights that turn residuals of the target into those of y, or None."""
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
        """The slope of y by the target, 1 where it is not known."""
        return np.ones(len(self.target)) if self.slope is None else self.slope

    def with_target(
        self, target: Array, rebuild: Inverse, slope: Array | None = None
    ) -> SearchProblem:
        """Return the problem with another target, from which `rebuild` computes the present one."""
        outer = self.rebuild
        return dataclasses.replace(
            self, target=target, rebuild=lambda e: outer(rebuild(e)), slope=slope
        )

    def over(self, factor: Array, name: Expr) -> SearchProblem:
        """Return the problem with the target divided by a factor."""
        slope = self.steepness * np.abs(factor)
        return self.with_target(self.target / factor, lambda e: e * name, slope)

    def through(self, transform: Transform) -> SearchProblem:
        """Return the problem with a function of the target."""
        side, slope = transform.side(self.target), self.slope
        if transform.name != "id":
            step = tuned.DIFFERENCE_STEP * np.abs(self.target)
            rise = transform.value(self.target + step) - transform.value(self.target - step)
            with np.errstate(all="ignore"):
                slope = self.steepness * 2 * step / np.abs(rise)
        target = transform.value(self.target)
        return self.with_target(target, lambda e: side * transform.expression(e), slope)

    def without(self, drop: set[int]) -> SearchProblem:
        """Return the problem without some columns."""
        rest = [i for i in range(self.width) if i not in drop]
        names = tuple(self.names[i] for i in rest)
        return dataclasses.replace(self, columns=self.columns[:, rest], names=names)

    def joined(self, i: int, j: int, column: Array, name: Expr) -> SearchProblem:
        """Return the problem with `column` in place of columns `i` and `j`."""
        less = self.without({i, j})
        columns = np.column_stack((less.columns, column))
        return dataclasses.replace(less, columns=columns, names=(*less.names, name))

    def onto(self, column: Array, name: Expr) -> SearchProblem:
        """Return the problem with `column` as its only column."""
        return dataclasses.replace(self, columns=column[:, None], names=(name,), slope=None)


@dataclass(frozen=True, eq=False)
class Transform:
    """A function of the target that may be easier to fit."""

    name: str
    value: Callable[[Array], Array]
    inverse: Callable[[Array], Array]  # the branch of positive values
    expression: Inverse  # the inverse as an expression
    able: Callable[[Array], Any]  # whether it is one-to-one with a target, and of sound size

    @property
    def one_sign(self) -> bool:
        """True if the target must be of one sign."""
        return self.name in ("sq", "invsq", "sqrt", "invsqrt", "log")

    def side(self, target: Array) -> int:
        """Return the sign of a target if it is lost by the transform; else 1."""
        return -1 if self.one_sign and target[0] < 0 else 1

    def fits(self, target: Array) -> bool:
        """Return whether a target may be transformed."""
        one_sign = target.min() > 0 or target.max() < 0
        return bool((one_sign or not self.one_sign) and self.able(target))


def _away(share: float) -> Callable[[Array], Any]:
    return lambda target: away(target, share)


def _angle(low: float, high: float) -> Callable[[Array], Any]:
    return lambda t: t.min() >= low and t.max() <= high and np.ptp(t) > tuned.ANGLE


def _small(target: Array) -> bool:
    return bool(max(np.ptp(target), np.abs(target).max()) < tuned.EXPONENT)


def _sinh(target: Array) -> bool:
    return _small(target) and bool(np.ptp(target) > tuned.ANGLE)


def _atanh(target: Array) -> bool:
    return bool(np.abs(target).max() < 1 and np.ptp(np.arctanh(target)) > tuned.ANGLE)


_HALF, _SINE, _POWER = sympy.Rational(1, 2), _angle(-np.pi / 2, np.pi / 2), _away(tuned.POWER)
TRANSFORMS = (
    Transform("id", lambda t: t, lambda s: s, lambda e: e, lambda t: True),
    Transform("log", lambda t: np.log(np.abs(t)), np.exp, sympy.exp, _away(tuned.LOGARITHM)),
    Transform("inv", lambda t: 1 / t, lambda s: 1 / s, lambda e: 1 / e, _POWER),
    Transform("sq", np.square, np.sqrt, lambda e: e**_HALF, _POWER),
    Transform("invsq", lambda t: t**-2.0, lambda s: s**-0.5, lambda e: e**-_HALF, _POWER),
    Transform("sqrt", lambda t: np.sqrt(np.abs(t)), np.square, lambda e: e**2, _POWER),
    Transform("invsqrt", lambda t: np.abs(t) ** -0.5, lambda s: s**-2.0, lambda e: e**-2, _POWER),
    Transform("exp", np.exp, np.log, sympy.log, _small),
    Transform("sin", np.sin, np.arcsin, sympy.asin, _SINE),
    Transform("tan", np.tan, np.arctan, sympy.atan, _SINE),
    Transform("cos", np.cos, np.arccos, sympy.acos, _angle(0.0, np.pi)),
    Transform("atanh", np.arctanh, np.tanh, sympy.tanh, _atanh),
    Transform("sinh", np.sinh, np.arcsinh, sympy.asinh, _sinh),
)


def transformed(problem: SearchProblem, names: tuple[str, ...]) -> list[tuple[str, SearchProblem]]:
    """Return the problems with suitable transforms of the target, with their names."""
    fitting = (t for t in TRANSFORMS if t.name in names and t.fits(problem.target))
    return [(t.name, problem.through(t)) for t in fitting]


PAIRS: tuple[Callable[[Any, Any], Any], ...] = (  # of two columns or their names
    lambda a, b: a * b,
    lambda a, b: a - b,
    lambda a, b: a + b,
    lambda a, b: a**2 + b**2,
    lambda a, b: a**2 - b**2,
)


def divided(problem: SearchProblem, exponents: Array, drop: set[int]) -> SearchProblem:
    """Divide the target by powers of columns, and leave out columns."""
    factor = np.ones(len(problem.target))
    name: Expr = sympy.Integer(1)
    for i in np.flatnonzero(exponents):
        power = float(exponents[i])
        factor = factor * raised(problem.columns[:, i], power)
        name = name * problem.names[i] ** sympy.Rational(power)
    return problem.over(factor, name).without(drop)


def raised(column: Array, power: float) -> Array:
    """Return a power of a column; for a fractional power, of its absolute value."""
    whole = float(power).is_integer()
    return np.asarray(column ** int(power) if whole else np.abs(column) ** power)


def exponents_of(problem: SearchProblem) -> Array:
    """Estimate power-law exponents by least absolute deviations; NaN for columns near zero."""
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
    """Return power-law exponents: the fewest columns that suffice, the simplest powers."""
    usable = np.flatnonzero(np.isfinite(exponents_of(problem)))
    size = np.abs(problem.target)
    if not 2 <= len(usable) <= tuned.MAX_SELECTABLE_COLUMNS or not size.min() > 0:
        return []
    matrix = np.column_stack((np.ones(len(size)), np.log(np.abs(problem.columns[:, usable]))))
    target = np.log(size)
    error, groups = eliminate(matrix, target)[0]
    count = sum(map(bool, groups))
    if not 0 < count < len(usable):
        return []
    choices, limit = [], tuned.AS_GOOD * max(error, tuned.FLOOR)
    for places in itertools.combinations(range(1, matrix.shape[1]), count):
        few = matrix[:, (0, *places)]
        coefficients = solve(few, target)
        if relative_error(few @ coefficients, target) <= limit:
            exponents, p = np.zeros(problem.width), coefficients[1:]
            exponents[usable[np.array(places) - 1]] = p
            whole, half = (np.abs(p - np.round(k * p) / k) < tuned.WHOLE_POWER for k in (1, 2))
            odd = np.where(whole, 0, np.where(half, 1, 3)).sum()
            choices.append((float(odd), float(np.abs(p).sum()), tuple(exponents)))
    return [min(choices)[-1]] if choices else []


def best_loo_error(problem: SearchProblem) -> float:
    """Return the leave-one-out error of the target, or of its logarithm if lower."""
    targets = [problem.target]
    if problem.one_sign and away(problem.target, tuned.LOGARITHM_OF_SURFACE):
        targets.append(np.log(np.abs(problem.target)))
    elif problem.scale.unit and (wide := ErrorScale.of(problem.target)).unit:
        targets.append(wide(problem.target))
    return min(loo_error(problem.columns, target) for target in targets)


def _ways_without(problem: SearchProblem) -> Iterator[tuple[int, float, SearchProblem]]:
    """Yield a column, a power, and the problem divided by that power, without the column."""
    estimate = exponents_of(problem)
    half = np.round(2 * estimate) / 2
    good = np.abs(estimate - half) < tuned.HALF_TOLERANCE
    good &= np.abs(half) <= tuned.HIGHEST_EXPONENT
    for i, power in enumerate(np.where(good, half, 0.0).tolist()):
        for exponent in sorted({0.0, power}):
            yield i, exponent, divided(problem, exponent * np.eye(problem.width)[i], {i})


def remove_power_factors(problem: SearchProblem, deadline: Deadline) -> SearchProblem:
    """Greedily remove power-law factors while the leave-one-out error falls."""
    now, level = problem, best_loo_error(problem)
    while now.width > 1 and not deadline.passed:
        moves: list[tuple[float, int, float]] = []
        for i, power, trial in _ways_without(now):
            if deadline.passed:
                return now
            moves.append((best_loo_error(trial), i, power))
        good = [(i, power) for error, i, power in sorted(moves) if error < tuned.LOO_GAIN * level]
        trials = (_without_powers(now, some) for some in (good, good[:1]) if some)
        better = ((error, t) for t in trials if (error := best_loo_error(t)) < level)
        level, reduced = next(better, (level, now))
        if reduced is now:
            return now
        now = reduced
    return now


def _without_powers(problem: SearchProblem, moves: list[tuple[int, float]]) -> SearchProblem:
    """Divide by powers of columns and drop these columns, but keep at least one."""
    powers: dict[int, float] = {}
    for i, power in moves:
        if len(powers) < problem.width - 1:
            powers.setdefault(i, power)
    exponents = np.zeros(problem.width)
    exponents[list(powers)] = list(powers.values())
    return divided(problem, exponents, set(powers))


def paired(problem: SearchProblem, deadline: Deadline) -> list[tuple[float, SearchProblem]]:
    """Return problems with two columns merged, sorted by leave-one-out error."""
    within = itertools.takewhile(lambda _: not deadline.passed, _merged(problem))
    return sorted(((best_loo_error(trial), trial) for trial in within), key=lambda pair: pair[0])


def _merged(problem: SearchProblem) -> Iterator[SearchProblem]:
    """Yield the problems in which a simple combination replaces two columns."""
    for i, j in itertools.combinations(range(problem.width), 2):
        (a, p), (b, q) = ((problem.columns[:, k], problem.names[k]) for k in (i, j))
        for form in PAIRS:
            yield problem.joined(i, j, form(a, b), form(p, q))
        if away(b):
            yield problem.joined(i, j, a / b, p / q)
        if away(a):
            yield problem.joined(i, j, b / a, q / p)
