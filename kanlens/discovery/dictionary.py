"""Sums of two or three products of a monomial and a function without free numbers."""

from __future__ import annotations

import itertools

import numpy as np
import sympy

from kanlens.discovery.front import Front
from kanlens.discovery.index_model import indices
from kanlens.discovery.problems import Problem, transformed
from kanlens.discovery.regression import Array, relative_error, solve
from kanlens.discovery.single import best_pairs
from kanlens.symbolic.composition import Expr

_MOST_WIDE = 4
_MOST_TERMS = 900
_STARTS = 12  # pairs to which a third is added
_OFFERED = 2
_LOST = 0.01
_LARGEST = 1e8


def dictionary(problem: Problem) -> tuple[list[Expr], Array]:
    """Return the terms and their values, (row, term).

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    tuple of list of Expr, ndarray
    """
    monomials = _monomials(problem)
    names, columns = [m for m, _ in monomials], [v for _, v in monomials]
    for name, u in _arguments(problem):
        for function, values in _functions(name, u):
            for monomial, weight in monomials[: 1 + problem.width + 2]:
                names.append(monomial * function)
                columns.append(weight * values)
    matrix = np.stack(columns, axis=1)
    good = np.isfinite(matrix).all(axis=0) & (np.abs(matrix).max(axis=0) < _LARGEST)
    good &= np.ptp(matrix, axis=0) > 0
    kept = np.flatnonzero(good)[:_MOST_TERMS]
    return [names[k] for k in kept], matrix[:, kept]


def _monomials(problem: Problem) -> list[tuple[Expr, Array]]:
    """Return 1, the columns, their inverses, and products of two or three of them."""
    x, names = problem.columns, problem.names
    size = np.abs(x)
    clear = size.min(axis=0) > 1e-3 * size.max(axis=0)
    found: list[tuple[Expr, Array]] = [(sympy.Integer(1), np.ones(len(x)))]
    found += [(n, c) for n, c in zip(names, x.T, strict=True)]
    found += [(1 / n, 1 / c) for n, c, ok in zip(names, x.T, clear, strict=True) if ok]
    for count in (2, 3):
        for places in itertools.combinations_with_replacement(range(problem.width), count):
            name = sympy.Mul(*(names[i] for i in places))
            found.append((name, np.prod(x[:, places], axis=1)))
    for i, j in itertools.permutations(range(problem.width), 2):
        if clear[j]:
            found.append((names[i] / names[j], x[:, i] / x[:, j]))
    return found


def _arguments(problem: Problem) -> list[tuple[Expr, Array]]:
    """Return what functions are taken of: combinations of columns, and products of moved ones."""
    found = [(index.name, index.values) for index in indices(problem)]
    for i, j in itertools.combinations(range(problem.width), 2):
        (p, a), (q, b) = ((problem.names[k], problem.columns[:, k]) for k in (i, j))
        found += [((p - 1) * (q - 1), (a - 1) * (b - 1)), ((p + 1) * (q + 1), (a + 1) * (b + 1))]
    found += [(n**2, c**2) for n, c in zip(problem.names, problem.columns.T, strict=True)]
    return found


def _functions(name: Expr, u: Array) -> list[tuple[Expr, Array]]:
    found = [(sympy.sin(name), np.sin(u)), (sympy.cos(name), np.cos(u))]
    with np.errstate(all="ignore"):
        if np.abs(u).max() < 12:
            found += [(sympy.exp(name), np.exp(u)), (sympy.exp(-name), np.exp(-u))]
        if u.min() > 0:
            found += [(sympy.log(name), np.log(u)), (sympy.sqrt(name), np.sqrt(u))]
        found.append((sympy.tanh(name), np.tanh(u)))
        if np.abs(np.sin(u)).min() > 1e-2:
            found.append((1 / sympy.tan(name), 1 / np.tan(u)))
    return found


def dictionary_formulas(problem: Problem, front: Front) -> None:
    """Offer the best sums of up to three terms of the dictionary."""
    if not 2 <= problem.width <= _MOST_WIDE:
        return
    names, matrix = dictionary(problem)
    fitted = ~problem.held_out
    for _, each in transformed(problem, ("id", "log")):
        if front.done:
            return
        sums = best_sums(matrix[fitted], each.target[fitted])
        for error, terms in sums[:_OFFERED]:
            if error < _LOST and not front.done:
                _offer(each, names, matrix, terms, front)


def _offer(
    problem: Problem, names: list[Expr], matrix: Array, terms: tuple[int, ...], front: Front
) -> None:
    columns = np.column_stack((np.ones(len(matrix)), matrix[:, terms]))
    fitted = ~problem.held_out
    found = solve(columns[fitted], problem.target[fitted])
    sizes = np.abs(found) * np.abs(columns).max(axis=0)
    parts = [
        sympy.Float(float(c)) * name
        for c, name, size in zip(
            found, [sympy.Integer(1), *(names[k] for k in terms)], sizes, strict=True
        )
        if size > 1e-9 * sizes.max()
    ]
    front.offer(problem.rebuild(sympy.Add(*parts)))


def best_sums(matrix: Array, target: Array) -> list[tuple[float, tuple[int, ...]]]:
    """Return pairs and triples of columns that with a constant fit a target best.

    Pairs are compared all with all; a third column is added to the best of them.

    Returns
    -------
    list of (float, tuple of int)
        Relative squared error and the columns, best first; a triple must be ten times better
        than the best pair.
    """
    pairs = best_pairs(matrix, target)
    found: list[tuple[float, tuple[int, ...]]] = [(error, (i, j)) for error, i, j in pairs]
    centered = matrix - matrix.mean(axis=0)
    y = target - target.mean()
    triples: list[tuple[float, tuple[int, ...]]] = []
    for _, i, j in pairs[:_STARTS]:
        q, _ = np.linalg.qr(centered[:, [i, j]])
        rest, left = centered - q @ (q.T @ centered), y - q @ (q.T @ y)
        size = np.square(rest).sum(axis=0)
        gain = np.square(rest.T @ left) / np.where(size > 1e-10 * len(y), size, np.inf)
        k = int(gain.argmax())
        if k not in (i, j):
            columns = np.column_stack((np.ones(len(y)), matrix[:, [i, j, k]]))
            error = relative_error(columns @ solve(columns, target), target)
            triples.append((error, (i, j, k)))
    better = [t for t in triples if t[0] < 0.1 * found[0][0]]
    return sorted(better) + found if better else found
