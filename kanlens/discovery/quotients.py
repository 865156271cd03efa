"""Ratios of two short sums: of powers and products of columns, or of functions of one column.

A ratio is a null vector of the numerator's terms and the target times the denominator's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import sympy

from kanlens.discovery.front import Front
from kanlens.discovery.monomials import evaluate, monomial, total_degree
from kanlens.discovery.problems import Problem, transformed
from kanlens.discovery.regression import Array, eliminate, solve, weighted
from kanlens.symbolic.composition import Expr

RATIOS = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2), (4, 2), (2, 4), (3, 3), (4, 4))
_TURN = 1.0  # range of a column from which it may be an angle
_CLEAR = 0.02  # smallest singular value, in parts of the typical one, that is a null vector's
_NO_NOISE = 1e-9  # and that of one without noise
_TERMS = 15  # of both sums of a ratio together
_FEW = 5  # of them where there is a function: more of them can follow any curve
_LARGEST = 1e8

Terms: TypeAlias = tuple[list[Expr], Array]  # names and values (row, term)


def ratio_formulas(
    problem: Problem, front: Front, *, degrees: Sequence[tuple[int, int]] = RATIOS
) -> None:
    """Offer ratios of two polynomials of given degrees."""
    rows = int((~problem.held_out).sum())
    for above, below in degrees:
        top, bottom = total_degree(problem.width, above), total_degree(problem.width, below)
        if not top or not bottom or len(top) + len(bottom) > min(90, rows // 3) or front.done:
            continue
        over, under = (
            ([monomial(problem.names, powers) for powers in each], evaluate(problem.columns, each))
            for each in (top, bottom)
        )
        offer_ratio(problem, over, under, front)


def wave_ratio_formulas(problem: Problem, front: Front) -> None:
    """Offer ratios of polynomials in the cosine or sine of one column and in the others."""
    if not 2 <= problem.width <= 3:
        return
    degrees = RATIOS[:4] if problem.width == 3 else (*RATIOS[:4], (2, 4))
    for i in np.flatnonzero(np.ptp(problem.columns, axis=0) > _TURN):
        for wave, name in ((np.cos, sympy.cos), (np.sin, sympy.sin)):
            columns, names = problem.columns.copy(), list(problem.names)
            columns[:, i], names[i] = wave(columns[:, i]), name(names[i])
            turned = dataclasses.replace(problem, columns=columns, names=tuple(names))
            for _, each in transformed(turned, ("id", "sq", "cos")):
                if front.done:
                    return
                ratio_formulas(each, front, degrees=degrees)


def function_ratio_formulas(problem: Problem, front: Front) -> None:
    """Offer ratios of a polynomial to a sum with one function, of the only column.

    Such are (u - 1)/log(u), u/(exp(u) - 1) and (1 - cos(u))/u**2.
    """
    u, name = problem.columns[:, 0], problem.names[0]
    powers = total_degree(1, 3)
    over = [monomial((name,), p) for p in powers], evaluate(problem.columns, powers)
    few = [monomial((name,), p) for p in powers[:3]], evaluate(problem.columns, powers[:3])
    for function, values in _functions(name, u):
        if front.done:
            return
        if np.isfinite(values).all() and np.abs(values).max() < _LARGEST:
            more = [*few[0], function], np.column_stack((few[1], values))
            offer_ratio(problem, over, more, front, most=_FEW)
            offer_ratio(problem, more, few, front, most=_FEW)


def _functions(name: Expr, u: Array) -> list[tuple[Expr, Array]]:
    found = [(sympy.sin(name), np.sin(u)), (sympy.cos(name), np.cos(u))]
    with np.errstate(all="ignore"):
        found += [(sympy.exp(name), np.exp(u)), (sympy.exp(-name), np.exp(-u))]
        if u.min() > 0:
            found += [(sympy.log(name), np.log(u)), (sympy.sqrt(name), np.sqrt(u))]
        found.append((sympy.sqrt(name**2 + 1), np.sqrt(u**2 + 1)))
    return found


def offer_ratio(
    problem: Problem, over: Terms, under: Terms, front: Front, *, most: int = _TERMS
) -> None:
    """Offer the ratios of two sums of given terms that the target equals.

    Where there is noise, rows are weighted a second time by the denominator that was found.

    Parameters
    ----------
    problem : Problem
    over, under : tuple of list of Expr and ndarray (row, term)
        Of the numerator and of the denominator.
    front : Front
    most : int
        Terms of both sums together.
    """
    weights = problem.weights
    for _ in range(2):
        least, vectors = null_vectors(problem, over[1], under[1], weights, most)
        for vector in vectors:
            above, below = _sum(over[0], vector), _sum(under[0], vector[len(over[0]) :])
            if above and below and not front.done:
                front.offer(problem.rebuild(above / below))
        if least < _NO_NOISE or not vectors:
            return
        with np.errstate(all="ignore"):
            size = np.abs(under[1] @ vectors[0][len(over[0]) :])
            weights = size.min() / size * (1.0 if problem.weights is None else problem.weights)
        if not np.isfinite(weights).all() or weights.max() <= 0:
            return


def null_vectors(
    problem: Problem, over: Array, under: Array, weights: Array | None, most: int = _TERMS
) -> tuple[float, list[Array]]:
    """Return the smallest singular value, in parts of the largest, and sparse null vectors."""
    fitted = ~problem.held_out
    matrix = np.concatenate((over, -problem.target[:, None] * under), axis=1)
    matrix, _ = weighted(weights, matrix, problem.target)
    matrix = matrix[fitted]
    size = np.sqrt(np.mean(np.square(matrix), axis=0))
    size = np.where(size > 0, size, 1.0)
    if not np.isfinite(matrix).all():
        return 1.0, []
    _, values, rows = np.linalg.svd(matrix / size, full_matrices=False)
    if values[-1] > _CLEAR * values[0] / np.sqrt(len(size)):
        return float(values[-1] / values[0]), []
    anchor = over.shape[1] + int(np.argmax(np.abs(rows[-1][over.shape[1] :])))
    others = np.array([k for k in range(len(size)) if k != anchor])
    target = -matrix[:, anchor] / size[anchor]
    scaled = matrix[:, others] / size[others]
    found = []
    for selection in eliminate(scaled, target, np.arange(len(others)))[:2]:
        chosen = list(selection.groups)
        if len(chosen) < most:
            vector = np.zeros(len(size))
            vector[others[chosen]] = solve(scaled[:, chosen], target)
            vector[anchor] = 1.0
            vector = vector / size
            found.append(vector / np.abs(vector[anchor]))
    return float(values[-1] / values[0]), found


def _sum(names: list[Expr], coefficients: Array) -> Expr:
    pairs = zip(names, coefficients, strict=False)
    return sympy.Add(*(sympy.Float(float(c)) * name for name, c in pairs if c))
