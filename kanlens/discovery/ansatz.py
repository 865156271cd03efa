"""The interface of all ansatzes, and the two simplest: a sum of columns, a product of powers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.problems import SearchProblem, exponents_of, few_powers, raised, transformed
from kanlens.discovery.regression import Array, eliminate, solve, weighted
from kanlens.discovery.scheduling import BudgetedFront
from kanlens.symbolic.composition import Expr

Fit = TypeVar("Fit")


class Ansatz(ABC):
    """A family of models of a target, each a way to its formula."""

    limits = tuned.Limits()
    costly = False  # for wide problems: then only near the top of the search

    @abstractmethod
    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        """Fit models, and write those that are worth it as formulas of y, the likeliest first."""

    def _best(self, fits: Iterable[tuple[float, Fit]]) -> Iterator[Fit]:
        """Yield the fits of least error that are good enough, as many as are tried."""
        ranked = sorted(fits, key=lambda pair: pair[0])[: self.limits.tried]
        return (fit for error, fit in ranked if error < self.limits.error)

    def formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        """Yield formulas of y if the problem is as wide as the limits say."""
        if self.limits.narrowest <= problem.width <= self.limits.widest:
            yield from self._formulas(problem, front)

    def offer(self, problem: SearchProblem, front: BudgetedFront) -> None:
        """Offer formulas of y to a front."""
        offer_all(self.formulas(problem, front), front)


def offer_all(formulas: Iterable[Expr], front: BudgetedFront) -> None:
    """Offer formulas of y until the search may end."""
    for formula in formulas:
        front.offer(formula)
        if front.done:
            return


@dataclass(frozen=True)
class Through(Ansatz):
    """Another ansatz for functions of the target."""

    ansatz: Ansatz
    transforms: tuple[str, ...]

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        for _, each in transformed(problem, self.transforms):
            yield from self.ansatz.formulas(each, front)


def sum_of_terms(
    problem: SearchProblem, names: Sequence[Expr], values: Array, weights: Array | None = None
) -> Expr:
    """Return y, by least squares, of a target that is a sum of terms (row, term) and a constant."""
    columns, rows = np.column_stack((np.ones(len(values)), values)), problem.fitted
    heavy, target = weighted(weights, columns, problem.target)
    found = solve(heavy[rows], target[rows])
    sizes = np.abs(found) * np.abs(columns).max(axis=0)
    kept = np.flatnonzero(sizes > tuned.NEGLIGIBLE_TERM * sizes.max())
    every = (sympy.Integer(1), *names)
    return problem.rebuild(linear(found[kept], [every[k] for k in kept]))


def linear(coefficients: Iterable[float], names: Iterable[Expr]) -> Expr:
    """Return a sum of multiples of expressions."""
    pairs = zip(coefficients, names, strict=True)
    return sympy.Add(*(sympy.Float(float(c)) * name for c, name in pairs if c))


@dataclass(frozen=True)
class LinearModel(Ansatz):
    """A sum of multiples of the columns; of single ones where there are too few rows for a sum."""

    every: bool = False  # sums of every number of columns, or only the best by BIC

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        columns = np.column_stack((np.ones(len(problem.target)), problem.columns))
        if columns.shape[1] > problem.count:
            for name, column in zip(problem.names, problem.columns.T, strict=True):
                size = float(column @ problem.target / (column @ column))
                yield problem.rebuild(sympy.Float(size) * name)
            return
        columns, target = columns[problem.fitted], problem.target[problem.fitted]
        names = [sympy.Integer(1), *problem.names]
        for selection in eliminate(columns, target)[: None if self.every else 1]:
            chosen = list(selection.groups)
            if not self.every or len(chosen) <= tuned.MOST_TERMS:
                sizes = solve(columns[:, chosen], target)
                yield problem.rebuild(linear(sizes, (names[k] for k in chosen)))


class PowerLaw(Ansatz):
    """A product of powers of the columns: of as few as tell the target, and of all."""

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        for powers in dict.fromkeys((*few_powers(problem), tuple(exponents_of(problem)))):
            name, values = sympy.Integer(1), np.ones(len(problem.target))
            for i, p in enumerate(np.nan_to_num(powers)):
                half, third = round(2 * p) / 2, round(3 * p) / 3
                near = abs(p - half) < tuned.NEAR_HALF_POWER
                power = half if near else third if abs(p - third) < tuned.NEAR_THIRD_POWER else p
                number = sympy.Rational if power == half else sympy.Float
                name *= problem.names[i] ** number(power)
                with np.errstate(all="ignore"):
                    values = values * raised(problem.columns[:, i], power)
            if np.isfinite(values).all():
                size = float(values @ problem.target / (values @ values))
                if problem.scale.unit:  # the largest value alone would settle it
                    size = float(np.median(problem.target / values))
                yield problem.rebuild(sympy.Float(size) * name)


POWER_LAW = PowerLaw()
