"""Products of functions, for targets of any sign, where logarithms fail.

`SeparableProduct` fits one factor after the other; `ProductWithCombination` solves y = a(w) b(z)
as the null vector of a(w) - y / b(z), linear in the splines of a and 1/b.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import Ansatz
from kanlens.discovery.curves import U, fit_curves, written
from kanlens.discovery.front import Front
from kanlens.discovery.index_model import Index, indices
from kanlens.discovery.problems import SearchProblem
from kanlens.discovery.regression import Array, Basis, relative_error, solve
from kanlens.discovery.univariate import PLAIN_CURVE
from kanlens.symbolic.composition import Expr


@dataclass(frozen=True, eq=False)
class SplineProduct:
    """A product of splines of the columns, with its error on the held-out rows."""

    problem: SearchProblem
    bases: list[Basis]
    parts: list[Array]  # coefficients
    error: float


class SeparableProduct(Ansatz[SplineProduct]):
    """A product of functions of the columns, where the target changes its sign."""

    limits = tuned.SEPARABLE

    def _suits(self, problem: SearchProblem) -> bool:
        enough = problem.count >= 3 * tuned.SEPARABLE.pieces[0]
        return super()._suits(problem) and enough and not problem.one_sign

    def _fit(self, problem: SearchProblem, front: Front) -> Iterator[SplineProduct]:
        found = spline_product(problem)
        if found.error <= self.limits.error:
            yield found

    def _write(self, model: SplineProduct, front: Front) -> Iterator[Expr]:
        pairs = zip(model.bases, model.parts, strict=True)
        values = [basis.at(basis.grid) @ part for basis, part in pairs]
        scale = sympy.Float(float(np.prod([np.abs(v).max() for v in values])))
        for parts in written(
            np.stack([basis.grid for basis in model.bases]),
            [v / np.abs(v).max() for v in values],
            model.problem.names,
            most=self.limits.written,
            outer=("id", "inv", "sq"),
            epsilon=float(np.clip(model.error, 1e-8, 1e-2)),
        ):
            yield model.problem.rebuild(scale * sympy.Mul(*parts))


def spline_product(problem: SearchProblem) -> SplineProduct:
    """Fit a product of splines of the columns, until it gets no better."""
    bases = [Basis.of(c, tuned.SEPARABLE.pieces[0]) for c in problem.columns.T]
    blocks = [basis.at(c) for basis, c in zip(bases, problem.columns.T, strict=True)]
    parts = [np.ones(block.shape[1]) for block in blocks]
    best, kept, waited = float("inf"), parts, 0
    for _ in range(tuned.SEPARABLE_ROUNDS):
        _improve(problem, blocks, parts)
        made = np.prod([b @ p for b, p in zip(blocks, parts, strict=True)], axis=0)
        error = relative_error(made[problem.judged], problem.target[problem.judged])
        waited = 0 if error < 0.99 * best else waited + 1
        if error < best:
            best, kept = error, list(parts)
        if waited >= tuned.SEPARABLE_WAIT:
            break
    return SplineProduct(problem, bases, kept, best)


def _improve(problem: SearchProblem, blocks: list[Array], parts: list[Array]) -> None:
    """Fit each factor in turn; all but the last are of size 1."""
    rows = problem.fitted
    for i, block in enumerate(blocks):
        others = [b @ p for j, (b, p) in enumerate(zip(blocks, parts, strict=True)) if j != i]
        weight = np.prod(others, axis=0)
        found = solve((block * weight[:, None])[rows], problem.target[rows])
        size = float(np.abs(block @ found).max()) or 1.0
        parts[i] = found if i == len(blocks) - 1 else found / size


_Factor = tuple[SearchProblem, Index, int, Array]  # combination, column, 1/b on even points of it


class ProductWithCombination(Ansatz[_Factor]):
    """A function of one column times a function of a combination."""

    limits = tuned.BILINEAR

    def _suits(self, problem: SearchProblem) -> bool:
        return super()._suits(problem) and bool(problem.held_out.any())

    def _fit(self, problem: SearchProblem, front: Front) -> Iterator[_Factor]:
        scored: list[tuple[float, int, _Factor]] = []
        for index in indices(problem):
            for i in range(problem.width):
                if front.done:
                    return
                if index.name != problem.names[i]:
                    size, values = _null_vector(problem, index, i)
                    scored.append((size, len(scored), (problem, index, i, values)))
        scored.sort(key=lambda item: item[:2])
        for size, _, found in scored[: self.limits.tried]:
            sure = size < tuned.SURE_NULL_VECTOR or size**2 < 2 * front.best_error
            if size < self.limits.error and sure:
                yield found

    def _write(self, model: _Factor, front: Front) -> Iterator[Expr]:
        problem, index, i, values = model
        z = problem.columns[:, i]
        options = fit_curves(
            Basis.of(z, tuned.BILINEAR.pieces[0]).grid[None],
            [values / values.mean()],
            outer=("id", "inv", "sq", "invsq", "log"),
            kept=self.limits.written,
        )
        for curve in options[0]:
            below = curve.expression.subs(U, problem.names[i])
            made = np.asarray(sympy.lambdify(U, curve.expression, "numpy")(z), dtype=np.float64)
            made = np.broadcast_to(made, z.shape)
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
