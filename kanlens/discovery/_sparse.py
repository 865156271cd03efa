"""Short sums out of very many terms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery import _settings as tuned
from kanlens.discovery._ansatz import Ansatz, sum_of_terms
from kanlens.discovery._blocks import arguments
from kanlens.discovery._monomials import evaluate, monomial
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import Array, away, best_pairs, grown_sums
from kanlens.discovery._search_problem import SearchProblem, transformed
from kanlens.symbolic._composition import Expr

WAVES: dict[str, tuple[Callable[[Array], Array], Callable[[Expr], Expr]]] = {
    "sin": (np.sin, sympy.sin),
    "cos": (np.cos, sympy.cos),
    "square of sin": (lambda x: np.sin(x) ** 2, lambda e: sympy.sin(e) ** 2),
}


@dataclass(frozen=True)
class SparseSum(Ansatz):
    """A short sum of products of powers and sines."""

    limits: tuned.Limits = tuned.SPARSE
    costly = True

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        library = Products(problem)
        fitted = np.flatnonzero(problem.fitted)
        rows = fitted[:: max(1, len(fitted) // tuned.SPARSE_ROWS)]
        matrix = library.values[rows]
        good = np.flatnonzero(np.isfinite(matrix).all(axis=0) & (np.ptp(matrix, axis=0) > 0))
        matrix = matrix[:, good]
        for _, view in transformed(problem, tuned.SPARSE.targets):
            if front.done:
                return
            sums, weights = grown_sums(matrix, view.target[rows]), view.weights
            if sums and min(sums)[0] > tuned.NOISELESS and weights is not None:
                sums = grown_sums(matrix, view.target[rows], weights[rows])
            for columns in self._best(sums):
                terms = good[list(columns)]
                names = [library.name(int(k), problem.names) for k in terms]
                yield sum_of_terms(view, names, library.values[:, terms], weights)


class Products:
    """The simplest products of powers of the columns, some multiplied by a sine of one column."""

    def __init__(self, problem: SearchProblem) -> None:
        x = problem.columns
        one_sign = (x > 0).all(axis=0) | (x < 0).all(axis=0)
        divides = away(x, np.where(one_sign, tuned.CLEAR_OF_ZERO, tuned.CLEAR_OF_BOTH_SIGNS))
        turns = np.ptp(x, axis=0) > tuned.TURN
        bare = np.stack(list(itertools.islice(_exponents(divides), tuned.BARE_PRODUCTS)))
        exponents, values = [bare], [evaluate(x, bare)]
        # of every product the column of its wave and the name of that
        self.waves: list[tuple[int, str] | None] = [None] * len(bare)
        few = bare[: tuned.WAVE_PRODUCTS // max(1, len(WAVES) * int(turns.sum()))]
        for i in np.flatnonzero(turns):
            own = few[few[:, i] == 0]
            for kind, (wave, _) in WAVES.items():
                exponents.append(own)
                self.waves += [(int(i), kind)] * len(own)
                values.append(evaluate(x, own) * wave(x[:, i])[:, None])
        self.exponents = np.concatenate(exponents)  # (product, feature)
        self.values = np.concatenate(values, axis=1)  # (row, product)

    def name(self, k: int, names: tuple[Expr, ...]) -> Expr:
        """Return one product as an expression."""
        product, wave = monomial(names, self.exponents[k]), self.waves[k]
        return product if wave is None else product * WAVES[wave[1]][1](names[wave[0]])


def _exponents(divides: Array) -> Iterator[Array]:
    """Yield exponents of products, sorted by the sum of their absolute values."""
    width = len(divides)
    yield np.zeros(width)
    for total in range(1, tuned.SPARSE_DEGREE + 1):
        counts = range(1, min(width, total) + 1)
        for places in itertools.chain(*(itertools.combinations(range(width), k) for k in counts)):
            allowed = [[p for p in tuned.SPARSE_POWERS if p > 0 or divides[i]] for i in places]
            for chosen in itertools.product(*allowed):
                if sum(map(abs, chosen)) == total:
                    powers = np.zeros(width)
                    powers[list(places)] = chosen
                    yield powers


class DictionarySum(Ansatz):
    """A sum of two products of a monomial and a function."""

    limits = tuned.DICTIONARY

    def _formulas(self, problem: SearchProblem, front: Front) -> Iterator[Expr]:
        names, matrix = dictionary(problem)
        rows = problem.fitted
        for _, view in transformed(problem, self.limits.targets):
            if front.done:
                return
            for terms in self._best(best_pairs(matrix[rows], view.target[rows])):
                yield sum_of_terms(view, [names[k] for k in terms], matrix[:, terms])


def dictionary(problem: SearchProblem) -> tuple[list[Expr], Array]:
    """Return the terms and their values, (row, term)."""
    monomials = _monomials(problem)
    products = [
        (factor * function, weight * values)
        for name, u in _arguments(problem)
        for function, values in functions_of(name, u)
        for factor, weight in monomials[: 1 + problem.width + 2]
    ]
    names, columns = zip(*monomials, *products, strict=True)
    matrix = np.stack(columns, axis=1)
    good = np.isfinite(matrix).all(axis=0) & (np.abs(matrix).max(axis=0) < tuned.LARGEST_TERM)
    good &= np.ptp(matrix, axis=0) > 0
    terms = np.flatnonzero(good)[: tuned.DICTIONARY_TERMS]
    return [names[k] for k in terms], matrix[:, terms]


def _monomials(problem: SearchProblem) -> list[tuple[Expr, Array]]:
    """Return 1, the columns, their inverses, and products of up to three."""
    x, names, width = problem.columns, problem.names, problem.width
    divides = away(x, tuned.CLEAR_OF_ZERO)
    terms: list[tuple[Expr, Array]] = [(sympy.Integer(1), np.ones(len(x)))]
    terms += zip(names, x.T, strict=True)
    terms += [(1 / n, 1 / c) for n, c, ok in zip(names, x.T, divides, strict=True) if ok]
    several = (itertools.combinations_with_replacement(range(width), count) for count in (2, 3))
    for places in itertools.chain(*several):
        terms.append((sympy.Mul(*(names[i] for i in places)), np.prod(x[:, places], axis=1)))
    pairs = [(i, j) for i, j in itertools.permutations(range(width), 2) if divides[j]]
    return terms + [(names[i] / names[j], x[:, i] / x[:, j]) for i, j in pairs]


def _arguments(problem: SearchProblem) -> list[tuple[Expr, Array]]:
    """Return arguments of functions: combinations of columns."""
    simple = sorted(arguments(problem), key=lambda a: a.cost)[: tuned.DICTIONARY_ARGUMENTS]
    inputs = [(argument.name, argument.values) for argument in simple]
    columns = list(zip(problem.names, problem.columns.T, strict=True))
    for (p, a), (q, b) in itertools.combinations(columns, 2):
        inputs += [((p - 1) * (q - 1), (a - 1) * (b - 1)), ((p + 1) * (q + 1), (a + 1) * (b + 1))]
    return inputs + [(n**2, c**2) for n, c in columns]


def functions_of(name: Expr, u: Array) -> list[tuple[Expr, Array]]:
    """Return functions of an argument that are defined on its values."""
    functions = [(sympy.sin(name), np.sin(u)), (sympy.cos(name), np.cos(u))]
    if np.abs(u).max() < tuned.DICTIONARY_EXPONENT:
        functions += [(sympy.exp(name), np.exp(u)), (sympy.exp(-name), np.exp(-u))]
    if u.min() > 0:
        functions += [(sympy.log(name), np.log(u)), (sympy.sqrt(name), np.sqrt(u))]
    functions.append((sympy.tanh(name), np.tanh(u)))
    if np.abs(np.sin(u)).min() > tuned.CLEAR_OF_POLE:
        functions.append((1 / sympy.tan(name), 1 / np.tan(u)))
    return functions
