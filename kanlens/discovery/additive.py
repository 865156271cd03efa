"""Sums and products of splines of single columns.

`AdditiveModel` tries known functions of the target; `functions_of_sum` writes an unknown one.
`SeparableProduct` is for products, also of any sign, where logarithms fail.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import Ansatz
from kanlens.discovery.curves import U, written
from kanlens.discovery.problems import SearchProblem, transformed
from kanlens.discovery.regression import Array, Basis, quick_errors, relative_error, solve, weighted
from kanlens.discovery.scheduling import BudgetedFront
from kanlens.discovery.univariate import CURVE
from kanlens.symbolic.composition import Expr, evaluator


@dataclass(frozen=True, eq=False)
class ColumnSplines:
    """Splines of single columns, and a constant of their sum, with an error on held-out rows."""

    bases: Sequence[Basis]
    coefficients: Sequence[Array]
    error: float
    constant: float = 0.0

    def curves(self, ends: Array | None = None) -> tuple[Array, list[Array]]:
        """Return even points of every column, maybe between given ends, and the splines there."""
        ends = np.array([(b.low, b.high) for b in self.bases]) if ends is None else ends
        grids = np.linspace(ends[:, 0], ends[:, 1], tuned.GRID_POINTS, axis=1)
        pairs = zip(self.bases, self.coefficients, grids, strict=True)
        return grids, [basis.at(grid) @ c for basis, c, grid in pairs]


def column_splines(problem: SearchProblem, pieces: int) -> tuple[list[Basis], Array, Array]:
    """Return bases, ones and the B-splines of every column, each centered, and whose each is."""
    bases = [Basis.of(column, pieces) for column in problem.columns.T]
    splines = [basis.at(x)[:, 1:] for basis, x in zip(bases, problem.columns.T, strict=True)]
    blocks = [np.ones((len(problem.columns), 1)), *(b - b.mean(axis=0) for b in splines)]
    owners = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])
    return bases, np.concatenate(blocks, axis=1), owners


def by_column(coefficients: Array, owners: Array) -> list[Array]:
    """Return the coefficients of every column, with 0 for the B-spline that was left out."""
    columns = range(1, int(owners.max()) + 1)
    return [np.concatenate(([0.0], coefficients[owners == i])) for i in columns]


def _additive_matrix(problem: SearchProblem) -> tuple[list[Basis], Array, Array]:
    """Lay fewer pieces where there are few rows."""
    most = problem.count // (3 * problem.width) - 4
    return column_splines(problem, max(1, min(tuned.ADDITIVE.pieces[0], most)))


def additive_error(problem: SearchProblem, weights: Array | None = None) -> float:
    """Return how badly a sum of splines fits, on the held-out rows."""
    matrix, target = weighted(weights, _additive_matrix(problem)[1], problem.target)
    return quick_errors(matrix, [target], problem.held_out)[0]


def solve_additive(problem: SearchProblem, weights: Array | None = None) -> ColumnSplines:
    """Fit a sum of splines, with residuals multiplied by weights."""
    bases, matrix, owners = _additive_matrix(problem)
    heavy, target = weighted(weights, matrix, problem.target)
    found = solve(heavy[problem.fitted], target[problem.fitted])
    error = relative_error((heavy @ found)[problem.judged], target[problem.judged])
    parts = by_column(found, owners)
    means = [
        float(basis.at(x)[:, 1:].mean(axis=0) @ c[1:])
        for basis, x, c in zip(bases, problem.columns.T, parts, strict=True)
    ]
    return ColumnSplines(bases, parts, error, float(found[0]) - sum(means))


@dataclass(frozen=True)
class AdditiveModel(Ansatz):
    """A sum of functions of the columns, for the target and its transforms."""

    near: bool  # whether only models that are nearly exact are written, or only the others
    limits = tuned.ADDITIVE

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        """Take the two best transforms, and where there is noise the two best weighted ones."""
        made = transformed(problem, self.limits.targets)
        _, matrix, _ = _additive_matrix(problem)
        errors = quick_errors(matrix, [each.target for _, each in made], problem.held_out)
        for name, each in self._best(zip(errors, made, strict=True)):
            found = solve_additive(each)
            if (found.error < tuned.GOOD_ADDITIVE) == self.near:
                yield from self._written(name, each, found)
        if not self.near and min(errors) > tuned.NOISELESS and not front.done:
            uneven = [(name, each) for name, each in made if each.weights is not None]
            for name, each in self._best((additive_error(p, p.weights), (n, p)) for n, p in uneven):
                yield from self._written(name, each, solve_additive(each, each.weights))

    def _written(self, name: str, problem: SearchProblem, found: ColumnSplines) -> Iterator[Expr]:
        """Write the model of a transformed target."""
        grids, values = found.curves()
        sizes = np.array([v.std() for v in values])
        least = tuned.DEAD_PART * np.sqrt(found.error + 1e-6) * sizes.max()
        live = np.flatnonzero(sizes > least)
        if len(live) == 0:
            return
        log = name == "log"  # a sum of logarithms is written as a product
        means = (float(v.mean()) for i, v in enumerate(values) if log or i not in live)
        constant = found.constant + sum(means)
        for parts in written(
            grids[live],
            [np.exp(values[i] - values[i].mean()) if log else values[i] for i in live],
            [problem.names[i] for i in live],
            most=self.limits.written if found.error < tuned.GOOD_ADDITIVE else 2,
            outer=("id", "inv", "invsq", "sq", "invsqrt", "log") if log else ("id",),
            inner=("id",) if log else ("id", "sq"),
            epsilon=float(np.clip(found.error, 1e-9, 1e-2)),
        ):
            size = sympy.Float(float(np.exp(constant)) if log else constant)
            total = sympy.log(sympy.Mul(*parts) * size) if log else sympy.Add(*parts, size)
            yield problem.rebuild(total)


def functions_of_sum(
    problem: SearchProblem, found: ColumnSplines, front: BudgetedFront
) -> Iterator[Expr]:
    """Yield formulas of an unknown function of a sum of splines."""
    if found.error > tuned.OUTER.error:
        return
    ends = np.quantile(problem.columns, tuned.CURVE_ENDS, axis=0).T
    grids, values = found.curves(ends)
    spread = max(float(v.std()) for v in values)
    live = [i for i, v in enumerate(values) if v.std() > tuned.IDLE_WEIGHT * spread]
    for choice in written(
        grids[live],
        [values[i] / spread for i in live],
        [U for _ in live],
        most=tuned.OUTER.written,
        outer=("id", "exp"),
        inner=("id", "sq", "inv"),
        epsilon=max(found.error, 1e-10),
    ):
        total, names = np.zeros(len(problem.target)), []
        for i, expression in zip(live, choice, strict=True):
            rest = expression.as_independent(U, as_Add=True)[1]
            total = total + evaluator((rest,), (U,))(problem.columns[:, i : i + 1])[:, 0]
            names.append(rest.xreplace({U: problem.names[i]}))
        if np.isfinite(total).all() and np.ptp(total) > 0:
            every = CURVE.formulas(problem.onto(total, sympy.Add(*names)), front)
            yield from itertools.islice(every, tuned.OUTER_WRITTEN)


class SeparableProduct(Ansatz):
    """A product of functions of the columns, where the target changes its sign."""

    limits = tuned.SEPARABLE

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        if problem.count < 3 * tuned.SEPARABLE.pieces[0]:
            return
        for _, each in transformed(problem, ("log",)):  # of which it would be a sum
            if additive_error(each) > self.limits.error:
                return
        found = spline_product(problem)
        if found.error > self.limits.error:
            return
        grids, values = found.curves()
        scale = sympy.Float(float(np.prod([np.abs(v).max() for v in values])))
        for parts in written(
            grids,
            [v / np.abs(v).max() for v in values],
            problem.names,
            most=self.limits.written,
            outer=("id", "inv", "sq"),
            inner=("id", "sq", "inv"),
            epsilon=float(np.clip(found.error, 1e-8, 1e-2)),
        ):
            yield problem.rebuild(scale * sympy.Mul(*parts))


def spline_product(problem: SearchProblem) -> ColumnSplines:
    """Fit a product of splines of the columns, until it gets no better."""
    bases = [Basis.of(column, tuned.SEPARABLE.pieces[0]) for column in problem.columns.T]
    blocks = [basis.at(c) for basis, c in zip(bases, problem.columns.T, strict=True)]
    parts = [np.ones(block.shape[1]) for block in blocks]
    best, kept, waited, rows = float("inf"), parts, 0, problem.fitted
    for done in range(tuned.SEPARABLE_ROUNDS):
        for i, block in enumerate(blocks):  # each factor in turn; all but the last are of size 1
            pairs = zip(blocks, parts, strict=True)
            weight = np.prod([b @ p for j, (b, p) in enumerate(pairs) if j != i], axis=0)
            own = solve((block * weight[:, None])[rows], problem.target[rows])
            size = float(np.abs(block @ own).max()) or 1.0
            parts[i] = own if i == len(blocks) - 1 else own / size
        made = np.prod([b @ p for b, p in zip(blocks, parts, strict=True)], axis=0)
        error = relative_error(made[problem.judged], problem.target[problem.judged])
        waited = 0 if error < 0.99 * best else waited + 1
        if error < best:
            best, kept = error, list(parts)
        hopeless = best > tuned.FAR_PRODUCT and done >= tuned.SEPARABLE_WAIT
        if hopeless or waited >= tuned.SEPARABLE_WAIT:
            break
    return ColumnSplines(bases, kept, best)
