"""Index models: splines of one combination of columns, times other functions of columns.

`PowersTimesIndex` takes the logarithm of the target for a sum of logarithms and a spline of the
combination; `MonomialsTimesIndex` takes the target for a sum of monomials times splines of it.
`ProductWithCombination` solves y = a(w) b(z) as the null vector of a(w) - y / b(z), linear in the
splines of a and 1/b.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import Ansatz
from kanlens.discovery.curves import U, fit_curves, written
from kanlens.discovery.front import Front
from kanlens.discovery.monomials import Powers, evaluate, monomial, unit
from kanlens.discovery.problems import PAIRS, SearchProblem, divided, transformed
from kanlens.discovery.regression import Array, Basis, away, eliminate, quick_error, solve, varies
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


@dataclass(frozen=True, eq=False)
class WeightedSplines:
    """A sum of few monomials times functions of one combination, and their values on a grid."""

    problem: SearchProblem
    index: Index
    library: list[Powers]
    grid: Array
    values: list[Array]
    error: float

    @classmethod
    def of(cls, problem: SearchProblem, index: Index, library: list[Powers]) -> WeightedSplines:
        """Fit with ever finer splines and keep the best."""
        rows, best = problem.fitted, float("inf")
        for pieces in tuned.WEIGHTED.pieces:
            matrix, basis = _weighted_matrix(problem, index, library, pieces)
            if matrix.shape[1] > rows.sum() // 3 and best < float("inf"):
                break
            error = quick_error(matrix, problem.target, problem.held_out)
            if error < best:
                best = error
                found = solve(matrix[rows], problem.target[rows]).reshape(len(library), -1)
                grid, values = basis.grid, list((basis.at(basis.grid) @ found.T).T)
        return cls(problem, index, library, grid, values, best)

    @property
    def cost(self) -> float:
        """Error, dearer with every further monomial."""
        return max(self.error, 1e-12) * tuned.MONOMIAL_PRICE ** len(self.library)


class MonomialsTimesIndex(Ansatz):
    """A sum of monomials times functions of one combination, for a few transforms."""

    limits = tuned.WEIGHTED

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        scored = sorted(_costs(problem, front), key=lambda item: item[:2])
        models = []
        for cost, _, each, index, library in scored[: tuned.INDICES_COMPARED]:
            if cost < min(self.limits.error, 1e3 * scored[0][0]) and not front.done:
                models += _short_models(each, index, library)
        for model in sorted(models, key=lambda model: model.cost)[: self.limits.tried]:
            yield from self._written(model, front)
            other = model.index.inverse
            if other is not None and not front.done:
                other_model = WeightedSplines.of(model.problem, other, model.library)
                yield from self._written(other_model, front)

    def _written(self, model: WeightedSplines, front: Front) -> Iterator[Expr]:
        """Write each function; one alone in all the ways there are for one column, too."""
        if model.error > self.limits.error:
            return
        problem, count = model.problem, len(model.library)
        for parts in written(
            np.repeat(model.grid[None], count, axis=0),
            model.values,
            [model.index.name] * count,
            most=self.limits.written,
            outer=("id", "invsq", "inv", "sq"),
            epsilon=float(np.clip(model.error, 1e-9, 1e-2)),
        ):
            pairs = zip(parts, model.library, strict=True)
            terms = (part * monomial(problem.names, powers) for part, powers in pairs)
            yield problem.rebuild(sympy.Add(*terms))
        factor = evaluate(problem.columns, model.library[:1])[:, 0]
        if count == 1 and away(factor, tuned.POWER):
            rest = problem.over(factor, monomial(problem.names, model.library[0]))
            yield from CURVE.formulas(rest.onto(model.index.values, model.index.name), front)


_Costed = tuple[float, int, SearchProblem, Index, list[Powers]]


def _costs(problem: SearchProblem, front: Front) -> list[_Costed]:
    """Return the error of every combination with every set of monomials, for some targets."""
    scored: list[_Costed] = []
    for name, each in transformed(problem, tuned.WEIGHTED.targets):
        for index in indices(each):
            if front.done:
                return scored
            for library in _multipliers(each, index):
                matrix, _ = _weighted_matrix(each, index, library)
                if matrix.shape[1] <= problem.count // 2:
                    error = quick_error(matrix, each.target, each.held_out)
                    cost = max(error, 1e-9) * (1 if name == "id" else 2)
                    scored.append((cost, matrix.shape[1], each, index, library))
    return scored


def _short_models(
    problem: SearchProblem, index: Index, library: list[Powers]
) -> list[WeightedSplines]:
    """Drop monomials one by one, and fit what is left when few are, with finer splines."""
    matrix, _ = _weighted_matrix(problem, index, library)
    groups = np.repeat(np.arange(len(library)), matrix.shape[1] // len(library))
    rows = problem.fitted
    path = eliminate(matrix[rows], problem.target[rows], groups, ridge=tuned.INDEX_RIDGE)
    few = (each.groups for each in path if len(each.groups) <= tuned.MOST_MONOMIALS)
    return [WeightedSplines.of(problem, index, [library[g] for g in groups]) for groups in few]


def _multipliers(problem: SearchProblem, index: Index) -> list[list[Powers]]:
    """Return sets of monomials of the columns that the combination does not replace."""
    width, own = problem.width, index.exponents or ()
    single = sum(1 for p in own if p) == 1
    free = [i for i in range(width) if not (single and own[i])]
    one = [unit(width, {})]
    firsts = [unit(width, {i: 1.0}) for i in free]
    products = [unit(width, {i: 1.0, j: 1.0}) for i, j in itertools.combinations(free, 2)]
    squares = [unit(width, {i: 2.0}) for i in free]
    found = [one + firsts, one + firsts + products + squares]
    if problem.positive[free].all() and len(free) > 1:
        roots = [unit(width, {i: 0.5, j: 0.5}) for i, j in itertools.combinations(free, 2)]
        ratios = [unit(width, {i: 1.0, j: -1.0}) for i, j in itertools.permutations(free, 2)]
        found += [one + firsts + roots, firsts + ratios]
    return [library for library in found if len(library) <= tuned.INDEX_LIBRARY]


def _weighted_matrix(
    problem: SearchProblem,
    index: Index,
    library: Sequence[Powers],
    pieces: int = tuned.WEIGHTED.pieces[0],
) -> tuple[Array, Basis]:
    basis = Basis.of(index.values, pieces)
    splines = basis.at(index.values)  # (row, basis)
    weights = evaluate(problem.columns, library)  # (row, monomial)
    return (weights[:, :, None] * splines[:, None, :]).reshape(len(splines), -1), basis


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
