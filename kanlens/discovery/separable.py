"""A target of any sign as a product of functions of single columns.

Logarithms fail where a factor changes its sign; here each factor in turn is fitted by least
squares with the others as they are.
"""

from __future__ import annotations

import itertools

import numpy as np
import sympy

from kanlens.discovery.additive import choices
from kanlens.discovery.curves import U, fit_curves
from kanlens.discovery.front import Front
from kanlens.discovery.problems import Problem
from kanlens.discovery.regression import Array, relative_error, solve
from kanlens.discovery.splines import Basis

_PIECES = 14
_ROUNDS = 25
_ENOUGH = 3  # rounds without a gain
_MOST_WIDE = 5
_LOST = 0.02
_CHOICES = 8


def separable_formulas(problem: Problem, front: Front) -> None:
    """Offer products of functions of the columns, where the target changes its sign."""
    one_sign = bool((problem.target > 0).all() or (problem.target < 0).all())
    rows = int((~problem.held_out).sum())
    if one_sign or not 2 <= problem.width <= _MOST_WIDE or rows < 3 * _PIECES:
        return
    error, bases, parts = factors(problem)
    if error > _LOST or front.done:
        return
    grids = np.stack([basis.grid for basis in bases])
    values = [b.at(b.grid) @ part for b, part in zip(bases, parts, strict=True)]
    options = fit_curves(
        grids,
        [v / np.abs(v).max() for v in values],
        outer=("id", "inv", "sq"),
        epsilon=float(np.clip(error, 1e-8, 1e-2)),
    )
    scale = sympy.Float(float(np.prod([np.abs(v).max() for v in values])))
    for choice in itertools.islice(choices(options), _CHOICES):
        if front.done:
            return
        pairs = zip(choice, problem.names, strict=True)
        front.offer(
            problem.rebuild(scale * sympy.Mul(*(c.expression.subs(U, n) for c, n in pairs)))
        )


def factors(problem: Problem) -> tuple[float, tuple[Basis, ...], list[Array]]:
    """Fit a product of splines of the columns.

    Returns
    -------
    tuple
        Relative squared error on the held-out rows, the splines, and the coefficients of each.
    """
    fitted = ~problem.held_out
    judged = problem.held_out if problem.held_out.any() else fitted
    bases = tuple(Basis.of(c, _PIECES) for c in problem.columns.T)
    blocks = [basis.at(c) for basis, c in zip(bases, problem.columns.T, strict=True)]
    parts = [np.ones(block.shape[1]) for block in blocks]
    best, kept, waited = float("inf"), parts, 0
    for _ in range(_ROUNDS):
        for i, block in enumerate(blocks):
            others = [b @ p for j, (b, p) in enumerate(zip(blocks, parts, strict=True)) if j != i]
            weight = np.prod(others, axis=0)
            found = solve((block * weight[:, None])[fitted], problem.target[fitted])
            size = float(np.abs(block @ found).max()) or 1.0
            last = i == len(blocks) - 1
            parts[i] = found if last else found / size
        made = np.prod([b @ p for b, p in zip(blocks, parts, strict=True)], axis=0)
        error = relative_error(made[judged], problem.target[judged])
        waited = 0 if error < 0.99 * best else waited + 1
        if error < best:
            best, kept = error, list(parts)
        if waited >= _ENOUGH:
            break
    return best, bases, kept
