"""Interface of an ansatz (an assumed form of the formula); linear, power-law, univariate ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import TypeVar

import numpy as np
import sympy

from kanlens.discovery import _settings as tuned
from kanlens.discovery._curve_fitting import U, clear, fit_curves
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import (
    Array,
    Basis,
    away,
    best_pairs,
    eliminate,
    quick_error,
    relative_error,
    solve,
)
from kanlens.discovery._search_problem import (
    TRANSFORMS,
    SearchProblem,
    Transform,
    exponents_of,
    few_powers,
    raised,
    transformed,
)
from kanlens.symbolic._composition import Expr, evaluator

Fit = TypeVar("Fit")


class Ansatz(ABC):
    """A family of models of a target, each with its formula."""

    limits = tuned.Limits()

    @abstractmethod
    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Fit models and yield formulas for y, in the order in which to try them."""

    def _best(self, fits: Iterable[tuple[float, Fit]]) -> Iterator[Fit]:
        """Yield the fits with the smallest errors, within the limits."""
        ranked = sorted(fits, key=lambda pair: pair[0])[: self.limits.tried]
        return (fit for error, fit in ranked if error < self.limits.error)

    def formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Yield formulas of y if the number of columns is within the limits."""
        if self.limits.narrowest <= problem.width <= self.limits.widest:
            yield from self._formulas(problem, front)

    def submit(self, problem: SearchProblem, front: Front) -> None:
        """Submit formulas of y to a front."""
        submit_all(self.formulas(problem, front), front)


def submit_all(formulas: Iterable[Expr], front: Front) -> None:
    """Submit formulas of y until the search may end."""
    for formula in formulas:
        front.offer(formula)
        if front.done:
            return


def sum_of_terms(problem: SearchProblem, names: Sequence[Expr], values: Array) -> Expr:
    """Return y as a sum of terms (row, term) and a constant, fitted by least squares."""
    columns, rows = np.column_stack((np.ones(len(values)), values)), problem.fitted
    coefficients = solve(columns[rows], problem.target[rows])
    sizes = np.abs(coefficients) * np.abs(columns).max(axis=0)
    coefficients[~(sizes > tuned.NEGLIGIBLE_TERM * sizes.max())] = 0.0
    return problem.rebuild(linear(coefficients, (sympy.Integer(1), *names)))


def linear(coefficients: Iterable[float], names: Iterable[Expr]) -> Expr:
    """Return the sum of expressions times coefficients."""
    pairs = zip(coefficients, names, strict=True)
    return sympy.Add(*(sympy.Float(float(c)) * name for c, name in pairs if c))


@dataclass(frozen=True)
class LinearModel(Ansatz):
    """A linear model; multiples of single columns if there are too few rows."""

    all_sizes: bool = False  # sums of every number of columns, or only the best by BIC

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        columns = np.column_stack((np.ones(len(problem.target)), problem.columns))
        if columns.shape[1] > problem.count:
            for name, column in zip(problem.names, problem.columns.T, strict=True):
                size = float(column @ problem.target / (column @ column))
                yield problem.rebuild(sympy.Float(size) * name)
            return
        columns, target = columns[problem.fitted], problem.target[problem.fitted]
        names = [sympy.Integer(1), *problem.names]
        for _, terms in eliminate(columns, target)[: None if self.all_sizes else 1]:
            if not self.all_sizes or len(terms) <= tuned.MAX_TERMS:
                sizes = solve(columns[:, terms], target)
                yield problem.rebuild(linear(sizes, (names[k] for k in terms)))


@dataclass(frozen=True)
class PowerLaw(Ansatz):
    """Power laws: products of powers of as few columns as possible, and of all columns."""

    targets: tuple[str, ...] = ("id",)  # names of transforms

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        for _, view in transformed(problem, self.targets):
            for powers in dict.fromkeys((*few_powers(view), tuple(exponents_of(view)))):
                name, values = sympy.Integer(1), np.ones(len(view.target))
                for i, p in enumerate(np.nan_to_num(powers)):
                    power, number = _rounded(p)
                    name *= view.names[i] ** number
                    with np.errstate(all="ignore"):
                        values = values * raised(view.columns[:, i], power)
                if np.isfinite(values).all():
                    size = float(values @ view.target / (values @ values))
                    if view.scale.unit:  # the largest value alone would determine it
                        size = float(np.median(view.target / values))
                    yield view.rebuild(sympy.Float(size) * name)


def _rounded(power: float) -> tuple[float, Expr]:
    """Round a power to a near multiple of one half or one third."""
    half, third = round(2 * power) / 2, round(3 * power) / 3
    if abs(power - half) < tuned.HALF_POWER_TOLERANCE:
        return half, sympy.Rational(half)
    power = third if abs(power - third) < tuned.THIRD_POWER_TOLERANCE else power
    return power, sympy.Float(power)


POWER_LAW = PowerLaw()


def smooth_curve(problem: SearchProblem) -> tuple[Callable[[Array], Array], float]:
    """Return a spline of the target, or of its log or inverse, and the error."""
    x, best = problem.columns[:, 0], float("inf")
    chosen: tuple[Transform, int, Callable[[Array], Array], Basis, Array] | None = None
    transforms = (transform for transform in TRANSFORMS[:3] if transform.fits(problem.target))
    scales: list[Callable[[Array], Array]] = [np.asarray]
    if problem.positive[0]:
        scales.insert(0, np.log)
    counts = [pieces for pieces in tuned.SINGLE.pieces if pieces <= max(2, problem.count // 3)]
    for transform, scale, pieces in product(transforms, scales, counts):
        target, side = transform.value(problem.target), transform.side(problem.target)
        basis = Basis(scale(x), pieces)
        matrix = basis.at(scale(x))
        error = quick_error(matrix, target, problem.held_out)
        if error < tuned.MIN_REFINEMENT_GAIN * best:
            best, chosen = error, (transform, side, scale, basis, solve(matrix, target))

    def curve(x: Array) -> Array:
        if chosen is None:
            return np.full_like(x, np.nan)
        transform, side, scale, basis, coefficients = chosen
        return np.asarray(side * transform.inverse(basis.at(scale(x)) @ coefficients))

    return curve, best


@dataclass(frozen=True)
class SingleColumn(Ansatz):
    """A function of the only column."""

    deep: bool  # with functions of functions, sums and products of two
    outer: tuple[str, ...]
    inner: tuple[str, ...]
    limits = tuned.SINGLE

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        if not front.is_new(U, *problem.key, sympy.Integer(int(self.deep))):
            return
        if self.deep:
            yield from _PAIRS.formulas(problem, front)
        curve, error = smooth_curve(problem)
        low, high = np.quantile(problem.columns[:, 0], tuned.CURVE_ENDS)
        grid, name = np.linspace(low, high, tuned.GRID_POINTS), problem.names[0]
        with np.errstate(all="ignore"):
            values = curve(grid)
        if error > self.limits.error or not np.isfinite(values).all():
            return
        epsilon = float(np.clip(error, 1e-10, 1e-2))
        noisy = self.deep and error > tuned.NOISY_CURVE
        for (curves,) in fit_curves(
            grid[None],
            [values],
            outer=self.outer,
            inner=self.inner,
            epsilon=epsilon,
            count=tuned.WRITTEN_UNDER_NOISE if noisy else self.limits.written,
        ):
            for formula in (c.expression for c in curves if c.error < tuned.LOST_CURVE):
                yield problem.rebuild(formula.xreplace({U: name}))
        if self.deep and not front.done:
            for formula in _products(grid, values, epsilon):
                yield problem.rebuild(formula.xreplace({U: name}))


def _products(grid: Array, values: Array, epsilon: float) -> Iterator[Expr]:
    """Return products of a power or exponential and another function of `U`."""
    with np.errstate(all="ignore"):
        divided = [(values / factor, name) for factor, name in multipliers(grid)]
    pairs = [(v, name) for v, name in divided if np.ptp(v) > 0]
    *_, options = fit_curves(
        np.repeat(grid[None], len(pairs), axis=0),
        [v for v, _ in pairs],
        outer=("id", "inv"),
        epsilon=epsilon,
        count=tuned.PRODUCT_CURVES,
    )
    scored = []
    for curves, (_, name) in zip(options, pairs, strict=True):
        for curve in curves:
            formula = curve.expression * name
            error = relative_error(evaluator((formula,), (U,))(grid[:, None])[:, 0], values)
            if error < tuned.LOST_CURVE and curve.price < tuned.SHORT_SUM:
                scored.append((replace(curve, error=error).score(epsilon), formula))
    scored.sort(key=lambda pair: pair[0])
    return (formula for _, formula in scored[: tuned.SINGLE.written])


def multipliers(x: Array) -> list[tuple[Array, Expr]]:
    """Return powers and exponentials of a column as possible factors, with names."""
    powers = [p for p in (-3, -2, -1, 1, 2, 3) if (away(x, tuned.POWER) if p < 0 else clear(x))]
    factors: list[tuple[Array, Expr]] = [(x ** float(p), U**p) for p in powers]
    middle = float(x.mean())
    for rate in tuned.RATES:
        k = 2.0 * rate / float(np.ptp(x))
        name = sympy.Float(float(np.exp(-k * middle))) * sympy.exp(sympy.Float(k) * U)
        factors.append((np.exp(k * (x - middle)), name))
    return factors


class PairOfAtoms(Ansatz):
    """A sum of two functions from a fixed list, and a constant."""

    limits = tuned.ATOM_PAIRS

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        rows = problem.fitted
        names, matrix = atoms_on(problem.columns[:, 0])
        for pair in self._best(best_pairs(matrix[rows], problem.target[rows])):
            terms = [names[k].xreplace({U: problem.names[0]}) for k in pair]
            yield sum_of_terms(problem, terms, matrix[:, pair])


@lru_cache(maxsize=1)
def atoms() -> tuple[Expr, ...]:
    """Return the atoms: functions of the symbol `U` without parameters."""
    waves = (sympy.sin, sympy.cos)
    forms = [U**k for k in range(1, 7)]
    forms += [1 / U, 1 / U**2, sympy.sqrt(U), U ** sympy.Rational(3, 2), abs(U)]
    for wave in waves:
        forms += [wave(k * U) for k in (1, 2, 3)] + [wave(sympy.pi * U), wave(2 * sympy.pi * U)]
        forms += [U**k * wave(U) for k in (1, 2, 3)] + [wave(U**2), wave(U) / U]
        forms += [wave(U) * sympy.exp(s * U) for s in (1, -1)]
        forms += [wave(U**j) * other(U**k) for other in waves for j in (2, 3) for k in range(1, j)]
        forms += [wave(U) * other(U) for other in waves] + [wave(U + U**2), wave(U) ** 3]
    for s in (1, -1):
        forms += [U**k * sympy.exp(s * U) for k in (0, 1, 2)]
    forms += [sympy.exp(-(U**2)), U * sympy.exp(-(U**2)), sympy.exp(U**2)]
    forms += [sympy.log(U), sympy.log(U + 1), sympy.log(U**2 + 1), U * sympy.log(U)]
    forms += [sympy.tanh(U), sympy.atan(U), sympy.tan(U), 1 / (1 + U), 1 / (1 + U**2)]
    forms += [sympy.sqrt(1 + U**2), U**2 * sympy.log(U), sympy.sinh(U), sympy.cosh(U)]
    forms += [sympy.asinh(U), sympy.acosh(U), sympy.exp(U) / (1 + sympy.exp(U))]
    return tuple(dict.fromkeys(forms))


def atoms_on(x: Array) -> tuple[list[Expr], Array]:
    """Return the atoms that are finite on a column, and their values (row, atom)."""
    matrix = _evaluate()(x[:, None])
    with np.errstate(all="ignore"):
        good = np.isfinite(matrix).all(axis=0)
        good &= np.abs(matrix).max(axis=0) < tuned.LARGEST_ATOM
    return [atom for atom, ok in zip(atoms(), good, strict=True) if ok], matrix[:, good]


@lru_cache(maxsize=1)
def _evaluate() -> Callable[..., Array]:
    return evaluator(atoms(), (U,))


_PAIRS = PairOfAtoms()
_LINES = LinearModel(all_sizes=True)
_SIMPLE_CURVE = SingleColumn(deep=False, outer=("id", "log"), inner=("id",))
CURVE = SingleColumn(
    deep=True,
    outer=("id", "log", "inv", "sq", "invsq", "sqrt", "invsqrt", "exp", "sinh"),
    inner=("id", "sq", "inv", "sqrt", "log", "exp"),
)


def short_formulas(problem: SearchProblem, front: Front) -> Iterator[Expr]:
    """Yield power laws, linear models, and curves of the best single columns."""
    yield from POWER_LAW.formulas(problem, front)
    fits = []
    for name, column in zip(problem.names, problem.columns.T, strict=True):
        matrix = Basis(column, tuned.SINGLE.pieces[2]).at(column)
        fits.append((quick_error(matrix, problem.target, problem.held_out), column, name))
    fits.sort(key=lambda fit: fit[0])
    best = [problem.onto(*fit) for error, *fit in fits[: tuned.ONE_COLUMN_CURVES] if error < np.inf]
    for ansatz, problems in ((_LINES, (*best, problem)), (_SIMPLE_CURVE, best)):
        for view in problems:
            yield from ansatz.formulas(view, front)
