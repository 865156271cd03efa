"""A target that is an unknown function of a sum of functions of single columns.

If ``y = g(sum of f_i(x_i))``, a function of y equals that sum: the two are the first pair of
canonical correlation [1]_ between the splines of y and those of the columns, one singular value
decomposition. The functions f_i are then written as formulas, and y as a function of their sum.

References
----------
.. [1] L. Breiman, J. H. Friedman, Estimating optimal transformations for multiple regression and
   correlation, J. Am. Stat. Assoc. 80, 1985.
"""

from __future__ import annotations

import itertools

import numpy as np
import sympy

from kanlens.discovery.additive import additive_matrix, choices
from kanlens.discovery.curves import U, fit_curves
from kanlens.discovery.front import Front
from kanlens.discovery.problems import Problem
from kanlens.discovery.regression import Array
from kanlens.discovery.single import curve_formulas
from kanlens.discovery.splines import Basis
from kanlens.symbolic.composition import Expr, evaluator

_PIECES = 8
_RIDGE = 1e-9
_UNEXPLAINED = 3e-3  # 1 - r**2 beyond which no formula is tried
_CHOICES = 6
_IDLE = 1e-3  # share of the largest weight at which a column says nothing


def outer_formulas(problem: Problem, front: Front) -> None:
    """Offer functions of sums of functions of the columns."""
    rows = int((~problem.held_out).sum())
    if problem.width < 2 or rows < 4 * _PIECES * problem.width:
        return
    straight, weights = inner_line(problem)
    if straight < _UNEXPLAINED and not front.done:
        largest = float(np.abs(weights).max())
        kept = [i for i, w in enumerate(weights) if abs(w) > _IDLE * largest]
        line = {i: sympy.Float(float(weights[i]) / largest) * U for i in kept}
        offer_outer(problem, line, front)
    error, bases, parts = inner_sum(problem)
    if error > _UNEXPLAINED or front.done:
        return
    grids = np.stack([basis.grid for basis in bases])
    values = [b.at(b.grid)[:, 1:] @ part for b, part in zip(bases, parts, strict=True)]
    spread = max(float(v.std()) for v in values)
    live = [i for i, v in enumerate(values) if v.std() > 1e-3 * spread]
    options = fit_curves(
        grids[live],
        [values[i] / spread for i in live],
        outer=("id", "exp"),
        inner=("id", "sq"),
        epsilon=max(error, 1e-8),
    )
    for choice in itertools.islice(choices(options), _CHOICES):
        if front.done:
            return
        offer_outer(problem, dict(zip(live, (c.expression for c in choice), strict=True)), front)


def offer_outer(problem: Problem, inner: dict[int, Expr], front: Front) -> None:
    """Offer functions of a sum of functions of the columns.

    Parameters
    ----------
    problem : Problem
    inner : dict of int to Expr
        The function of each column in the sum, of the symbol `U`.
    front : Front
    """
    total, names = np.zeros(len(problem.target)), []
    for i, expression in inner.items():
        rest = expression.as_independent(U, as_Add=True)[1]
        total = total + evaluator((rest,), (U,))(problem.columns[:, i : i + 1])[:, 0]
        names.append(rest.subs(U, problem.names[i]))
    if np.isfinite(total).all() and np.ptp(total) > 0:
        whole = (sympy.Add(*names),)
        joined = Problem(total[:, None], whole, problem.target, problem.held_out, problem.rebuild)
        curve_formulas(joined, front)


def inner_sum(problem: Problem) -> tuple[float, tuple[Basis, ...], list[Array]]:
    """Return the sum that some function of the target equals best.

    Returns
    -------
    tuple
        1 - r**2 on the held-out rows, the splines of the columns, and the coefficients of each
        (of all but the first B-spline).
    """
    bases = tuple(Basis.of(c, _PIECES) for c in problem.columns.T)
    matrix, owners = additive_matrix(problem.columns, bases)
    error, found = _correlated(problem, matrix[:, 1:])
    return error, bases, [found[owners[1:] == i + 1] for i in range(problem.width)]


def _correlated(problem: Problem, inside: Array) -> tuple[float, Array]:
    """Return 1 - r**2 of the first canonical pair on the held-out rows, and its weights."""
    fitted = ~problem.held_out
    judged = problem.held_out if problem.held_out.any() else fitted
    inside = inside - inside[fitted].mean(axis=0)
    outside = Basis.of(problem.target, _PIECES).at(problem.target)[:, 1:]
    outside = outside - outside[fitted].mean(axis=0)
    one, back = _whitened(inside[fitted])
    two, forth = _whitened(outside[fitted])
    if 0 in (one.shape[1], two.shape[1]):  # one of them is constant on the fitted rows
        return float("inf"), np.zeros(inside.shape[1])
    u, _, vt = np.linalg.svd(one.T @ two, full_matrices=False)
    found, other = back @ u[:, 0], forth @ vt[0]
    r = np.corrcoef(inside[judged] @ found, outside[judged] @ other)[0, 1]
    return float(1 - r**2), np.asarray(found)


def inner_line(problem: Problem) -> tuple[float, Array]:
    """Return the sum of multiples of columns that some function of the target equals best.

    Returns
    -------
    tuple
        1 - r**2 on the held-out rows, and the multiple of each column.
    """
    size = problem.columns.std(axis=0)
    error, found = _correlated(problem, problem.columns / size)
    return error, found / size


def _whitened(matrix: Array) -> tuple[Array, Array]:
    """Return an orthonormal basis of the columns, and how it is made of them."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    good = s > _RIDGE * max(s[0], np.finfo(float).tiny)
    return u[:, good], vt[good].T / s[good]
