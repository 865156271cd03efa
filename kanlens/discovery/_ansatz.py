"""Interface of an ansatz (an assumed form of the formula); linear models and power laws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import sympy

from kanlens.discovery import _settings as tuned
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import Array, eliminate, solve
from kanlens.discovery._search_problem import (
    SearchProblem,
    exponents_of,
    few_powers,
    raised,
    transformed,
)
from kanlens.symbolic._composition import Expr

Fit = TypeVar("Fit")


class Ansatz(ABC):
    """A family of models of a target, each with its formula."""

    limits = tuned.Limits()

    @abstractmethod
    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Fit models and yield the promising ones as formulas of y, best first."""

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
    """Return y as a least-squares sum of terms (row, term) and a constant."""
    columns, rows = np.column_stack((np.ones(len(values)), values)), problem.fitted
    coefficients = solve(columns[rows], problem.target[rows])
    sizes = np.abs(coefficients) * np.abs(columns).max(axis=0)
    coefficients[~(sizes > tuned.NEGLIGIBLE_TERM * sizes.max())] = 0.0
    return problem.rebuild(linear(coefficients, (sympy.Integer(1), *names)))


def linear(coefficients: Iterable[float], names: Iterable[Expr]) -> Expr:
    """Return a sum of multiples of expressions."""
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
    """Power laws: products of powers of as few columns as possible, and of all."""

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
