"""Products of a function of one column and a function of a combination.

y = f(z) g(c) says that y / f(z) - g(c) is zero, which is linear in splines of z for 1 / f and of c
for g: their null vector has both functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kanlens._runtime import check_time
from kanlens.discovery import _settings as tuned
from kanlens.discovery._ansatz import Ansatz
from kanlens.discovery._blocks import Argument, arguments
from kanlens.discovery._curve_fitting import U, written
from kanlens.discovery._priority_front import PriorityFront
from kanlens.discovery._regression import Array, Basis, away
from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._univariate import CURVE
from kanlens.symbolic._composition import Expr, evaluator


@dataclass(frozen=True, eq=False)
class NullVector:
    """Null vector of the equation of a product, with 1 / f on uniform points."""

    size: float  # of what is left on rows held out, in deviations of g
    argument: Argument
    column: int
    curve: Array  # (point,), of one sign

    @classmethod
    def of(cls, problem: SearchProblem, argument: Argument, column: int) -> NullVector:
        """Return the null vector of splines of a combination and a column."""
        target = problem.target / (problem.target.std() or 1.0)
        basis = Basis.of(problem.columns[:, column], tuned.PRODUCTS.pieces[0])
        below = -target[:, None] * basis.at(problem.columns[:, column])
        best = cls(np.inf, argument, column, np.ones(len(basis.grid)))
        for pieces in tuned.PRODUCTS.pieces:
            above = Basis.of(argument.scaled, pieces).at(argument.scaled)
            matrix = np.concatenate((above, below), axis=1)
            if matrix.shape[1] > problem.fitted.sum() // 3:
                break
            vector = np.linalg.svd(matrix[problem.fitted], full_matrices=False)[2][-1]
            g = above[problem.held_out] @ vector[: above.shape[1]]
            left = np.sqrt(np.mean((matrix[problem.held_out] @ vector) ** 2))
            size = float(left / (g.std() + 1e-300))  # g may be nothing
            curve = basis.at(basis.grid) @ vector[above.shape[1] :]
            if size < 0.5 * best.size and (curve.min() > 0 or curve.max() < 0):
                best = cls(size, argument, column, np.abs(curve))
        return best


class ProductWithCombination(Ansatz):
    """A function of one column times a function of a combination."""

    limits = tuned.PRODUCTS

    def _formulas(self, problem: SearchProblem, front: PriorityFront) -> Iterator[Expr]:
        """Divide by functions of a column and fit the rest to combinations."""
        nulls = []
        for argument in arguments(problem) if problem.held_out.any() else ():
            for column in range(problem.width) if argument.used.sum() > 1 else ():
                check_time()
                nulls.append(NullVector.of(problem, argument, column))
        most, outer = tuned.PRODUCTS.written, tuned.PRODUCT_OUTER
        for null in self._best((null.size, null) for null in nulls):
            name, z = problem.names[null.column], problem.columns[:, null.column]
            curve = null.curve / null.curve.mean()
            grid = np.linspace(z.min(), z.max(), len(curve))
            for (below,) in written(grid[None], [curve], [U], most=most, outer=outer):
                values = evaluator((below,), (U,))(z[:, None])[:, 0]
                if np.isfinite(values).all() and away(values):
                    rest = problem.over(1 / values, 1 / below.xreplace({U: name}))
                    argument = null.argument
                    yield from CURVE.formulas(rest.onto(argument.values, argument.name), front)
                if front.done:
                    break
