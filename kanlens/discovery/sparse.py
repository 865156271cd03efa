"""Short sums out of very many products of powers and waves of the columns, by a beam search.

Where the products are too many to be fitted together and dropped one by one, sums grow: of every
sum kept so far the residual is compared with all products at once, and the best sums with one
more term are kept [1]_.

References
----------
.. [1] S. Chen, S. A. Billings, W. Luo, Orthogonal least squares methods and their application to
   non-linear system identification, Int. J. Control 50, 1989.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.deadlines import check_time
from kanlens.discovery.front import Front
from kanlens.discovery.problems import Problem, transformed
from kanlens.discovery.regression import Array, solve, weighted
from kanlens.symbolic.composition import Expr

TARGETS = ("id", "sq", "inv", "invsq")
_MOST_BARE, _MOST_WAVES = 3000, 1500  # products, and those with a wave
_ROWS = 300  # on which sums are compared
_BEAM = 16
_TERMS = 5
_MOST_WIDE = 8
_EXCHANGED, _EXCHANGES = 4, 3  # sums of a length in which columns are exchanged, and rounds
_EXACT = 1e-20
_LOST = 0.02
_OFFERED = 2
_NO_NOISE = 1e-12  # error from which rows are weighted as errors of y would be
_APART = 0.1  # least size of a divisor of both signs, in parts of its largest
_TURN = 1.0  # range of a column from which its waves are tried
_SMALL = 1e-9  # part of a product that others do not say already, below which it is none
_EXPONENTS = (1.0, 2.0, -1.0, -2.0, 3.0, 4.0, -3.0, -4.0)


WAVES: dict[str, tuple[Callable[[Array], Array], Callable[[Expr], Expr]]] = {
    "sin": (np.sin, sympy.sin),
    "cos": (np.cos, sympy.cos),
    "square of sin": (lambda x: np.sin(x) ** 2, lambda e: sympy.sin(e) ** 2),
}


@dataclass(frozen=True, eq=False)
class Products:
    """Products of powers of the columns, some of them times a wave of one column.

    Attributes
    ----------
    exponents : ndarray, shape (product, feature)
    waves : tuple of (int, str) or None
        Per product the column and the name of its function in `WAVES`.
    values : ndarray, shape (row, product)
    """

    exponents: Array
    waves: tuple[tuple[int, str] | None, ...]
    values: Array

    def name(self, k: int, names: tuple[Expr, ...]) -> Expr:
        """Return one product as an expression."""
        powers = zip(names, self.exponents[k], strict=True)
        found = sympy.Mul(*(n ** int(p) for n, p in powers if p))
        wave = self.waves[k]
        return found if wave is None else found * WAVES[wave[1]][1](names[wave[0]])


def products(problem: Problem) -> Products:
    """Return as many products as may be compared, the simplest ones.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    Products
    """
    x = problem.columns
    size = np.abs(x)
    one_sign = (x > 0).all(axis=0) | (x < 0).all(axis=0)
    clear = size.min(axis=0) > np.where(one_sign, 1e-3, _APART) * size.max(axis=0)
    turns = np.ptp(x, axis=0) > _TURN
    bare = _exponents(clear, _MOST_BARE)
    exponents, waves = [bare], [None] * len(bare)
    values = [_raised(x, bare)]
    few = bare[: _MOST_WAVES // max(1, len(WAVES) * int(turns.sum()))]
    for i in np.flatnonzero(turns):
        own = few[few[:, i] == 0]
        for kind, (wave, _) in WAVES.items():
            exponents.append(own)
            waves += [(int(i), kind)] * len(own)  # type: ignore[list-item]
            values.append(_raised(x, own) * wave(x[:, i])[:, None])
    return Products(np.concatenate(exponents), tuple(waves), np.concatenate(values, axis=1))


def _exponents(clear: Array, most: int) -> Array:
    """Return exponents of products, (product, feature), by their sum of sizes."""
    width, found = len(clear), [np.zeros(len(clear))]
    for total in range(1, 13):
        level = list(_of_size(clear, total, width))
        found += level[: most - len(found)]
        if len(found) == most:
            break
    return np.stack(found)


def _of_size(clear: Array, total: int, width: int) -> list[Array]:
    """Return the exponents whose sizes sum to a number."""
    found = []
    for count in range(1, min(width, total) + 1):
        for places in itertools.combinations(range(width), count):
            allowed = [[p for p in _EXPONENTS if p > 0 or clear[i]] for i in places]
            for chosen in itertools.product(*allowed):
                if sum(abs(p) for p in chosen) == total:
                    powers = np.zeros(width)
                    powers[list(places)] = chosen
                    found.append(powers)
    return found


def _raised(x: Array, exponents: Array) -> Array:
    """Return products of powers of the columns, (row, product)."""
    found = np.ones((len(x), len(exponents)))
    for i in range(x.shape[1]):
        for p in np.unique(exponents[:, i]):
            if p:
                found[:, exponents[:, i] == p] *= (x[:, i] ** p)[:, None]
    return found


def grown_sums(
    matrix: Array, target: Array, weights: Array | None = None
) -> list[tuple[float, tuple[int, ...]]]:
    """Return sums of few columns that with a constant fit a target best.

    Parameters
    ----------
    matrix : ndarray, shape (row, column)
    target : ndarray, shape (row,)
    weights : ndarray, shape (row,), optional
        By what residuals are multiplied.

    Returns
    -------
    list of (float, tuple of int)
        Relative squared error and columns of the best sum of every length, shortest first.

    Examples
    --------
    >>> matrix = np.random.default_rng(0).normal(size=(50, 30))
    >>> [columns for _, columns in grown_sums(matrix, matrix[:, 7] - matrix[:, 4])][-1]
    (4, 7)
    """
    constant = np.ones(len(target)) if weights is None else weights
    constant = constant / np.sqrt(constant @ constant)
    matrix, target = weighted(weights, matrix, target)
    centered = matrix - constant[:, None] * (constant @ matrix)
    size = np.sqrt(np.square(centered).sum(axis=0))
    centered = centered / np.where(size > 0, size, np.inf)
    y = target - constant * (constant @ target)
    y = y / (np.sqrt(y @ y) or 1.0)
    states = [_Sum((), np.zeros((len(y), 0)), np.ones(len(size)), y)]
    found: list[tuple[float, tuple[int, ...]]] = []
    for _ in range(_TERMS):
        states = _grown(states, centered)
        states = (
            sorted((_exchanged(s, centered, y) for s in states[:_EXCHANGED]), key=lambda s: s.error)
            + states[_EXCHANGED:]
        )
        if not states or (found and states[0].error > 0.9 * found[-1][0]):
            break
        found.append((states[0].error, states[0].columns))
        if states[0].error < _EXACT:
            break
    return found


@dataclass(frozen=True, eq=False)
class _Sum:
    """Columns in use, an orthonormal basis of them, what it leaves of the others, the residual."""

    columns: tuple[int, ...]
    basis: Array
    left: Array
    residual: Array

    @property
    def error(self) -> float:
        return float(self.residual @ self.residual)


def _grown(states: list[_Sum], matrix: Array) -> list[_Sum]:
    """Add one column to sums and keep the best."""
    check_time()
    overlaps = matrix.T @ np.stack([s.residual for s in states], axis=1)  # (column, state)
    chosen: dict[tuple[int, ...], tuple[float, int, int]] = {}
    for s, state in enumerate(states):
        gains = np.where(state.left > _SMALL, overlaps[:, s] ** 2, 0.0)
        gains = gains / np.maximum(state.left, _SMALL)
        for k in np.argpartition(-gains, min(_BEAM, len(gains) - 1))[:_BEAM]:
            if gains[k] > 0 and int(k) not in state.columns:
                columns = tuple(sorted((*state.columns, int(k))))
                chosen.setdefault(columns, (state.error - float(gains[k]), s, int(k)))
    best = sorted(chosen.items(), key=lambda item: item[1])[
        : _BEAM if states[0].columns else 3 * _BEAM
    ]
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
    shares = np.square(matrix.T @ np.stack([g[2] for g in grown], axis=1))
    made = [
        _Sum(columns, np.column_stack((state.basis, fresh)), state.left - shares[:, n], residual)
        for n, (columns, state, fresh, residual) in enumerate(grown)
    ]
    return sorted(made, key=lambda each: each.error)


def _exchanged(state: _Sum, matrix: Array, target: Array) -> _Sum:
    """Put a better column in the place of another while there is one."""
    best = state
    for place in range(_EXCHANGES * len(state.columns)):
        check_time()
        if len(state.columns) < 2 or best.error < _EXACT:
            break
        less = tuple(c for k, c in enumerate(best.columns) if k != place % len(best.columns))
        basis, _ = np.linalg.qr(matrix[:, less])
        residual = target - basis @ (basis.T @ target)
        left = 1 - np.square(matrix.T @ basis).sum(axis=1)
        gains = np.where(left > _SMALL, (matrix.T @ residual) ** 2 / np.maximum(left, _SMALL), 0.0)
        gains[list(less)] = 0.0
        k = int(gains.argmax())
        error = float(residual @ residual - gains[k])
        if error < 0.999 * best.error:
            columns = tuple(sorted((*less, k)))
            basis, _ = np.linalg.qr(matrix[:, columns])
            left = 1 - np.square(matrix.T @ basis).sum(axis=1)
            best = _Sum(columns, basis, left, target - basis @ (basis.T @ target))
    return best


def sparse_formulas(problem: Problem, front: Front) -> None:
    """Offer short sums of products of powers and waves, for the target and its transforms."""
    if not 2 <= problem.width <= _MOST_WIDE:
        return
    every = products(problem)
    fitted = np.flatnonzero(~problem.held_out)
    rows = fitted[:: max(1, len(fitted) // _ROWS)]
    matrix = every.values[rows]
    good = np.flatnonzero(np.isfinite(matrix).all(axis=0) & (np.ptp(matrix, axis=0) > 0))
    matrix = matrix[:, good]
    for _, each in transformed(problem, TARGETS):
        if front.done:
            return
        sums = sorted(grown_sums(matrix, each.target[rows]))
        weights = each.weights
        if sums and sums[0][0] > _NO_NOISE and weights is not None:
            sums = sorted(grown_sums(matrix, each.target[rows], weights[rows]))
        for error, columns in sums[:_OFFERED]:
            if error < _LOST and not front.done:
                _offer(each, every, [int(good[k]) for k in columns], front)


def _offer(problem: Problem, every: Products, terms: list[int], front: Front) -> None:
    columns = np.column_stack((np.ones(len(problem.target)), every.values[:, terms]))
    fitted = ~problem.held_out
    weights = None if problem.weights is None else problem.weights[fitted]
    found = solve(*weighted(weights, columns[fitted], problem.target[fitted]))
    sizes = np.abs(found) * np.abs(columns).max(axis=0)
    names = [sympy.Integer(1), *(every.name(k, problem.names) for k in terms)]
    parts = [
        sympy.Float(float(c)) * name
        for c, name, size in zip(found, names, sizes, strict=True)
        if size > _SMALL * sizes.max()
    ]
    front.offer(problem.rebuild(sympy.Add(*parts)))
