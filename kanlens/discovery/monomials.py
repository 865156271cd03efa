"""Short sums of powers and products of columns, and ratios of two sums.

A ratio is a null vector of the numerator's terms and the target times the denominator's.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import Ansatz, linear
from kanlens.discovery.problems import SearchProblem, transformed
from kanlens.discovery.regression import Array, away, eliminate, quick_errors, solve, weighted
from kanlens.discovery.scheduling import BudgetedFront
from kanlens.symbolic.composition import Expr

Powers = tuple[float, ...]


def libraries(problem: SearchProblem) -> list[list[Powers]]:
    """Return sets of exponents, one exponent per column, that sums are made of."""
    width = problem.width
    degrees = tuned.DEGREES_OF_ONE if width == 1 else tuned.DEGREES
    sets = [total_degree(width, degree) for degree in degrees]
    if bool(problem.positive.all()):
        sets += [_pairs(width, exponents) for exponents in tuned.PAIR_EXPONENTS]
        boxes = (each for each in tuned.BOX_EXPONENTS if len(each) ** width <= tuned.LIBRARY)
        sets += [list(itertools.product(each, repeat=width)) for each in boxes]
    most = min(tuned.LIBRARY, problem.count // 2)
    unique = dict.fromkeys(tuple(each) for each in sets if 1 < len(each) <= most)
    return [list(library) for library in sorted(unique, key=len)]


def total_degree(width: int, degree: int) -> list[Powers]:
    """Return the exponents of products up to a degree, 2 beyond five columns; none if too many."""
    if width > 9 or (width > 4 and degree > 2) or (width > 2 and degree > 4):
        return []
    if width <= 5:
        every = itertools.product(range(degree + 1), repeat=width)
        return [tuple(float(p) for p in powers) for powers in every if sum(powers) <= degree]
    places = (itertools.combinations_with_replacement(range(width), k) for k in range(3))
    return [tuple(float(each.count(i)) for i in range(width)) for each in itertools.chain(*places)]


def _pairs(width: int, exponents: Sequence[float]) -> list[Powers]:
    powers = [(0.0,) * width]
    for count in (1, 2):
        for places in itertools.combinations(range(width), count):
            for chosen in itertools.product(exponents, repeat=count):
                of = dict(zip(places, chosen, strict=True))
                powers.append(tuple(of.get(i, 0.0) for i in range(width)))
    return powers


def evaluate(columns: Array, library: Sequence[Powers] | Array) -> Array:
    """Return every monomial of the columns, (row, monomial)."""
    exponents = np.asarray(library)
    found = np.ones((len(columns), len(exponents)))
    for column, powers in zip(columns.T, exponents.T, strict=True):
        for p in np.unique(powers):
            if p:
                found[:, powers == p] *= (column**p)[:, None]
    return found


@lru_cache(maxsize=8)
def simplest(width: int) -> tuple[Array, Array]:
    """Return exponents of monomials, (monomial, feature), the simplest first, and their costs."""
    most = width if width <= tuned.MOST_SPANNED else tuned.MOST_SPANNED // 2
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
    """Say which monomials the columns allow: roots of positive ones, division by clear ones."""
    one_sign = np.ptp(np.sign(problem.columns), axis=0) == 0
    both = np.where(one_sign, tuned.CLEAR_OF_POLE, tuned.CLEAR_OF_BOTH_SIGNS)
    divides = away(problem.columns, both if clear is None else clear)
    whole = (exponents == np.round(exponents))[:, ~problem.positive].all(axis=1)
    return np.asarray(whole & ~(exponents < 0)[:, ~divides].any(axis=1))


def monomial(names: Sequence[Expr], powers: Sequence[float] | Array) -> Expr:
    """Return one monomial as an expression."""
    return sympy.Mul(
        *(name ** sympy.Rational(p) for name, p in zip(names, powers, strict=True) if p)
    )


@dataclass(frozen=True, eq=False)
class LibraryFit:
    """A library that fits a target, and how well on the held-out rows."""

    error: float
    problem: SearchProblem
    weights: Array | None
    library: list[Powers]
    matrix: Array


class MonomialSum(Ansatz):
    """A short sum of monomials, for the target and its transforms."""

    limits = tuned.MONOMIALS

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        """Take the best fits of even rows; where there is noise, one weighted fit per target."""
        pairs = [(each, evaluate(problem.columns, each)) for each in libraries(problem)]
        made = [each for _, each in transformed(problem, tuned.MONOMIALS.targets)]
        targets, held_out = [each.target for each in made], problem.held_out
        even = [
            LibraryFit(error, each, None, *pair)
            for pair in pairs
            for error, each in zip(quick_errors(pair[1], targets, held_out), made, strict=True)
        ]
        yield from self._written(even)
        if min((fit.error for fit in even), default=0.0) > tuned.NOISELESS:
            fits = []
            for each in (p for p in made if p.weights is not None and not front.done):
                own = []
                for library, matrix in pairs:
                    heavy, target = weighted(each.weights, matrix, each.target)
                    (error,) = quick_errors(heavy, [target], held_out)
                    own.append(LibraryFit(error, each, each.weights, library, matrix))
                fits.append(min(own, key=lambda fit: fit.error))
            yield from self._written(fits)

    def _written(self, fits: list[LibraryFit]) -> Iterator[Expr]:
        """Write the shortest sums of the best fits."""
        ranked = sorted(fits, key=lambda fit: (max(fit.error, 1e-10), len(fit.library)))
        for fit in (fit for fit in ranked[: self.limits.tried] if fit.error <= self.limits.error):
            problem, rows = fit.problem, fit.problem.fitted
            matrix, target = weighted(fit.weights, fit.matrix, problem.target)
            matrix, target = matrix[rows], target[rows]
            for selection in eliminate(matrix, target)[: self.limits.written]:
                terms = list(selection.groups)
                if len(terms) > tuned.LONGEST_SUM:
                    break
                names = (monomial(problem.names, fit.library[k]) for k in terms)
                yield problem.rebuild(linear(solve(matrix[:, terms], target), names))


@dataclass(frozen=True, eq=False)
class Quotient:
    """The terms, with values (row, term), of a numerator and a denominator."""

    problem: SearchProblem
    over: list[Expr]
    over_values: Array
    under: list[Expr]
    under_values: Array
    most: int = tuned.RATIO_TERMS  # terms of both together

    def formulas(self) -> Iterator[Expr]:
        """Yield the ratios that the target equals; noisy rows are weighted by the denominator."""
        own = self.problem.weights
        weights, count = own, len(self.over)
        for _ in range(2):
            least, vectors = self.null_vectors(weights)
            for vector in vectors:
                above, below = linear(vector[:count], self.over), linear(vector[count:], self.under)
                if above and below:
                    yield self.problem.rebuild(above / below)
            if least < tuned.RATIO_NOISELESS or not vectors:
                return
            with np.errstate(all="ignore"):
                size = np.abs(self.under_values @ vectors[0][count:])
                weights = size.min() / size * (1.0 if own is None else own)
            if not np.isfinite(weights).all() or weights.max() <= 0:
                return

    def null_vectors(self, weights: Array | None) -> tuple[float, list[Array]]:
        """Return the smallest singular value, in parts of the largest, and sparse null vectors."""
        under = -self.problem.target[:, None] * self.under_values
        matrix = np.concatenate((self.over_values, under), axis=1)
        matrix, _ = weighted(weights, matrix, self.problem.target)
        matrix = matrix[self.problem.fitted]
        size = np.sqrt(np.mean(np.square(matrix), axis=0))
        size = np.where(size > 0, size, 1.0)
        if not np.isfinite(matrix).all():
            return 1.0, []
        _, values, rows = np.linalg.svd(matrix / size, full_matrices=False)
        least, first = float(values[-1] / values[0]), len(self.over)
        if values[-1] > tuned.NULL_VALUE * values[0] / np.sqrt(len(size)):
            return least, []
        anchor = first + int(np.argmax(np.abs(rows[-1][first:])))
        others = np.array([k for k in range(len(size)) if k != anchor])
        target, scaled = -matrix[:, anchor] / size[anchor], matrix[:, others] / size[others]
        vectors = []
        for selection in eliminate(scaled, target)[:2]:
            chosen = list(selection.groups)
            if len(chosen) < self.most:
                vector = np.zeros(len(size))
                vector[others[chosen]] = solve(scaled[:, chosen], target)
                vector[anchor] = 1.0
                vector = vector / size
                vectors.append(vector / np.abs(vector[anchor]))
        return least, vectors


def _terms(problem: SearchProblem, library: list[Powers]) -> tuple[list[Expr], Array]:
    """Return monomials of the columns with their values, (row, monomial)."""
    names = [monomial(problem.names, powers) for powers in library]
    return names, evaluate(problem.columns, library)


@dataclass(frozen=True)
class PolynomialRatio(Ansatz):
    """A ratio of two polynomials of given degrees, of two sums of powers, also negative ones."""

    degrees: tuple[tuple[int, int], ...] = tuned.RATIO_DEGREES

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        width = problem.width
        pairs = [tuple(total_degree(width, degree) for degree in each) for each in self.degrees]
        if away(problem.columns, tuned.CLEAR_OF_ZERO).all() and width in tuned.RATIO_POWERS:
            powers = tuned.RATIO_POWERS[width]
            pairs.append((list(itertools.product(powers, repeat=width)),) * 2)
        for top, bottom in pairs:
            most = min(tuned.RATIO_LIBRARY, problem.count // 3)
            if top and bottom and len(top) + len(bottom) <= most:
                quotient = Quotient(problem, *_terms(problem, top), *_terms(problem, bottom))
                yield from quotient.formulas()


class WaveRatio(Ansatz):
    """A ratio of polynomials in the cosine or sine of one column and in the others."""

    limits = tuned.WAVE_RATIOS

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        low = tuned.RATIO_DEGREES[:4]
        ratio = PolynomialRatio(low if problem.width == 3 else (*low, (2, 4)))
        for i in np.flatnonzero(np.ptp(problem.columns, axis=0) > tuned.TURN):
            for wave, name in ((np.cos, sympy.cos), (np.sin, sympy.sin)):
                columns, names = problem.columns.copy(), list(problem.names)
                columns[:, i], names[i] = wave(columns[:, i]), name(names[i])
                turned = dataclasses.replace(problem, columns=columns, names=tuple(names))
                for _, each in transformed(turned, self.limits.targets):
                    yield from ratio.formulas(each, front)


class RatioWithFunction(Ansatz):
    """A ratio with one function of the only column, such as (u - 1)/log(u) or u/(exp(u) - 1)."""

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        u, name = problem.columns[:, 0], problem.names[0]
        over, values = _terms(problem, total_degree(1, 3))
        few = over[:3], values[:, :3]
        functions = functions_of(name, u)
        for function, made in [*functions, (sympy.sqrt(name**2 + 1), np.sqrt(u**2 + 1))]:
            if np.isfinite(made).all() and np.abs(made).max() < tuned.LARGEST_TERM:
                more = [*few[0], function], np.column_stack((few[1], made))
                most = tuned.FUNCTION_RATIO_TERMS
                yield from Quotient(problem, over, values, *more, most).formulas()
                yield from Quotient(problem, *more, *few, most).formulas()


def functions_of(name: Expr, u: Array, largest: float = math.inf) -> list[tuple[Expr, Array]]:
    """Return functions of a column that are defined there, exponentials only of small values."""
    found = [(sympy.sin(name), np.sin(u)), (sympy.cos(name), np.cos(u))]
    with np.errstate(all="ignore"):
        if np.abs(u).max() < largest:
            found += [(sympy.exp(name), np.exp(u)), (sympy.exp(-name), np.exp(-u))]
        if u.min() > 0:
            found += [(sympy.log(name), np.log(u)), (sympy.sqrt(name), np.sqrt(u))]
    return found
