"""Short sums of powers and products of columns, and ratios of two sums."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import sympy

from kanlens.discovery import _settings as tuned
from kanlens.discovery._ansatz import Ansatz, linear
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import (
    Array,
    away,
    eliminate,
    quick_error,
    quick_errors,
    solve,
    weighted,
)
from kanlens.discovery._search_problem import SearchProblem, transformed
from kanlens.symbolic._composition import Expr

Powers = tuple[float, ...]


def libraries(problem: SearchProblem) -> list[list[Powers]]:
    """Return sets of monomials, each as exponents (monomial, column)."""
    width = problem.width
    degrees = tuned.DEGREES_OF_ONE if width == 1 else tuned.DEGREES
    sets = [total_degree(width, degree) for degree in degrees]
    if width <= 4 and problem.positive.all():
        for exponents in tuned.PAIR_EXPONENTS:
            products = itertools.product((0.0, *exponents), repeat=width)
            sets.append([powers for powers in products if np.count_nonzero(powers) <= 2])
        sets += [list(itertools.product(box, repeat=width)) for box in tuned.BOX_EXPONENTS]
    most = min(tuned.LIBRARY, problem.count // 2)
    unique = dict.fromkeys(tuple(library) for library in sets if 1 < len(library) <= most)
    return [list(library) for library in sorted(unique, key=len)]


def total_degree(width: int, degree: int) -> list[Powers]:
    """Return exponents of products up to a degree; [] if too many."""
    if width > 9 or (width > 4 and degree > 2) or (width > 2 and degree > 4):
        return []
    counts = range(1 + (degree if width <= 5 else 2))
    places = (itertools.combinations_with_replacement(range(width), k) for k in counts)
    chosen = itertools.chain(*places)
    return sorted(tuple(float(columns.count(i)) for i in range(width)) for columns in chosen)


def evaluate(columns: Array, library: Sequence[Powers] | Array) -> Array:
    """Return every monomial of the columns, (row, monomial)."""
    exponents = np.asarray(library)
    values = np.ones((len(columns), len(exponents)))
    for column, powers in zip(columns.T, exponents.T, strict=True):
        for p in np.unique(powers[powers != 0]):
            values[:, powers == p] *= (column**p)[:, None]
    return values


@lru_cache(maxsize=8)
def simplest(width: int) -> tuple[Array, Array]:
    """Return exponents (monomial, feature), simplest first, and their costs."""
    most = width if width <= tuned.MAX_MONOMIAL_COLUMNS else tuned.MAX_MONOMIAL_COLUMNS // 2
    powers = np.array(sorted(tuned.POWER_COSTS))
    prices = np.array([tuned.POWER_COSTS[p] for p in powers])
    chosen = powers[np.indices((len(powers),) * most).reshape(most, -1).T]
    parts = []
    for places in itertools.combinations(range(width), most):
        parts.append(np.zeros((len(chosen), width)))
        parts[-1][:, places] = chosen
    every = parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts), axis=0)
    costs = prices[np.searchsorted(powers, every)].sum(axis=1)
    order = np.argsort(costs, kind="stable")
    return every[order], costs[order]


def allowed(problem: SearchProblem, exponents: Array, clear: float | None = None) -> Array:
    """Return a mask of the monomials defined on the columns.

    `clear` is the least size of a divisor, relative to its largest, as `share` in `away`.
    """
    one_sign = np.ptp(np.sign(problem.columns), axis=0) == 0
    both = np.where(one_sign, tuned.CLEAR_OF_POLE, tuned.CLEAR_OF_BOTH_SIGNS)
    divides = away(problem.columns, both if clear is None else clear)
    whole = (exponents == np.round(exponents))[:, ~problem.positive].all(axis=1)
    return np.asarray(whole & ~(exponents < 0)[:, ~divides].any(axis=1))


def monomial(names: Sequence[Expr], powers: Sequence[float] | Array) -> Expr:
    """Return one monomial as an expression."""
    pairs = zip(names, powers, strict=True)
    return sympy.Mul(*(name ** sympy.Rational(p) for name, p in pairs if p))


_Fit = tuple[float, list[Powers], SearchProblem, Array, Array | None]  # with matrix and weights


class MonomialSum(Ansatz):
    """A short sum of monomials, for the target and its transforms."""

    limits = tuned.MONOMIALS

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        """Yield the best fits; with noise, also a weighted fit for each transformed target."""
        pairs = [(library, evaluate(problem.columns, library)) for library in libraries(problem)]
        problems = [p for _, p in transformed(problem, self.limits.targets)]
        targets = [p.target for p in problems]
        fits: list[_Fit] = []
        for library, matrix in pairs:
            errors = quick_errors(matrix, targets, problem.held_out)
            fits += [(e, library, p, matrix, None) for e, p in zip(errors, problems, strict=True)]
        yield from self._written(fits)
        if min((error for error, *_ in fits), default=0.0) > tuned.NOISELESS:
            fits = []
            for p in (p for p in problems if p.weights is not None and not front.done):
                errors = [
                    quick_error(*weighted(p.weights, matrix, p.target), problem.held_out)
                    for _, matrix in pairs
                ]
                best = int(np.argmin(errors))
                fits.append((errors[best], pairs[best][0], p, pairs[best][1], p.weights))
            yield from self._written(fits)

    def _written(self, fits: list[_Fit]) -> Iterator[Expr]:
        """Yield formulas: the shortest sums of the best fits."""
        ranked = sorted(fits, key=lambda fit: (max(fit[0], 1e-10), len(fit[1])))
        for error, library, problem, matrix, weights in ranked[: self.limits.tried]:
            if error > self.limits.error:
                return
            heavy, target = weighted(weights, matrix, problem.target)
            heavy, target = heavy[problem.fitted], target[problem.fitted]
            for _, terms in eliminate(heavy, target)[: self.limits.written]:
                if len(terms) > tuned.LONGEST_SUM:
                    break
                names = (monomial(problem.names, library[k]) for k in terms)
                yield problem.rebuild(linear(solve(heavy[:, terms], target), names))


def _ratios(problem: SearchProblem, over: list[Powers], under: list[Powers]) -> Iterator[Expr]:
    """Yield the ratios of two sums; with noise, refitted with weights by the denominator."""
    above, below = (evaluate(problem.columns, library) for library in (over, under))
    matrix = np.concatenate((above, -problem.target[:, None] * below), axis=1)
    names = [[monomial(problem.names, powers) for powers in library] for library in (over, under)]
    weights, count = problem.weights, len(over)
    for _ in range(2):
        least, vectors = _null_vectors(problem, weighted(weights, matrix, problem.target)[0], count)
        for vector in vectors:
            top, bottom = linear(vector[:count], names[0]), linear(vector[count:], names[1])
            if top and bottom:
                yield problem.rebuild(top / bottom)
        if least < tuned.RATIO_NOISELESS or not vectors:
            return
        with np.errstate(all="ignore"):
            size = np.abs(below @ vectors[0][count:])
            weights = size.min() / size * (1.0 if problem.weights is None else problem.weights)
        if not np.isfinite(weights).all() or weights.max() <= 0:
            return


def _null_vectors(problem: SearchProblem, matrix: Array, first: int) -> tuple[float, list[Array]]:
    """Return the ratio of singular values, and null vectors; the divisor starts at `first`."""
    matrix = matrix[problem.fitted]
    size = np.sqrt(np.mean(np.square(matrix), axis=0))
    size = np.where(size > 0, size, 1.0)
    if not np.isfinite(matrix).all():
        return 1.0, []
    _, values, rows = np.linalg.svd(matrix / size, full_matrices=False)
    least = float(values[-1] / values[0])
    if values[-1] > tuned.NULL_VALUE * values[0] / np.sqrt(len(size)):
        return least, []
    anchor = first + int(np.argmax(np.abs(rows[-1][first:])))
    others = np.delete(np.arange(len(size)), anchor)
    target, scaled = -matrix[:, anchor] / size[anchor], matrix[:, others] / size[others]
    vectors = []
    for _, chosen in eliminate(scaled, target)[:2]:
        if len(chosen) < tuned.RATIO_TERMS:
            vector = np.zeros(len(size))
            vector[others[chosen]] = solve(scaled[:, chosen], target)
            vector[anchor] = 1.0
            vector = vector / size
            vectors.append(vector / np.abs(vector[anchor]))
    return least, vectors


class PolynomialRatio(Ansatz):
    """A ratio of two polynomials, or of two sums of powers."""

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        width = problem.width
        pairs = [
            (total_degree(width, top), total_degree(width, bottom))
            for top, bottom in tuned.RATIO_DEGREES
        ]
        if away(problem.columns, tuned.CLEAR_OF_ZERO).all() and width in tuned.RATIO_POWERS:
            pairs.append((list(itertools.product(tuned.RATIO_POWERS[width], repeat=width)),) * 2)
        most = min(tuned.RATIO_LIBRARY, problem.count // 3)
        for top, bottom in pairs:
            if top and bottom and len(top) + len(bottom) <= most:
                yield from _ratios(problem, top, bottom)
