"""A target of either sign as a function of one column times a function of a combination.

If ``y = a(w) b(z)``, then ``a(w) - y / b(z)`` vanishes, which is linear in the splines of a and of
1/b: the pair is the null vector of one matrix.
"""

from __future__ import annotations

import numpy as np
import sympy

from kanlens.discovery.curves import U, fit_curves
from kanlens.discovery.front import Front
from kanlens.discovery.index_model import Index, indices
from kanlens.discovery.problems import Problem
from kanlens.discovery.regression import Array
from kanlens.discovery.single import curve_formulas
from kanlens.discovery.splines import Basis

_PIECES = (6, 20, 40)  # of the combination; the column has the first of these
_MOST_WIDE = 4
_NULL = 0.03  # size of the null vector's image, relative to that of the target
_TRIED = 3


def product_formulas(problem: Problem, front: Front) -> None:
    """Offer products of a function of one column and one of a combination.

    Parameters
    ----------
    problem : Problem
    front : Front
    """
    if not 2 <= problem.width <= _MOST_WIDE or not problem.held_out.any():
        return
    scored: list[tuple[float, int, Index, int, Array]] = []
    for index in indices(problem):
        for i in range(problem.width):
            if front.done:
                return
            if index.name == problem.names[i]:
                continue
            size, values = _null_vector(problem, index, i)
            scored.append((size, len(scored), index, i, values))
    scored.sort(key=lambda item: item[:2])
    for size, _, index, i, values in scored[:_TRIED]:
        if size < _NULL and (size < 1e-3 or size**2 < 2 * front.best_error) and not front.done:
            _offer_product(problem, index, i, values, front)


def _null_vector(problem: Problem, index: Index, column: int) -> tuple[float, Array]:
    """Return how nearly there is a null vector, and 1/b on even points of the column."""
    fitted, judged = ~problem.held_out, problem.held_out
    z, t = problem.columns[:, column], problem.target / (problem.target.std() or 1.0)
    second = Basis.of(z, _PIECES[0])
    below = -t[:, None] * second.at(z)
    best, values = float("inf"), np.ones(len(second.grid))
    for pieces in _PIECES:
        first = Basis.of(index.values, pieces)
        above = first.at(index.values)
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


def _offer_product(problem: Problem, index: Index, i: int, values: Array, front: Front) -> None:
    z = problem.columns[:, i]
    grid = Basis.of(z, _PIECES[0]).grid
    options = fit_curves(
        grid[None], [values / values.mean()], outer=("id", "inv", "sq", "invsq", "log"), kept=4
    )
    for curve in options[0]:
        if front.done:
            return
        below = curve.expression.subs(U, problem.names[i])
        made = np.asarray(sympy.lambdify(U, curve.expression, "numpy")(z), dtype=np.float64)
        made = np.broadcast_to(made, z.shape)
        if not np.isfinite(made).all() or np.abs(made).min() < 1e-9:
            continue
        rest = problem.with_target(problem.target * made, lambda e, b=below: e / b)  # type: ignore[misc]
        joined = Problem(
            index.values[:, None], (index.name,), rest.target, rest.held_out, rest.rebuild
        )
        curve_formulas(joined, front, deep=False)
