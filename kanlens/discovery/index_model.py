"""Splines of one combination of columns, with powers of the columns in front of them.

Two models, both solved by least squares: the logarithm of the target as a sum of logarithms and a
spline of the combination, and the target as a sum of monomials times splines of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery.additive import choices
from kanlens.discovery.curves import U, fit_curves
from kanlens.discovery.front import Front
from kanlens.discovery.monomials import Powers, evaluate, monomial
from kanlens.discovery.problems import Problem, transformed
from kanlens.discovery.reductions import divided
from kanlens.discovery.regression import Array, eliminate, quick_error, solve
from kanlens.discovery.single import curve_formulas
from kanlens.discovery.splines import Basis, varies
from kanlens.symbolic.composition import Expr

_PIECES = 9
_WEIGHTED = ("id", "sq", "inv", "log", "sin")  # transforms of the target
_FEW = 7  # pieces while combinations are compared
_FINER = (7, 14, 28, 56)
_MOST_PARTS = 4
_COMPARED = 10  # combinations whose monomials are chosen
_LOST = 0.02  # error of a model that is not worth a formula
_SWAPS = 6
_MOST_WIDE = 6
_TRIED = 3


@dataclass(frozen=True, eq=False)
class Index:
    """A combination of columns.

    Attributes
    ----------
    values : ndarray, shape (row,)
    name : Expr
    exponents : tuple of int or None
        Where it is a product of powers.
    """

    values: Array
    name: Expr
    exponents: Powers | None

    @property
    def inverse(self) -> Index | None:
        """One over a product of powers, where that is no single column."""
        if self.exponents is None or sum(1 for p in self.exponents if p) < 2:
            return None
        if np.abs(self.values).min() < 1e-4 * np.abs(self.values).max():
            return None
        return Index(1 / self.values, 1 / self.name, tuple(-p for p in self.exponents))


def indices(problem: Problem, *, most: int = 4) -> list[Index]:
    """Return the columns, products of powers 1 and -1 of at most so many, differences, sums."""
    width, columns = problem.width, problem.columns
    size = np.abs(columns)
    divides = size.min(axis=0) > 1e-4 * size.max(axis=0)
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
        found += [Index(a - b, p - q, None), Index(a + b, p + q, None)]
        found += [Index(a**2 + b**2, p**2 + q**2, None), Index(a**2 - b**2, p**2 - q**2, None)]
    return [index for index in found if varies(index.values)]


def factored_formulas(problem: Problem, front: Front) -> None:
    """Offer products of powers of columns and a function of one combination."""
    size = np.abs(problem.target)
    if problem.width > _MOST_WIDE or not size.min() > 0:
        return
    signs = np.sign(problem.target)
    if (signs != signs[0]).any():
        return
    columns = np.abs(problem.columns)
    usable = columns.min(axis=0) > 1e-6 * columns.max(axis=0)
    logs, target = np.log(np.where(usable, columns, 1.0)), np.log(size)
    scored: list[tuple[float, int, Index]] = []
    for index in indices(problem, most=_MOST_WIDE):
        if front.done:
            return
        matrix = np.column_stack((Basis.of(index.values, _PIECES).at(index.values), logs))
        scored.append((quick_error(matrix, target, problem.held_out), len(scored), index))
    scored.sort(key=lambda item: item[:2])
    for error, _, index in scored[:_TRIED]:
        if error < 0.02 and error < max(1e-4, 3 * scored[0][0]) and not front.done:
            _offer_factored(problem, index, logs, target, front)


def _offer_factored(
    problem: Problem, index: Index, logs: Array, target: Array, front: Front
) -> None:
    """Take out powers that fit, then write what is left as a function of the combination."""
    basis = Basis.of(index.values, _PIECES).at(index.values)
    fitted = ~problem.held_out
    own = list(range(problem.width))
    if index.exponents is not None:
        own = [i for i, p in enumerate(index.exponents) if p]
    seen = set()
    for left_out in own:
        if front.done:
            return
        kept = [i for i in range(problem.width) if i != left_out]
        if index.exponents is None:
            kept = list(range(problem.width))
        matrix = np.column_stack((basis, logs[:, kept]))
        powers = np.zeros(problem.width)
        powers[kept] = solve(matrix[fitted], target[fitted])[basis.shape[1] :]
        powers = np.round(2 * powers) / 2
        if tuple(powers) in seen or np.abs(powers).max() > 8:
            continue
        seen.add(tuple(powers))
        rest = divided(problem, powers, set(range(problem.width)))
        for each in (index, index.inverse):
            if each is not None:
                column = each.values[:, None]
                joined = Problem(column, (each.name,), rest.target, rest.held_out, rest.rebuild)
                curve_formulas(joined, front)


def weighted_formulas(problem: Problem, front: Front) -> None:
    """Offer sums of monomials times functions of one combination."""
    if problem.width > _MOST_WIDE or problem.width < 2:
        return
    scored = sorted(_weighted_costs(problem, front), key=lambda item: item[:3])
    models = []
    for cost, _, _, each, index, library in scored[:_COMPARED]:
        if cost < min(_LOST, 1e3 * scored[0][0]) and not front.done:
            models += _short_models(each, index, library)
    for model in sorted(models, key=lambda model: model.cost)[:_TRIED]:
        _offer_weighted(model, front)
        other = model.index.inverse
        if other is not None and not front.done:
            weights = _weights_of(model.problem, other, model.library)
            _offer_weighted(_Model(model.problem, other, model.library, *weights), front)


_Costed = tuple[float, int, int, Problem, Index, list[Powers]]


def _weighted_costs(problem: Problem, front: Front) -> list[_Costed]:
    """Return the error of every combination with every set of monomials, for three targets."""
    scored: list[_Costed] = []
    rows = int((~problem.held_out).sum())
    for name, each in transformed(problem, _WEIGHTED):
        for index in indices(each):
            if front.done:
                return scored
            for library in _multipliers(each, index):
                matrix, _ = _weighted_matrix(each, index, library)
                if matrix.shape[1] > rows // 2:
                    continue
                error = quick_error(matrix, each.target, each.held_out)
                cost = max(error, 1e-9) * (1 if name == "id" else 2)
                scored.append((cost, matrix.shape[1], len(scored), each, index, library))
    return scored


@dataclass(frozen=True, eq=False)
class _Model:
    """A sum of few monomials times functions of one combination, and their values on a grid."""

    problem: Problem
    index: Index
    library: list[Powers]
    grid: Array
    values: list[Array]
    error: float

    @property
    def cost(self) -> float:
        """Error, dearer with every further monomial."""
        return max(self.error, 1e-12) * 3.0 ** len(self.library)


def _short_models(problem: Problem, index: Index, library: list[Powers]) -> list[_Model]:
    """Drop monomials one by one, and fit what is left when few are, with finer splines."""
    matrix, _ = _weighted_matrix(problem, index, library)
    groups = np.repeat(np.arange(len(library)), matrix.shape[1] // len(library))
    fitted = ~problem.held_out
    path = eliminate(matrix[fitted], problem.target[fitted], groups, ridge=1e-7)
    found = []
    for selection in path:
        if len(selection.groups) <= _MOST_PARTS:
            chosen = [library[g] for g in selection.groups]
            found.append(_Model(problem, index, chosen, *_weights_of(problem, index, chosen)))
    return found


def _multipliers(problem: Problem, index: Index) -> list[list[Powers]]:
    """Return sets of monomials of the columns that the combination does not replace."""
    width = problem.width
    own = index.exponents
    single = own is not None and sum(1 for p in own if p) == 1
    free = [i for i in range(width) if not (single and own is not None and own[i])]
    ok = problem.positive
    one = [_unit(width, {})]
    firsts = [_unit(width, {i: 1.0}) for i in free]
    found = [one + firsts]
    products = [_unit(width, {i: 1.0, j: 1.0}) for i, j in itertools.combinations(free, 2)]
    squares = [_unit(width, {i: 2.0}) for i in free]
    found.append(one + firsts + products + squares)
    if ok[free].all() and len(free) > 1:
        roots = [_unit(width, {i: 0.5, j: 0.5}) for i, j in itertools.combinations(free, 2)]
        ratios = [_unit(width, {i: 1.0, j: -1.0}) for i, j in itertools.permutations(free, 2)]
        found += [one + firsts + roots, firsts + ratios]
    return [library for library in found if len(library) <= 16]


def _unit(width: int, exponents: dict[int, float]) -> Powers:
    return tuple(exponents.get(i, 0.0) for i in range(width))


def _weighted_matrix(
    problem: Problem, index: Index, library: Sequence[Powers], pieces: int = _FEW
) -> tuple[Array, Basis]:
    basis = Basis.of(index.values, pieces)
    splines = basis.at(index.values)  # (row, basis)
    weights = evaluate(problem.columns, library)  # (row, monomial)
    return (weights[:, :, None] * splines[:, None, :]).reshape(len(splines), -1), basis


def _offer_weighted(model: _Model, front: Front) -> None:
    """Write the functions of a model as formulas."""
    if model.error > _LOST or front.done:
        return
    problem, index = model.problem, model.index
    options = fit_curves(
        np.repeat(model.grid[None], len(model.library), axis=0),
        model.values,
        outer=("id", "invsq", "inv", "sq"),
        epsilon=float(np.clip(model.error, 1e-9, 1e-2)),
    )
    for choice in itertools.islice(choices(options), _SWAPS):
        if front.done:
            return
        parts = [
            curve.expression.subs(U, index.name) * monomial(problem.names, powers)
            for curve, powers in zip(choice, model.library, strict=True)
        ]
        front.offer(problem.rebuild(sympy.Add(*parts)))
    if len(model.library) == 1 and not front.done:
        _offer_single(model, front)


def _offer_single(model: _Model, front: Front) -> None:
    """Write the function of a model with one monomial in all the ways there are for one column."""
    problem, powers = model.problem, model.library[0]
    factor = evaluate(problem.columns, [powers])[:, 0]
    if np.abs(factor).min() > 1e-9 * np.abs(factor).max():
        rest = problem.over(factor, monomial(problem.names, powers))
        column, name = model.index.values[:, None], (model.index.name,)
        curve_formulas(Problem(column, name, rest.target, rest.held_out, rest.rebuild), front)


def _weights_of(
    problem: Problem, index: Index, chosen: list[Powers]
) -> tuple[Array, list[Array], float]:
    """Return points of the combination, the function of each monomial there, and the error."""
    fitted, best = ~problem.held_out, float("inf")
    for pieces in _FINER:
        matrix, basis = _weighted_matrix(problem, index, chosen, pieces)
        if matrix.shape[1] > fitted.sum() // 3 and best < float("inf"):
            break
        error = quick_error(matrix, problem.target, problem.held_out)
        if error < best:
            best = error
            found = solve(matrix[fitted], problem.target[fitted]).reshape(len(chosen), -1)
            grid, values = basis.grid, list((basis.at(basis.grid) @ found.T).T)
    return grid, values, best
