"""Short sums of powers and products of columns, and ratios of two such sums."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import sympy

from kanlens.symbolic.composition import Expr
from kanlens.symbolic.discovery.front import Front
from kanlens.symbolic.discovery.problems import Problem, transformed
from kanlens.symbolic.discovery.regression import Array, eliminate, quick_error, solve

TARGETS = ("id", "inv", "sq", "invsq", "sqrt", "invsqrt", "exp", "log", "sinh")
_MOST_TERMS = 130
_OFFERED = 3
RATIOS = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2), (4, 2), (2, 4), (3, 3), (4, 4))
_TURN = 1.0  # range of a column from which it may be an angle
Powers = tuple[float, ...]


def libraries(problem: Problem) -> list[list[Powers]]:
    """Return sets of exponents, one exponent per column, that sums are made of."""
    width = problem.width
    found = [
        _total_degree(width, degree) for degree in (2, 3, 4, 6, *((8, 10) if width == 1 else ()))
    ]
    if bool(problem.positive.all()):
        found.append(_pairs(width, (-2.0, -1.0, 1.0, 2.0)))
        found.append(_pairs(width, (-1.0, -0.5, 0.5, 1.0)))
        found.append(_box(width, (-1.0, 0.0, 1.0)))
        found.append(_box(width, (-2.0, 0.0, 2.0)))
        found.append(_box(width, (-4.0, -2.0, 0.0, 2.0)))
        found.append(_box(width, (-4.0, -2.0, 0.0, 2.0, 4.0)))
    rows = int((~problem.held_out).sum())
    most = min(_MOST_TERMS, rows // 2)
    unique: dict[tuple[Powers, ...], None] = {}
    for library in found:
        if 1 < len(library) <= most:
            unique[tuple(library)] = None
    return [list(library) for library in sorted(unique, key=len)]


def _total_degree(width: int, degree: int) -> list[Powers]:
    if width > 9 or (width > 4 and degree > 2) or (width > 2 and degree > 4):
        return []
    every = itertools.product(range(degree + 1), repeat=width) if width <= 5 else ()
    if width <= 5:
        return [tuple(float(p) for p in powers) for powers in every if sum(powers) <= degree]
    found = [np.zeros(width)]
    for places in itertools.chain(
        itertools.combinations_with_replacement(range(width), 1),
        itertools.combinations_with_replacement(range(width), 2),
    ):
        powers = np.zeros(width)
        for place in places:
            powers[place] += 1
        found.append(powers)
    return [tuple(powers.tolist()) for powers in found]


def _pairs(width: int, exponents: Sequence[float]) -> list[Powers]:
    found = [(0.0,) * width]
    for count in (1, 2):
        for places in itertools.combinations(range(width), count):
            for chosen in itertools.product(exponents, repeat=count):
                powers = [0.0] * width
                for place, exponent in zip(places, chosen, strict=True):
                    powers[place] = exponent
                found.append(tuple(powers))
    return found


def _box(width: int, exponents: Sequence[float]) -> list[Powers]:
    if len(exponents) ** width > _MOST_TERMS:
        return []
    return list(itertools.product(exponents, repeat=width))


def evaluate(columns: Array, library: Sequence[Powers]) -> Array:
    """Return every monomial of the columns, (row, monomial)."""
    found = np.ones((len(columns), len(library)))
    for i in range(columns.shape[1]):
        made = {p: columns[:, i] ** p for p in {powers[i] for powers in library}}
        for k, powers in enumerate(library):
            if powers[i]:
                found[:, k] *= made[powers[i]]
    return found


def monomial(names: Sequence[Expr], powers: Powers) -> Expr:
    """Return one monomial as an expression.

    Examples
    --------
    >>> x, y = sympy.symbols("x y", positive=True)
    >>> monomial((x, y), (0.5, -1.0))
    sqrt(x)/y
    """
    return sympy.Mul(
        *(name ** sympy.Rational(p) for name, p in zip(names, powers, strict=True) if p)
    )


def sum_formulas(problem: Problem, front: Front, *, targets: tuple[str, ...] = TARGETS) -> None:
    """Offer short sums of monomials for the target and its transforms."""
    jobs = []
    sets = libraries(problem)
    matrices = [evaluate(problem.columns, library) for library in sets]
    for _, each in transformed(problem, targets):
        for library, matrix in zip(sets, matrices, strict=True):
            if front.deadline.passed:
                return
            error = quick_error(matrix, each.target, each.held_out)
            jobs.append((error, each, library, matrix))
    jobs.sort(key=lambda job: (max(job[0], 1e-10), len(job[2])))
    for error, each, library, matrix in jobs[:4]:
        if error > 0.1 or front.done:
            return
        _offer_sum(each, library, matrix, front)


def _offer_sum(problem: Problem, library: list[Powers], matrix: Array, front: Front) -> None:
    fitted = ~problem.held_out
    groups = np.arange(len(library))
    for selection in eliminate(matrix[fitted], problem.target[fitted], groups)[:_OFFERED]:
        if len(selection.groups) > 12 or front.done:
            return
        terms = list(selection.groups)
        coefficients = solve(matrix[fitted][:, terms], problem.target[fitted])
        front.offer(problem.rebuild(_sum(problem, library, terms, coefficients)))


def _sum(
    problem: Problem, library: list[Powers], terms: Sequence[int], coefficients: Array
) -> Expr:
    return sympy.Add(
        *(
            sympy.Float(float(c)) * monomial(problem.names, library[k])
            for k, c in zip(terms, coefficients, strict=True)
        )
    )


def ratio_formulas(
    problem: Problem, front: Front, *, degrees: Sequence[tuple[int, int]] = RATIOS
) -> None:
    """Offer ratios of two polynomials of given degrees.

    They are null vectors of the numerator minus y times the denominator.
    """
    for above, below in degrees:
        top, bottom = _total_degree(problem.width, above), _total_degree(problem.width, below)
        rows = int((~problem.held_out).sum())
        if not top or not bottom or len(top) + len(bottom) > min(90, rows // 3) or front.done:
            continue
        _offer_ratio(problem, top, bottom, front)


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


def _offer_ratio(problem: Problem, top: list[Powers], bottom: list[Powers], front: Front) -> None:
    fitted = ~problem.held_out
    over = evaluate(problem.columns[fitted], top)
    under = -problem.target[fitted, None] * evaluate(problem.columns[fitted], bottom)
    matrix = np.concatenate((over, under), axis=1)
    size = np.sqrt(np.mean(np.square(matrix), axis=0))
    size = np.where(size > 0, size, 1.0)
    _, values, rows = np.linalg.svd(matrix / size, full_matrices=False)
    if values[-1] > 0.02 * values[0] / np.sqrt(len(size)):
        return
    anchor = len(top) + int(np.argmax(np.abs(rows[-1][len(top) :])))
    others = np.array([k for k in range(len(size)) if k != anchor])
    target = -matrix[:, anchor] / size[anchor]
    scaled = matrix[:, others] / size[others]
    for selection in eliminate(scaled, target, np.arange(len(others)))[:2]:
        chosen = list(selection.groups)
        if len(chosen) > 14 or front.done:
            continue
        vector = np.zeros(len(size))
        vector[others[chosen]] = solve(scaled[:, chosen], target)
        vector[anchor] = 1.0
        vector = vector / size
        vector = vector / np.abs(vector[anchor])
        up = [k for k in range(len(top)) if vector[k]]
        down = [k for k in range(len(bottom)) if vector[len(top) + k]]
        if up and down:
            above = _sum(problem, top, up, vector[up])
            below = _sum(problem, bottom, down, vector[len(top) :][down])
            front.offer(problem.rebuild(above / below))
