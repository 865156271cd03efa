"""Sums and products of functions of columns, of combinations, and of a sum.

If y = f(z) g(c), then y / f(z) - g(c) is zero, which is linear in splines of z for 1 / f and of c
for g: the null vector has the coefficients of both.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens._runtime import check_time
from kanlens.discovery import _settings as tuned
from kanlens.discovery._ansatz import CURVE, Ansatz, sum_of_terms
from kanlens.discovery._blocks import Argument, arguments
from kanlens.discovery._curve_fitting import U, written
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import (
    Array,
    Basis,
    away,
    best_pairs,
    quick_errors,
    relative_error,
    solve,
    weighted,
)
from kanlens.discovery._search_problem import SearchProblem, transformed
from kanlens.symbolic._composition import Expr, evaluator


@dataclass(frozen=True, eq=False)
class ColumnSplines:
    """A constant plus splines of single columns, with the held-out error."""

    bases: Sequence[Basis]
    coefficients: Sequence[Array]
    error: float
    constant: float = 0.0

    def curves(self, ends: Array | None = None) -> tuple[Array, list[Array]]:
        """Return a uniform grid for every column, and the values of its spline there."""
        ends = np.array([(b.low, b.high) for b in self.bases]) if ends is None else ends
        grids = np.linspace(ends[:, 0], ends[:, 1], tuned.GRID_POINTS, axis=1)
        splines = zip(self.bases, self.coefficients, grids, strict=True)
        return grids, [basis.at(grid) @ c for basis, c, grid in splines]


def column_splines(problem: SearchProblem, pieces: int) -> tuple[list[Basis], Array, Array]:
    """Return the bases, the design matrix (ones and centered B-splines), and each term's column."""
    bases = [Basis(column, pieces) for column in problem.columns.T]
    splines = [basis.at(x)[:, 1:] for basis, x in zip(bases, problem.columns.T, strict=True)]
    blocks = [np.ones((len(problem.columns), 1)), *(b - b.mean(axis=0) for b in splines)]
    owners = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])
    return bases, np.concatenate(blocks, axis=1), owners


def by_column(coefficients: Array, owners: Array) -> list[Array]:
    """Return the coefficients of every column; the first B-spline, which is redundant, gets 0."""
    columns = range(1, int(owners.max()) + 1)
    return [np.concatenate(([0.0], coefficients[owners == i])) for i in columns]


def _additive_matrix(problem: SearchProblem) -> tuple[list[Basis], Array, Array]:
    """Return the matrix of `column_splines`, with fewer pieces for fewer rows."""
    most = problem.count // (3 * problem.width) - 4
    return column_splines(problem, max(1, min(tuned.ADDITIVE.pieces[0], most)))


def additive_error(problem: SearchProblem, weights: Array | None = None) -> float:
    """Return the held-out error of a fitted sum of splines."""
    matrix, target = weighted(weights, _additive_matrix(problem)[1], problem.target)
    return quick_errors(matrix, [target], problem.held_out)[0]


def solve_additive(problem: SearchProblem, weights: Array | None = None) -> ColumnSplines:
    """Fit a sum of splines, with residuals multiplied by weights."""
    bases, matrix, owners = _additive_matrix(problem)
    heavy, target = weighted(weights, matrix, problem.target)
    solution = solve(heavy[problem.fitted], target[problem.fitted])
    error = relative_error((heavy @ solution)[problem.judged], target[problem.judged])
    parts = by_column(solution, owners)
    means = [
        float(basis.at(x)[:, 1:].mean(axis=0) @ c[1:])
        for basis, x, c in zip(bases, problem.columns.T, parts, strict=True)
    ]
    return ColumnSplines(bases, parts, error, float(solution[0]) - sum(means))


@dataclass(frozen=True)
class AdditiveModel(Ansatz):
    """A sum of functions of the columns, for the target and its transforms."""

    near: bool  # whether only models that are nearly exact are written, or only the others
    limits = tuned.ADDITIVE

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Yield formulas of the best transforms of y; with noise, weighted fits too."""
        views = transformed(problem, self.limits.targets)
        _, matrix, _ = _additive_matrix(problem)
        errors = quick_errors(matrix, [view.target for _, view in views], problem.held_out)
        for name, view in self._best(zip(errors, views, strict=True)):
            model = solve_additive(view)
            if (model.error < tuned.GOOD_ADDITIVE) == self.near:
                yield from self._written(name, view, model)
        if not self.near and min(errors) > tuned.NOISELESS and not front.done:
            uneven = [(name, view) for name, view in views if view.weights is not None]
            fits = ((additive_error(view, view.weights), (name, view)) for name, view in uneven)
            for name, view in self._best(fits):
                yield from self._written(name, view, solve_additive(view, view.weights))

    def _written(self, name: str, problem: SearchProblem, model: ColumnSplines) -> Iterator[Expr]:
        """Yield formulas from the spline model of a transformed target."""
        grids, values = model.curves()
        sizes = np.array([v.std() for v in values])
        least = tuned.DEAD_PART * np.sqrt(model.error + 1e-6) * sizes.max()
        active = np.flatnonzero(sizes > least)
        if len(active) == 0:
            return
        log = name == "log"  # a sum of logarithms is written as a product
        means = (float(v.mean()) for i, v in enumerate(values) if log or i not in active)
        constant = model.constant + sum(means)
        for parts in written(
            grids[active],
            [np.exp(values[i] - values[i].mean()) if log else values[i] for i in active],
            [problem.names[i] for i in active],
            most=self.limits.written if model.error < tuned.GOOD_ADDITIVE else 2,
            outer=("id", "inv", "invsq", "sq", "invsqrt", "log") if log else ("id",),
            inner=("id",) if log else ("id", "sq"),
            epsilon=float(np.clip(model.error, 1e-9, 1e-2)),
        ):
            size = sympy.Float(float(np.exp(constant)) if log else constant)
            total = sympy.log(sympy.Mul(*parts) * size) if log else sympy.Add(*parts, size)
            yield problem.rebuild(total)


def functions_of_sum(
    problem: SearchProblem, splines: ColumnSplines, front: Front
) -> Iterator[Expr]:
    """Yield formulas of an unknown function of a sum of splines."""
    ends = np.quantile(problem.columns, tuned.CURVE_ENDS, axis=0).T
    grids, values = splines.curves(ends)
    spread = max(float(v.std()) for v in values)
    active = [i for i, v in enumerate(values) if v.std() > tuned.IDLE_WEIGHT * spread]
    for parts in written(
        grids[active],
        [values[i] / spread for i in active],
        [U for _ in active],
        most=tuned.SUMS_WRITTEN,
        outer=("id", "exp"),
        inner=("id", "sq", "inv"),
        epsilon=max(splines.error, 1e-10),
    ):
        total, names = np.zeros(len(problem.target)), []
        for i, expression in zip(active, parts, strict=True):
            rest = expression.as_independent(U, as_Add=True)[1]
            total = total + evaluator((rest,), (U,))(problem.columns[:, i : i + 1])[:, 0]
            names.append(rest.xreplace({U: problem.names[i]}))
        if np.isfinite(total).all() and np.ptp(total) > 0:
            formulas = CURVE.formulas(problem.onto(total, sympy.Add(*names)), front)
            yield from itertools.islice(formulas, tuned.OUTER_WRITTEN)


class SeparableProduct(Ansatz):
    """A product of functions of the columns, for a target that changes sign."""

    limits = tuned.SEPARABLE

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        if problem.count < 3 * self.limits.pieces[0]:
            return
        for _, view in transformed(problem, self.limits.targets):
            logarithm = transformed(view, ("log",))  # of which it would be a sum
            if all(additive_error(log) <= self.limits.error for _, log in logarithm):
                model = spline_product(view)
                if model.error <= self.limits.error:
                    yield from self._written(view, model)

    def _written(self, problem: SearchProblem, model: ColumnSplines) -> Iterator[Expr]:
        grids, values = model.curves()
        scale = sympy.Float(float(np.prod([np.abs(v).max() for v in values])))
        for parts in written(
            grids,
            [v / np.abs(v).max() for v in values],
            problem.names,
            most=self.limits.written,
            outer=("id", "inv", "sq"),
            inner=("id", "sq", "inv"),
            epsilon=float(np.clip(model.error, 1e-8, 1e-2)),
        ):
            yield problem.rebuild(scale * sympy.Mul(*parts))


def spline_product(problem: SearchProblem) -> ColumnSplines:
    """Fit a product of splines by alternating least squares."""
    bases = [Basis(column, tuned.SEPARABLE.pieces[0]) for column in problem.columns.T]
    blocks = [basis.at(c) for basis, c in zip(bases, problem.columns.T, strict=True)]
    parts = [np.ones(block.shape[1]) for block in blocks]
    factors = [block @ part for block, part in zip(blocks, parts, strict=True)]
    best, waited, rows = ColumnSplines(bases, parts, np.inf), 0, problem.fitted
    for step in range(tuned.SEPARABLE_ROUNDS):
        for i, block in enumerate(blocks):  # all factors but the last are of size 1
            weight = np.prod([f for j, f in enumerate(factors) if j != i], axis=0)
            own = solve((block * weight[:, None])[rows], problem.target[rows])
            size = 1.0 if i == len(blocks) - 1 else float(np.abs(block @ own).max()) or 1.0
            parts[i] = own / size
            factors[i] = block @ parts[i]
        fit = np.prod(factors, axis=0)
        error = relative_error(fit[problem.judged], problem.target[problem.judged])
        waited = 0 if error < 0.99 * best.error else waited + 1
        if error < best.error:
            best = ColumnSplines(bases, list(parts), error)
        hopeless = best.error > tuned.MAX_PRODUCT_ERROR and step >= tuned.SEPARABLE_WAIT
        if hopeless or waited >= tuned.SEPARABLE_WAIT:
            break
    return best


def null_vector(problem: SearchProblem, argument: Argument, column: int) -> tuple[float, Array]:
    """Return the held-out residual in standard deviations of g, and 1 / f on a uniform grid."""
    target = problem.target / (problem.target.std() or 1.0)
    basis = Basis(problem.columns[:, column], tuned.PRODUCTS.pieces[0])
    below = -target[:, None] * basis.at(problem.columns[:, column])
    best = np.inf, np.ones(len(basis.grid))
    for pieces in tuned.PRODUCTS.pieces:
        above = Basis(argument.scaled, pieces).at(argument.scaled)
        matrix = np.concatenate((above, below), axis=1)
        if matrix.shape[1] > problem.fitted.sum() // 3:
            break
        vector = np.linalg.svd(matrix[problem.fitted], full_matrices=False)[2][-1]
        g = above[problem.held_out] @ vector[: above.shape[1]]
        left = np.sqrt(np.mean((matrix[problem.held_out] @ vector) ** 2))
        size = float(left / (g.std() + 1e-300))  # g may be 0
        curve = basis.at(basis.grid) @ vector[above.shape[1] :]
        if size < 0.5 * best[0] and (curve.min() > 0 or curve.max() < 0):
            best = size, np.abs(curve)
    return best


class ProductWithCombination(Ansatz):
    """A function of one column times a function of a combination of other columns."""

    limits = tuned.PRODUCTS

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Divide y by functions of a column, and fit the quotient to combinations of others."""
        nulls = []
        for argument in arguments(problem) if problem.held_out.any() else ():
            for column in range(problem.width) if argument.used.sum() > 1 else ():
                check_time()
                size, curve = null_vector(problem, argument, column)
                nulls.append((size, (argument, column, curve / curve.mean())))
        most, outer = tuned.PRODUCTS.written, tuned.PRODUCT_OUTER
        for argument, column, curve in self._best(nulls):
            name, z = problem.names[column], problem.columns[:, column]
            grid = np.linspace(z.min(), z.max(), len(curve))
            for (below,) in written(grid[None], [curve], [U], most=most, outer=outer):
                values = evaluator((below,), (U,))(z[:, None])[:, 0]
                if np.isfinite(values).all() and away(values):
                    rest = problem.over(1 / values, 1 / below.xreplace({U: name}))
                    yield from CURVE.formulas(rest.onto(argument.values, argument.name), front)
                if front.done:
                    break


class DictionarySum(Ansatz):
    """A constant plus two terms: monomials, or monomials times a function of one column."""

    limits = tuned.DICTIONARY

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        names, matrix = dictionary(problem)
        rows = problem.fitted
        for _, view in transformed(problem, self.limits.targets):
            if front.done:
                return
            for terms in self._best(best_pairs(matrix[rows], view.target[rows])):
                yield sum_of_terms(view, [names[k] for k in terms], matrix[:, terms])


def dictionary(problem: SearchProblem) -> tuple[list[Expr], Array]:
    """Return the terms and their values, (row, term)."""
    monomials = _monomials(problem)
    products = [
        (factor * function, weight * values)
        for name, u in _arguments(problem)
        for function, values in functions_of(name, u)
        for factor, weight in monomials[: 1 + problem.width + 2]
    ]
    names, columns = zip(*monomials, *products, strict=True)
    matrix = np.stack(columns, axis=1)
    good = np.isfinite(matrix).all(axis=0) & (np.abs(matrix).max(axis=0) < tuned.LARGEST_TERM)
    good &= np.ptp(matrix, axis=0) > 0
    terms = np.flatnonzero(good)[: tuned.DICTIONARY_TERMS]
    return [names[k] for k in terms], matrix[:, terms]


def _monomials(problem: SearchProblem) -> list[tuple[Expr, Array]]:
    """Return 1, the columns, their inverses, and products of up to three."""
    x, names, width = problem.columns, problem.names, problem.width
    divides = away(x, tuned.CLEAR_OF_ZERO)
    terms: list[tuple[Expr, Array]] = [(sympy.Integer(1), np.ones(len(x)))]
    terms += zip(names, x.T, strict=True)
    terms += [(1 / n, 1 / c) for n, c, ok in zip(names, x.T, divides, strict=True) if ok]
    several = (itertools.combinations_with_replacement(range(width), count) for count in (2, 3))
    for places in itertools.chain(*several):
        terms.append((sympy.Mul(*(names[i] for i in places)), np.prod(x[:, places], axis=1)))
    pairs = [(i, j) for i, j in itertools.permutations(range(width), 2) if divides[j]]
    return terms + [(names[i] / names[j], x[:, i] / x[:, j]) for i, j in pairs]


def _arguments(problem: SearchProblem) -> list[tuple[Expr, Array]]:
    """Return arguments of functions: combinations of columns."""
    simple = sorted(arguments(problem), key=lambda a: a.cost)[: tuned.DICTIONARY_ARGUMENTS]
    inputs = [(argument.name, argument.values) for argument in simple]
    columns = list(zip(problem.names, problem.columns.T, strict=True))
    for (p, a), (q, b) in itertools.combinations(columns, 2):
        inputs += [((p - 1) * (q - 1), (a - 1) * (b - 1)), ((p + 1) * (q + 1), (a + 1) * (b + 1))]
    return inputs + [(n**2, c**2) for n, c in columns]


def functions_of(name: Expr, u: Array) -> list[tuple[Expr, Array]]:
    """Return functions of an argument that are defined on its values."""
    functions = [(sympy.sin(name), np.sin(u)), (sympy.cos(name), np.cos(u))]
    if np.abs(u).max() < tuned.DICTIONARY_EXPONENT:
        functions += [(sympy.exp(name), np.exp(u)), (sympy.exp(-name), np.exp(-u))]
    if u.min() > 0:
        functions += [(sympy.log(name), np.log(u)), (sympy.sqrt(name), np.sqrt(u))]
    functions.append((sympy.tanh(name), np.tanh(u)))
    if np.abs(np.sin(u)).min() > tuned.CLEAR_OF_POLE:
        functions.append((1 / sympy.tan(name), 1 / np.tan(u)))
    return functions
