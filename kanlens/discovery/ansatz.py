"""The interface of all ansatzes, and the two simplest: a sum of columns, a product of powers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.front import Front
from kanlens.discovery.problems import SearchProblem, transformed
from kanlens.discovery.reductions import exponents_of, few_powers, raised
from kanlens.discovery.regression import Array, eliminate, solve, weighted
from kanlens.symbolic.composition import Expr

Model = TypeVar("Model")


class Ansatz(ABC, Generic[Model]):
    """A family of models of a target, each a way to its formula."""

    limits = tuned.Limits()
    costly = False  # for wide problems: then only near the top of the search

    def _suits(self, problem: SearchProblem) -> bool:
        """Say whether a problem is worth a fit."""
        return self.limits.narrowest <= problem.width <= self.limits.widest

    @abstractmethod
    def _fit(self, problem: SearchProblem, front: Front) -> Iterable[Model]:
        """Fit models to a problem, and yield those that are worth a formula, the best first."""

    @abstractmethod
    def _write(self, model: Model, front: Front) -> Iterable[Expr]:
        """Write the functions of a model as formulas of y, the likeliest first."""

    def formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Yield formulas of y as long as the front wants any."""
        if self._suits(problem):
            for model in self._fit(problem, front):
                if front.done:
                    return
                yield from self._write(model, front)

    def offer(self, problem: SearchProblem, front: Front) -> None:
        """Offer formulas of y to a front."""
        for formula in self.formulas(problem, front):
            front.offer(formula)
            if front.done:
                return


@dataclass(frozen=True)
class Through(Ansatz[SearchProblem]):
    """Another ansatz for functions of the target."""

    ansatz: Ansatz[Any]
    transforms: tuple[str, ...]

    def _suits(self, problem: SearchProblem) -> bool:
        return self.ansatz.limits.narrowest <= problem.width <= self.ansatz.limits.widest

    def _fit(self, problem: SearchProblem, front: Front) -> Iterator[SearchProblem]:
        return (each for _, each in transformed(problem, self.transforms))

    def _write(self, model: SearchProblem, front: Front) -> Iterator[Expr]:
        return self.ansatz.formulas(model, front)


@dataclass(frozen=True, eq=False)
class CandidateTerms:
    """Terms whose sum, with a constant, may be the target."""

    problem: SearchProblem
    names: Sequence[Expr]
    values: Array  # (row, term)
    weights: Array | None = None  # (row,): of the residuals


class SumOfTerms(Ansatz[CandidateTerms]):
    """An ansatz whose models are terms: one formula each, the coefficients by least squares."""

    def _write(self, model: CandidateTerms, front: Front) -> Iterator[Expr]:
        """Leave out the terms that rounding would leave."""
        columns = np.column_stack((np.ones(len(model.values)), model.values))
        rows = model.problem.fitted
        weights = None if model.weights is None else model.weights[rows]
        found = solve(*weighted(weights, columns[rows], model.problem.target[rows]))
        sizes = np.abs(found) * np.abs(columns).max(axis=0)
        kept = np.flatnonzero(sizes > tuned.NEGLIGIBLE_TERM * sizes.max())
        names = (sympy.Integer(1), *model.names)
        yield model.problem.rebuild(linear(found[kept], [names[k] for k in kept]))


def linear(coefficients: Iterable[float], names: Iterable[Expr]) -> Expr:
    """Return a sum of multiples of expressions."""
    pairs = zip(coefficients, names, strict=True)
    return sympy.Add(*(sympy.Float(float(c)) * name for c, name in pairs))


class LinearModel(Ansatz[Expr]):
    """A sum of multiples of the columns; of single ones where there are too few rows for a sum."""

    def _fit(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        columns = np.column_stack((np.ones(len(problem.target)), problem.columns))
        if columns.shape[1] > problem.count:
            for name, column in zip(problem.names, problem.columns.T, strict=True):
                size = float(column @ problem.target / (column @ column))
                yield problem.rebuild(sympy.Float(size) * name)
            return
        columns, target = columns[problem.fitted], problem.target[problem.fitted]
        kept = list(eliminate(columns, target)[0].groups)
        names = [sympy.Integer(1), *problem.names]
        sizes = solve(columns[:, kept], target)
        yield problem.rebuild(linear(sizes, (names[k] for k in kept)))

    def _write(self, model: Expr, front: Front) -> list[Expr]:
        return [model]


class PowerLaw(Ansatz[tuple[SearchProblem, Array]]):
    """A product of powers of the columns: of as few as tell the target, and of all."""

    def _fit(self, problem: SearchProblem, front: Front) -> Iterator[tuple[SearchProblem, Array]]:
        for powers in dict.fromkeys((*few_powers(problem), tuple(exponents_of(problem)))):
            yield problem, np.nan_to_num(powers)

    def _write(self, model: tuple[SearchProblem, Array], front: Front) -> Iterator[Expr]:
        problem, powers = model
        name, values = sympy.Integer(1), np.ones(len(problem.target))
        for i, p in enumerate(powers):
            half, third = round(2 * p) / 2, round(3 * p) / 3
            exact = abs(p - half) < tuned.NEAR_HALF_POWER
            power = half if exact else third if abs(p - third) < tuned.NEAR_THIRD_POWER else p
            exact = power == half
            name *= problem.names[i] ** (sympy.Rational(power) if exact else sympy.Float(power))
            with np.errstate(all="ignore"):
                values = values * raised(problem.columns[:, i], power)
        if np.isfinite(values).all():
            size = float(values @ problem.target / (values @ values))
            yield problem.rebuild(sympy.Float(size) * name)
