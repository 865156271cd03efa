"""Short sums out of very many terms.

`SparseSum` grows sums of powers and waves by a beam search on the residual [1]_; `DictionarySum`
compares all pairs of monomials times functions of a combination, and adds a third term to the best.

References
----------
.. [1] S. Chen, S. A. Billings, W. Luo, Orthogonal least squares methods and their application to
   non-linear system identification, Int. J. Control 50, 1989.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.ansatz import Ansatz, sum_of_terms
from kanlens.discovery.blocks import arguments
from kanlens.discovery.monomials import evaluate, monomial
from kanlens.discovery.problems import SearchProblem, transformed
from kanlens.discovery.regression import Array, away, best_pairs, relative_error, solve, weighted
from kanlens.discovery.scheduling import BudgetedFront
from kanlens.long_work import check_time
from kanlens.symbolic.composition import Expr

WAVES: dict[str, tuple[Callable[[Array], Array], Callable[[Expr], Expr]]] = {
    "sin": (np.sin, sympy.sin),
    "cos": (np.cos, sympy.cos),
    "square of sin": (lambda x: np.sin(x) ** 2, lambda e: sympy.sin(e) ** 2),
}


@dataclass(frozen=True)
class SparseSum(Ansatz):
    """A short sum of products of powers and waves, for the target and its transforms."""

    limits: tuned.Limits = tuned.SPARSE
    costly = True

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        every = products(problem)
        fitted = np.flatnonzero(problem.fitted)
        rows = fitted[:: max(1, len(fitted) // tuned.SPARSE_ROWS)]
        matrix = every.values[rows]
        good = np.flatnonzero(np.isfinite(matrix).all(axis=0) & (np.ptp(matrix, axis=0) > 0))
        matrix = matrix[:, good]
        for _, each in transformed(problem, tuned.SPARSE.targets):
            if front.done:
                return
            sums, weights = grown_sums(matrix, each.target[rows]), each.weights
            if sums and min(sums)[0] > tuned.NOISELESS and weights is not None:
                sums = grown_sums(matrix, each.target[rows], weights[rows])
            for columns in self._best(sums):
                terms = good[list(columns)]
                names = [every.name(int(k), problem.names) for k in terms]
                yield sum_of_terms(each, names, every.values[:, terms], weights)


@dataclass(frozen=True, eq=False)
class Products:
    """Products of powers of the columns, some of them times a wave of one column."""

    exponents: Array  # (product, feature)
    waves: tuple[tuple[int, str] | None, ...]  # the column, and the name of its wave
    values: Array  # (row, product)

    def name(self, k: int, names: tuple[Expr, ...]) -> Expr:
        """Return one product as an expression."""
        found, wave = monomial(names, self.exponents[k]), self.waves[k]
        return found if wave is None else found * WAVES[wave[1]][1](names[wave[0]])


def products(problem: SearchProblem) -> Products:
    """Return as many products as may be compared, the simplest ones."""
    x = problem.columns
    one_sign = (x > 0).all(axis=0) | (x < 0).all(axis=0)
    divides = away(x, np.where(one_sign, tuned.CLEAR_OF_ZERO, tuned.CLEAR_OF_BOTH_SIGNS))
    turns = np.ptp(x, axis=0) > tuned.TURN
    bare = _exponents(divides, tuned.BARE_PRODUCTS)
    exponents = [bare]
    waves: list[tuple[int, str] | None] = [None] * len(bare)
    values = [evaluate(x, bare)]
    few = bare[: tuned.WAVE_PRODUCTS // max(1, len(WAVES) * int(turns.sum()))]
    for i in np.flatnonzero(turns):
        own = few[few[:, i] == 0]
        for kind, (wave, _) in WAVES.items():
            exponents.append(own)
            waves += [(int(i), kind)] * len(own)
            values.append(evaluate(x, own) * wave(x[:, i])[:, None])
    return Products(np.concatenate(exponents), tuple(waves), np.concatenate(values, axis=1))


def _exponents(divides: Array, most: int) -> Array:
    """Return exponents of products, (product, feature), by their sum of sizes."""
    width = len(divides)
    degrees = range(1, tuned.SPARSE_DEGREE + 1)
    levels = (_of_size(divides, total, width) for total in degrees)
    every = itertools.chain([np.zeros(width)], *levels)
    return np.stack(list(itertools.islice(every, most)))


def _of_size(divides: Array, total: int, width: int) -> Iterator[Array]:
    """Yield the exponents whose sizes sum to a number."""
    for count in range(1, min(width, total) + 1):
        for places in itertools.combinations(range(width), count):
            allowed = [[p for p in tuned.SPARSE_POWERS if p > 0 or divides[i]] for i in places]
            for chosen in itertools.product(*allowed):
                if sum(map(abs, chosen)) == total:
                    powers = np.zeros(width)
                    powers[list(places)] = chosen
                    yield powers


_Sum = tuple[float, tuple[int, ...]]  # relative squared error, and the columns


def grown_sums(matrix: Array, target: Array, weights: Array | None = None) -> list[_Sum]:
    """Return the sums of few columns and a constant that fit best, one a length, shortest first."""
    constant = np.ones(len(target)) if weights is None else weights
    constant = constant / np.sqrt(constant @ constant)
    matrix, target = weighted(weights, matrix, target)
    centered = matrix - constant[:, None] * (constant @ matrix)
    size = np.sqrt(np.square(centered).sum(axis=0))
    centered = centered / np.where(size > 0, size, np.inf)
    y = target - constant * (constant @ target)
    y = y / (np.sqrt(y @ y) or 1.0)
    states = [_ColumnSum((), np.zeros((len(y), 0)), np.ones(len(size)), y)]
    sums: list[_Sum] = []
    for _ in range(tuned.SPARSE_TERMS):
        states = _grown(states, centered)
        first, rest = states[: tuned.EXCHANGED_SUMS], states[tuned.EXCHANGED_SUMS :]
        better = (_exchanged(state, centered, y) for state in first)
        states = sorted(better, key=lambda s: s.error) + rest
        if not states or (sums and states[0].error > 0.9 * sums[-1][0]):
            break
        sums.append((states[0].error, states[0].columns))
        if states[0].error < tuned.EXACT_SUM:
            break
    return sums


@dataclass(frozen=True, eq=False)
class _ColumnSum:
    """Columns in use, an orthonormal basis of them, what it leaves of the others, the residual."""

    columns: tuple[int, ...]
    basis: Array
    left: Array
    residual: Array

    @property
    def error(self) -> float:
        return float(self.residual @ self.residual)


def _gains(overlaps: Array, left: Array) -> Array:
    """Return by how much each column would lower the squared residual, 0 for those in use."""
    least = tuned.NEGLIGIBLE_TERM
    return np.where(left > least, overlaps**2, 0.0) / np.maximum(left, least)


def _grown(states: list[_ColumnSum], matrix: Array) -> list[_ColumnSum]:
    """Add one column to sums and keep the best."""
    check_time()
    overlaps = matrix.T @ np.stack([s.residual for s in states], axis=1)  # (column, state)
    chosen: dict[tuple[int, ...], tuple[float, int, int]] = {}
    for s, state in enumerate(states):
        gains = _gains(overlaps[:, s], state.left)
        for k in np.argpartition(-gains, min(tuned.BEAM, len(gains) - 1))[: tuned.BEAM]:
            if gains[k] > 0 and int(k) not in state.columns:
                columns = tuple(sorted((*state.columns, int(k))))
                chosen.setdefault(columns, (state.error - float(gains[k]), s, int(k)))
    most = tuned.BEAM if states[0].columns else tuned.FIRST_BEAM
    best = sorted(chosen.items(), key=lambda item: item[1])[:most]
    grown = []
    for columns, (_, s, k) in best:
        state = states[s]
        fresh = matrix[:, k] - state.basis @ (state.basis.T @ matrix[:, k])
        fresh = fresh - state.basis @ (state.basis.T @ fresh)
        fresh = fresh / (np.sqrt(fresh @ fresh) or 1.0)
        residual = state.residual - fresh * (fresh @ state.residual)
        grown.append((columns, state, fresh, residual))
    if not grown:
        return []
    shares = np.square(matrix.T @ np.stack([fresh for _, _, fresh, _ in grown], axis=1)).T
    sums = (
        _ColumnSum(columns, np.column_stack((state.basis, fresh)), state.left - share, residual)
        for (columns, state, fresh, residual), share in zip(grown, shares, strict=True)
    )
    return sorted(sums, key=lambda each: each.error)


def _exchanged(state: _ColumnSum, matrix: Array, target: Array) -> _ColumnSum:
    """Put a better column in the place of another while there is one."""
    best = state
    for place in range(tuned.EXCHANGE_ROUNDS * len(state.columns)):
        check_time()
        if len(state.columns) < 2 or best.error < tuned.EXACT_SUM:
            break
        less = tuple(c for k, c in enumerate(best.columns) if k != place % len(best.columns))
        rest = _solved(less, matrix, target)
        gains = _gains(matrix.T @ rest.residual, rest.left)
        gains[list(less)] = 0.0
        k = int(gains.argmax())
        if rest.error - float(gains[k]) < 0.999 * best.error:
            best = _solved(tuple(sorted((*less, k))), matrix, target)
    return best


def _solved(columns: tuple[int, ...], matrix: Array, target: Array) -> _ColumnSum:
    basis, _ = np.linalg.qr(matrix[:, columns])
    left = 1 - np.square(matrix.T @ basis).sum(axis=1)
    return _ColumnSum(columns, basis, left, target - basis @ (basis.T @ target))


class DictionarySum(Ansatz):
    """A sum of two or three products of a monomial and a function without free numbers."""

    limits = tuned.DICTIONARY

    def _formulas(self, problem: SearchProblem, front: BudgetedFront) -> Iterator[Expr]:
        names, matrix = dictionary(problem)
        rows = problem.fitted
        for _, each in transformed(problem, self.limits.targets):
            if front.done:
                return
            for terms in self._best(best_sums(matrix[rows], each.target[rows])):
                yield sum_of_terms(each, [names[k] for k in terms], matrix[:, terms])


def dictionary(problem: SearchProblem) -> tuple[list[Expr], Array]:
    """Return the terms and their values, (row, term)."""
    monomials = _monomials(problem)
    terms = [
        (factor * function, weight * values)
        for name, u in _arguments(problem)
        for function, values in functions_of(name, u)
        for factor, weight in monomials[: 1 + problem.width + 2]
    ]
    names, columns = zip(*monomials, *terms, strict=True)
    matrix = np.stack(columns, axis=1)
    good = np.isfinite(matrix).all(axis=0) & (np.abs(matrix).max(axis=0) < tuned.LARGEST_TERM)
    good &= np.ptp(matrix, axis=0) > 0
    kept = np.flatnonzero(good)[: tuned.DICTIONARY_TERMS]
    return [names[k] for k in kept], matrix[:, kept]


def _monomials(problem: SearchProblem) -> list[tuple[Expr, Array]]:
    """Return 1, the columns, their inverses, and products of two or three of them."""
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
    """Return what functions are taken of: combinations of columns, and products of moved ones."""
    simple = sorted(arguments(problem), key=lambda each: each.cost)[: tuned.DICTIONARY_ARGUMENTS]
    inputs = [(each.name, each.values) for each in simple]
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


def best_sums(matrix: Array, target: Array) -> list[_Sum]:
    """Return the best pairs of columns with a constant, behind triples ten times better."""
    pairs = best_pairs(matrix, target)
    centered = matrix - matrix.mean(axis=0)
    y = target - target.mean()
    triples: list[_Sum] = []
    for _, (i, j) in pairs[: tuned.TRIPLE_STARTS]:
        q, _ = np.linalg.qr(centered[:, [i, j]])
        rest, left = centered - q @ (q.T @ centered), y - q @ (q.T @ y)
        size = np.square(rest).sum(axis=0)
        gain = np.square(rest.T @ left) / np.where(size > 1e-10 * len(y), size, np.inf)
        k = int(gain.argmax())
        if k not in (i, j):
            columns = np.column_stack((np.ones(len(y)), matrix[:, [i, j, k]]))
            error = relative_error(columns @ solve(columns, target), target)
            triples.append((error, (i, j, k)))
    better = [t for t in triples if t[0] < 0.1 * pairs[0][0]]
    return [*sorted(better), *pairs]
