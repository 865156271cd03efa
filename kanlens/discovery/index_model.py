"""Index models: a function of one combination of columns, times functions of columns.

`PowersTimesIndex` takes the logarithm of the target for a sum of logarithms and a spline of the
combination; `ProductWithCombination` solves y = a(w) b(z) as the null vector of a(w) - y / b(z),
linear in the splines of a and 1/b.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import Ansatz
from kanlens.discovery.curves import U, fit_curves
from kanlens.discovery.front import Front
from kanlens.discovery.monomials import Powers, evaluate, monomial
from kanlens.discovery.problems import PAIRS, SearchProblem, divided
from kanlens.discovery.regression import Array, Basis, away, quick_error, solve, varies
from kanlens.discovery.univariate import CURVE, PLAIN_CURVE
from kanlens.symbolic.composition import Expr, evaluator


@dataclass(frozen=True, eq=False)
class Index:
    """A combination of columns, with its exponents where it is a product of powers."""

    values: Array  # (row,)
    name: Expr
    exponents: Powers | None

    @property
    def inverse(self) -> Index | None:
        """One over a product of powers, where that is no single column."""
        if self.exponents is None or sum(1 for p in self.exponents if p) < 2:
            return None
        if not away(self.values):
            return None
        return Index(1 / self.values, 1 / self.name, tuple(-p for p in self.exponents))


def indices(problem: SearchProblem, *, most: int = tuned.INDEX_COLUMNS) -> list[Index]:
    """Return the columns, products of powers 1 and -1 of at most so many, differences, sums."""
    width, columns = problem.width, problem.columns
    divides = away(columns)
    found = []
    for exponents in itertools.product((0.0, 1.0, -1.0), repeat=width):
        used = [p for p in exponents if p]
        if not used or used[0] < 0 or len(used) > most:
            continue
        if any(p < 0 and not ok for p, ok in zip(exponents, divides, strict=True)):
            continue
        values = evaluate(columns, [exponents])[:, 0]
        found.append(Index(values, monomial(problem.names, exponents), exponents))
    for i, j in itertools.combinations(range(width), 2):
        a, b = columns[:, i], columns[:, j]
        p, q = problem.names[i], problem.names[j]
        found += [Index(form(a, b), form(p, q), None) for form in PAIRS]
    return [index for index in found if varies(index.values)]


class PowersTimesIndex(Ansatz):
    """A product of powers of columns and a function of one combination."""

    limits = tuned.FACTORED

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Take out powers that fit, and leave what is a function of the combination."""
        if not problem.one_sign:
            return
        columns = np.abs(problem.columns)
        usable = away(columns, tuned.NO_ZERO)
        logs, target = np.log(np.where(usable, columns, 1.0)), np.log(np.abs(problem.target))
        scored: list[tuple[float, Index]] = []
        for index in indices(problem, most=self.limits.widest):
            if front.done:
                return
            splines = Basis.of(index.values, tuned.FACTORED.pieces[0]).at(index.values)
            error = quick_error(np.column_stack((splines, logs)), target, problem.held_out)
            scored.append((error, index))
        near = max(1e-4, 3 * min((error for error, _ in scored), default=0.0))
        for index in self._best(pair for pair in scored if pair[0] < near):
            for powers in _powers_beside(problem, index, logs, target):
                rest = divided(problem, powers, set(range(problem.width)))
                for each in filter(None, (index, index.inverse)):
                    yield from CURVE.formulas(rest.onto(each.values, each.name), front)


def _powers_beside(
    problem: SearchProblem, index: Index, logs: Array, target: Array
) -> Iterator[Array]:
    """Yield the powers of the columns beside a combination, each of whose columns may have none."""
    splines = Basis.of(index.values, tuned.FACTORED.pieces[0]).at(index.values)
    rows, every = problem.fitted, range(problem.width)
    seen = set()
    for left_out in (i for i in every if index.exponents is None or index.exponents[i]):
        kept = [i for i in every if index.exponents is None or i != left_out]
        matrix = np.column_stack((splines, logs[:, kept]))
        powers = np.zeros(problem.width)
        powers[kept] = solve(matrix[rows], target[rows])[splines.shape[1] :]
        powers = np.round(2 * powers) / 2
        if tuple(powers) not in seen and np.abs(powers).max() <= tuned.HIGHEST_POWER:
            seen.add(tuple(powers))
            yield powers


class ProductWithCombination(Ansatz):
    """A function of one column times a function of a combination."""

    limits = tuned.BILINEAR

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        if not problem.held_out.any():
            return
        scored: list[tuple[float, tuple[Index, int, Array]]] = []
        for index in indices(problem):
            for i in range(problem.width):
                if front.done:
                    return
                if index.name != problem.names[i]:
                    size, values = _null_vector(problem, index, i)
                    scored.append((size, (index, i, values)))
        scored.sort(key=lambda item: item[0])
        for size, found in scored[: self.limits.tried]:
            sure = size < tuned.SURE_NULL_VECTOR or size**2 < 2 * front.best_error
            if size < self.limits.error and sure:
                yield from self._written(problem, *found, front)

    def _written(
        self, problem: SearchProblem, index: Index, i: int, values: Array, front: Front
    ) -> Iterator[Expr]:
        """Divide by what 1 / `values` on even points of a column seems to be."""
        z = problem.columns[:, i]
        options = fit_curves(
            Basis.of(z, tuned.BILINEAR.pieces[0]).grid[None],
            [values / values.mean()],
            outer=("id", "inv", "sq", "invsq", "log"),
            kept=self.limits.written,
        )
        for curve in options[0]:
            below = curve.expression.subs(U, problem.names[i])
            made = evaluator((curve.expression,), (U,))(z[:, None])[:, 0]
            if np.isfinite(made).all() and np.abs(made).min() >= tuned.NO_FACTOR:
                rest = problem.with_target(problem.target * made, lambda e, b=below: e / b)  # type: ignore[misc]
                yield from PLAIN_CURVE.formulas(rest.onto(index.values, index.name), front)


def _null_vector(problem: SearchProblem, index: Index, column: int) -> tuple[float, Array]:
    """Return how nearly there is a null vector, and 1/b on even points of the column."""
    fitted, judged = problem.fitted, problem.held_out
    z, t = problem.columns[:, column], problem.target / (problem.target.std() or 1.0)
    second = Basis.of(z, tuned.BILINEAR.pieces[0])
    below = -t[:, None] * second.at(z)
    best, values = float("inf"), np.ones(len(second.grid))
    for pieces in tuned.BILINEAR.pieces:
        above = Basis.of(index.values, pieces).at(index.values)
        if above.shape[1] + below.shape[1] > fitted.sum() // 3:
            break
        matrix = np.concatenate((above, below), axis=1)
        _, _, rows = np.linalg.svd(matrix[fitted], full_matrices=False)
        vector = rows[-1]
        image, part = matrix[judged] @ vector, above[judged] @ vector[: above.shape[1]]
        size = float(np.sqrt(np.mean(np.square(image)) / (part.var() + 1e-300)))
        curve = second.at(second.grid) @ vector[above.shape[1] :]
        if size < 0.5 * best and (curve.min() > 0 or curve.max() < 0):
            best, values = size, np.abs(curve)
    return best, values
