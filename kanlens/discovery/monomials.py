"""Short sums of powers and products of columns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery.front import Front
from kanlens.discovery.problems import Problem, transformed
from kanlens.discovery.regression import Array, eliminate, quick_error, solve, weighted
from kanlens.symbolic.composition import Expr

TARGETS = ("id", "inv", "sq", "invsq", "sqrt", "invsqrt", "exp", "log", "sinh")
_MOST_TERMS = 130
_OFFERED = 3
_FITS, _POOR = 4, 0.1  # fits whose sums are offered, and error beyond which none is
_NO_NOISE = 1e-12  # error from which rows are also weighted as errors of y would be
Powers = tuple[float, ...]


def libraries(problem: Problem) -> list[list[Powers]]:
    """Return sets of exponents, one exponent per column, that sums are made of."""
    width = problem.width
    found = [
        total_degree(width, degree) for degree in (2, 3, 4, 6, *((8, 10) if width == 1 else ()))
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


def total_degree(width: int, degree: int) -> list[Powers]:
    """Return the exponents of all products up to a degree; none where they are very many.

    Examples
    --------
    >>> total_degree(2, 1)
    [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)]
    """
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
    sets = libraries(problem)
    matrices = [evaluate(problem.columns, library) for library in sets]
    made = [each for _, each in transformed(problem, targets)]
    even = [job for each in made for job in _jobs(each, None, sets, matrices, front)]
    _offer_sums(even, front)
    if min((job.error for job in even), default=0.0) > _NO_NOISE:
        uneven = [
            min(_jobs(each, each.weights, sets, matrices, front), key=lambda job: job.error)
            for each in made
            if each.weights is not None and sets and not front.done
        ]
        _offer_sums(uneven, front)


@dataclass(frozen=True, eq=False)
class _Job:
    """A library that fits a target, and how well on the held-out rows."""

    error: float
    problem: Problem
    weights: Array | None
    library: list[Powers]
    matrix: Array


def _jobs(
    problem: Problem,
    weights: Array | None,
    sets: list[list[Powers]],
    matrices: list[Array],
    front: Front,
) -> list[_Job]:
    """Fit all libraries to a target whose rows have weights."""
    found = []
    for library, matrix in zip(sets, matrices, strict=True):
        pair = weighted(weights, matrix, problem.target)
        error = math.inf if front.deadline.passed else quick_error(*pair, problem.held_out)
        found.append(_Job(error, problem, weights, library, matrix))
    return found


def _offer_sums(jobs: list[_Job], front: Front) -> None:
    """Offer the sums of the best fits."""
    for job in sorted(jobs, key=lambda job: (max(job.error, 1e-10), len(job.library)))[:_FITS]:
        if job.error > _POOR or front.done:
            return
        _offer_sum(job, front)


def _offer_sum(job: _Job, front: Front) -> None:
    problem, library, fitted = job.problem, job.library, ~job.problem.held_out
    matrix, target = weighted(job.weights, job.matrix, problem.target)
    matrix, target = matrix[fitted], target[fitted]
    for selection in eliminate(matrix, target, np.arange(len(library)))[:_OFFERED]:
        if len(selection.groups) > 12 or front.done:
            return
        terms = list(selection.groups)
        coefficients = solve(matrix[:, terms], target)
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
