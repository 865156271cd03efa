"""The order in which structures are tried, and the simpler problems they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import sympy

from kanlens.discovery.additive import additive_formulas
from kanlens.discovery.bilinear import product_formulas
from kanlens.discovery.dictionary import dictionary_formulas
from kanlens.discovery.front import Front
from kanlens.discovery.index_model import factored_formulas, weighted_formulas
from kanlens.discovery.monomials import sum_formulas
from kanlens.discovery.problems import Problem, transformed
from kanlens.discovery.quotients import ratio_formulas, wave_ratio_formulas
from kanlens.discovery.reductions import (
    best_loo_error,
    divided,
    exponents_of,
    few_powers,
    paired,
    peeled,
    quieted,
    raised,
    rounded_exponents,
)
from kanlens.discovery.regression import Array, eliminate, solve
from kanlens.discovery.separable import separable_formulas
from kanlens.discovery.single import curve_formulas
from kanlens.discovery.sparse import sparse_formulas
from kanlens.discovery.transformation_model import outer_formulas

_BRANCHES = 3
_DEPTH = 3
_NARROW = 3  # columns up to which the products without division go far enough
_SMOOTH = 1e-5  # loo_error that counts as none


def search(problem: Problem, front: Front, *, depth: int = _DEPTH) -> None:
    """Offer formulas of a problem and of the simpler ones it leads to."""
    if not front.is_new(*problem.key):
        return
    for step in _steps(problem, front, depth):
        if front.done:
            return
        step()


def _steps(problem: Problem, front: Front, depth: int) -> Iterator[Callable[[], object]]:
    yield lambda: linear_formula(problem, front)
    yield lambda: power_formula(problem, front)
    for _, each in transformed(problem, ("log", "exp", "sin", "tan", "cos", "sinh")):
        yield partial(power_formula, each, front)
    yield lambda: additive_formulas(problem, front)
    if problem.width == 1:
        yield lambda: sum_formulas(problem, front)
        yield lambda: curve_formulas(problem, front)
        yield lambda: ratio_formulas(problem, front)
        return
    yield lambda: sum_formulas(problem, front)
    yield lambda: separable_formulas(problem, front)
    for _, each in transformed(problem, ("exp", "sin", "tan", "cos", "sinh")):
        yield partial(separable_formulas, each, front)
    if problem.width <= _NARROW or depth >= _DEPTH - 1:
        yield lambda: sparse_formulas(problem, front)
    reduced = peeled(problem, front.deadline)
    if reduced.width < problem.width:
        yield lambda: search(reduced, front, depth=depth)
    quieter = quieted(problem, front.deadline)
    if quieter.width < problem.width and quieter.key != reduced.key:
        yield lambda: search(quieter, front, depth=depth)
    yield lambda: _divided_formulas(problem, front, depth)
    yield lambda: dictionary_formulas(problem, front)
    yield lambda: outer_formulas(problem, front)
    yield lambda: factored_formulas(problem, front)
    yield lambda: ratio_formulas(problem, front)
    yield lambda: wave_ratio_formulas(problem, front)
    yield lambda: weighted_formulas(problem, front)
    yield lambda: product_formulas(problem, front)
    if depth > 0:
        level = best_loo_error(problem)
        for move in paired(problem, front.deadline)[:_BRANCHES]:
            if move.loo_error < max(2 * level, _SMOOTH):
                yield partial(search, move.problem, front, depth=depth - 1)


def _divided_formulas(problem: Problem, front: Front, depth: int) -> None:
    """Divide by the powers that the target seems to hold, and keep all columns."""
    powers = rounded_exponents(problem)
    if np.any(powers):
        trial = divided(problem, powers, set())
        additive_formulas(trial, front)
        sum_formulas(trial, front)
        if problem.width > _NARROW and depth == _DEPTH:
            sparse_formulas(trial, front)


def linear_formula(problem: Problem, front: Front) -> None:
    """Offer a sum of multiples of the columns."""
    columns = np.column_stack((np.ones(len(problem.target)), problem.columns))
    fitted = ~problem.held_out
    if columns.shape[1] > fitted.sum():
        _single_columns(problem, front)
        return
    target = problem.target[fitted]
    best = eliminate(columns[fitted], target, np.arange(columns.shape[1]))[0]
    kept = list(best.groups)
    names = [sympy.Integer(1), *problem.names]
    parts = zip(solve(columns[fitted][:, kept], target), kept, strict=True)
    front.offer(problem.rebuild(sympy.Add(*(sympy.Float(float(c)) * names[k] for c, k in parts))))


def _single_columns(problem: Problem, front: Front) -> None:
    """Offer multiples of single columns, when there are too few rows for a sum of them."""
    for name, column in zip(problem.names, problem.columns.T, strict=True):
        size = float(column @ problem.target / (column @ column))
        front.offer(problem.rebuild(sympy.Float(size) * name))


def power_formula(problem: Problem, front: Front) -> None:
    """Offer products of powers of the columns: of as few as tell the target, and of all."""
    for powers in dict.fromkeys((*few_powers(problem), tuple(exponents_of(problem)))):
        if front.done:
            return
        _offer_powers(problem, np.nan_to_num(powers), front)


def _offer_powers(problem: Problem, powers: Array, front: Front) -> None:
    name = sympy.Integer(1)
    values = np.ones(len(problem.target))
    for i, p in enumerate(powers):
        half = round(2 * p) / 2
        third = round(3 * p) / 3
        power = half if abs(p - half) < 0.02 else third if abs(p - third) < 1e-3 else p
        exact = power == half
        name *= problem.names[i] ** (sympy.Rational(power) if exact else sympy.Float(power))
        with np.errstate(all="ignore"):
            values = values * raised(problem.columns[:, i], power)
    if np.isfinite(values).all():
        size = float(values @ problem.target / (values @ values))
        front.offer(problem.rebuild(sympy.Float(size) * name))
