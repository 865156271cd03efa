"""Additive models: a function of the target as a sum of splines of single columns.

`AdditiveModel` tries known functions of the target; `OuterFunction` finds an unknown one as the
first canonical correlation [1]_ between the splines of y and those of the columns.

References
----------
.. [1] L. Breiman, J. H. Friedman, Estimating optimal transformations for multiple regression and
   correlation, J. Am. Stat. Assoc. 80, 1985.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import Ansatz
from kanlens.discovery.curves import U, written
from kanlens.discovery.front import Front
from kanlens.discovery.problems import SearchProblem, transformed
from kanlens.discovery.regression import Array, Basis, quick_error, relative_error, solve, weighted
from kanlens.discovery.univariate import CURVE
from kanlens.symbolic.composition import Expr, evaluator


@dataclass(frozen=True, eq=False)
class SplineSum:
    """A sum of splines of single columns and a constant, with its error on the held-out rows."""

    bases: tuple[Basis, ...]
    coefficients: tuple[Array, ...]
    constant: float
    error: float

    def curves(self) -> tuple[Array, list[Array]]:
        """Return even points of every column and the splines there, centered."""
        grids = [basis.grid for basis in self.bases]
        values = [
            basis.at(grid) @ c
            for basis, grid, c in zip(self.bases, grids, self.coefficients, strict=True)
        ]
        return np.stack(grids), values


def _matrix(problem: SearchProblem, pieces: int) -> tuple[tuple[Basis, ...], Array, Array]:
    """Return bases, ones and the B-splines of every column, each centered, and whose each is."""
    bases = tuple(Basis.of(c, pieces) for c in problem.columns.T)
    blocks, owners = [np.ones((len(problem.columns), 1))], [np.zeros(1, dtype=int)]
    for i, basis in enumerate(bases):
        block = basis.at(problem.columns[:, i])[:, 1:]
        blocks.append(block - block.mean(axis=0))
        owners.append(np.full(block.shape[1], i + 1))
    return bases, np.concatenate(blocks, axis=1), np.concatenate(owners)


def _additive_matrix(problem: SearchProblem) -> tuple[tuple[Basis, ...], Array, Array]:
    """Lay fewer pieces where there are few rows."""
    most = problem.count // (3 * problem.width) - 4
    return _matrix(problem, max(1, min(tuned.ADDITIVE.pieces[0], most)))


def additive_error(problem: SearchProblem, weights: Array | None = None) -> float:
    """Return how badly a sum of splines fits, on the held-out rows."""
    _, matrix, _ = _additive_matrix(problem)
    return quick_error(*weighted(weights, matrix, problem.target), problem.held_out)


def solve_additive(problem: SearchProblem, weights: Array | None = None) -> SplineSum:
    """Fit a sum of splines, with residuals multiplied by weights."""
    bases, matrix, owners = _additive_matrix(problem)
    heavy, target = weighted(weights, matrix, problem.target)
    found = solve(heavy[problem.fitted], target[problem.fitted])
    error = relative_error((heavy @ found)[problem.judged], target[problem.judged])
    parts = tuple(np.concatenate(([0.0], found[owners == i + 1])) for i in range(problem.width))
    means = [
        float(basis.at(x)[:, 1:].mean(axis=0) @ c[1:])
        for basis, x, c in zip(bases, problem.columns.T, parts, strict=True)
    ]
    return SplineSum(bases, parts, float(found[0]) - sum(means), error)


_Weighted = tuple[str, SearchProblem, Array | None]  # transform, problem, weights of the rows


class AdditiveModel(Ansatz[_Weighted]):
    """A sum of functions of the columns, for the target and its transforms."""

    limits = tuned.ADDITIVE

    def _fit(self, problem: SearchProblem, front: Front) -> Iterator[_Weighted]:
        """Take the two best transforms, and where there is noise the two best weighted ones."""
        made = transformed(problem, tuned.ADDITIVE.targets)
        even = self._ranked([(name, each, None) for name, each in made])
        yield from self._good(even)
        if even[0][0] > tuned.NOISELESS and not front.done:
            uneven = [(name, each, each.weights) for name, each in made]
            yield from self._good(self._ranked([one for one in uneven if one[2] is not None]))

    def _ranked(self, every: Sequence[_Weighted]) -> list[tuple[float, _Weighted]]:
        errors = [
            (additive_error(each, weights), (name, each, weights)) for name, each, weights in every
        ]
        return sorted(errors, key=lambda item: item[0])

    def _good(self, ranked: list[tuple[float, _Weighted]]) -> Iterator[_Weighted]:
        return (fit for error, fit in ranked[: self.limits.tried] if error < self.limits.error)

    def _write(self, model: _Weighted, front: Front) -> Iterator[Expr]:
        name, problem, weights = model
        found = solve_additive(problem, weights)
        grids, values = found.curves()
        sizes = np.array([v.std() for v in values])
        least = tuned.DEAD_PART * np.sqrt(found.error + 1e-6) * sizes.max()
        live = np.flatnonzero(sizes > least)
        if len(live) == 0:
            return
        log = name == "log"  # a sum of logarithms is written as a product
        for parts in written(
            grids[live],
            [np.exp(values[i] - values[i].mean()) if log else values[i] for i in live],
            [problem.names[i] for i in live],
            most=self.limits.written if found.error < tuned.GOOD_ADDITIVE else 2,
            outer=("id", "inv", "invsq", "sq", "invsqrt", "log") if log else ("id",),
            inner=("id",) if log else ("id", "sq"),
            epsilon=float(np.clip(found.error, 1e-9, 1e-2)),
        ):
            yield problem.rebuild(_sum(parts, found.constant, values, live, log=log))


def _sum(
    parts: list[Expr], constant: float, values: list[Array], live: Array, *, log: bool
) -> Expr:
    """Return the sum of parts (for the log: log of their product) and its constant."""
    if log:
        size = np.exp(constant + sum(float(v.mean()) for v in values))
        return sympy.log(sympy.Mul(*parts) * sympy.Float(float(size)))
    rest = constant + sum(float(v.mean()) for i, v in enumerate(values) if i not in live)
    return sympy.Add(*parts, sympy.Float(rest))


_Inside = tuple[SearchProblem, dict[int, Expr]]  # and the function of each column, of `U`


class OuterFunction(Ansatz[_Inside]):
    """An unknown function of a sum of multiples, or of functions, of the columns."""

    limits = tuned.OUTER

    def _suits(self, problem: SearchProblem) -> bool:
        enough = 4 * tuned.OUTER.pieces[0] * problem.width
        return super()._suits(problem) and problem.count >= enough

    def _fit(self, problem: SearchProblem, front: Front) -> Iterator[_Inside]:
        straight, weights = inner_line(problem)
        if straight < self.limits.error:
            largest = float(np.abs(weights).max())
            kept = [i for i, w in enumerate(weights) if abs(w) > tuned.IDLE_WEIGHT * largest]
            yield problem, {i: sympy.Float(float(weights[i]) / largest) * U for i in kept}
        error, bases, parts = inner_sum(problem)
        if error > self.limits.error or front.done:
            return
        values = [b.at(b.grid)[:, 1:] @ part for b, part in zip(bases, parts, strict=True)]
        spread = max(float(v.std()) for v in values)
        live = [i for i, v in enumerate(values) if v.std() > tuned.IDLE_WEIGHT * spread]
        for choice in written(
            np.stack([bases[i].grid for i in live]),
            [values[i] / spread for i in live],
            [U for _ in live],
            most=self.limits.written,
            outer=("id", "exp"),
            inner=("id", "sq"),
            epsilon=max(error, 1e-8),
        ):
            yield problem, dict(zip(live, choice, strict=True))

    def _write(self, model: _Inside, front: Front) -> Iterator[Expr]:
        problem, inner = model
        total, names = np.zeros(len(problem.target)), []
        for i, expression in inner.items():
            rest = expression.as_independent(U, as_Add=True)[1]
            total = total + evaluator((rest,), (U,))(problem.columns[:, i : i + 1])[:, 0]
            names.append(rest.subs(U, problem.names[i]))
        if np.isfinite(total).all() and np.ptp(total) > 0:
            yield from CURVE.formulas(problem.onto(total, sympy.Add(*names)), front)


def inner_sum(problem: SearchProblem) -> tuple[float, tuple[Basis, ...], list[Array]]:
    """Return the sum of splines of the columns that some function of the target equals best.

    First 1 - r**2 on the held-out rows; the coefficients are those of all but the first B-spline.
    """
    bases, matrix, owners = _matrix(problem, tuned.OUTER.pieces[0])
    error, found = _correlated(problem, matrix[:, 1:])
    return error, bases, [found[owners[1:] == i + 1] for i in range(problem.width)]


def inner_line(problem: SearchProblem) -> tuple[float, Array]:
    """Return 1 - r**2 and the multiples of columns whose sum some function of y equals best."""
    size = problem.columns.std(axis=0)
    error, found = _correlated(problem, problem.columns / size)
    return error, found / size


def _correlated(problem: SearchProblem, inside: Array) -> tuple[float, Array]:
    """Return 1 - r**2 of the first canonical pair on the held-out rows, and its weights."""
    fitted, judged = problem.fitted, problem.judged
    inside = inside - inside[fitted].mean(axis=0)
    outside = Basis.of(problem.target, tuned.OUTER.pieces[0]).at(problem.target)[:, 1:]
    outside = outside - outside[fitted].mean(axis=0)
    one, back = _whitened(inside[fitted])
    two, forth = _whitened(outside[fitted])
    if 0 in (one.shape[1], two.shape[1]):  # one of them is constant on the fitted rows
        return float("inf"), np.zeros(inside.shape[1])
    u, _, vt = np.linalg.svd(one.T @ two, full_matrices=False)
    found, other = back @ u[:, 0], forth @ vt[0]
    r = np.corrcoef(inside[judged] @ found, outside[judged] @ other)[0, 1]
    return float(1 - r**2), np.asarray(found)


def _whitened(matrix: Array) -> tuple[Array, Array]:
    """Return an orthonormal basis of the columns, and how it is made of them."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    good = s > tuned.WHITENING_RIDGE * max(s[0], np.finfo(float).tiny)
    return u[:, good], vt[good].T / s[good]
