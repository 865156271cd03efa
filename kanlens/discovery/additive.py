"""One layer solved by least squares: a transform of the target as a sum of splines of columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery.curves import Curve, U, fit_curves
from kanlens.discovery.front import Front
from kanlens.discovery.problems import Problem, transformed
from kanlens.discovery.regression import (
    Array,
    quick_error,
    relative_error,
    solve,
    weighted,
)
from kanlens.discovery.splines import Basis
from kanlens.symbolic.composition import Expr

TARGETS = ("id", "log", "inv", "sq", "invsq", "sqrt", "invsqrt", "exp", "sin", "tan", "cos", "sinh")
_PIECES = 10
_GOOD = 3e-4  # error of a layer that is worth more than two
_NO_NOISE = 1e-12  # error from which rows are also weighted as errors of y would be
_SWAPS = 12  # formulas tried for one additive fit


@dataclass(frozen=True, eq=False)
class Layer:
    """A sum of splines of single columns.

    Attributes
    ----------
    bases : tuple of Basis
    coefficients : tuple of ndarray
        Per column.
    constant : float
    error : float
        Relative squared error on the held-out rows.
    """

    bases: tuple[Basis, ...]
    coefficients: tuple[Array, ...]
    constant: float
    error: float

    def curves(self) -> tuple[Array, list[Array]]:
        """Return even points of every column and the splines there, centered."""
        grids = [basis.grid for basis in self.bases]
        values = [
            basis.at(grid) @ c
            for basis, grid, c in zip(self.bases, grids, self.coefficients, strict=True)
        ]
        return np.stack(grids), values


def additive_matrix(columns: Array, bases: tuple[Basis, ...]) -> tuple[Array, Array]:
    """Return ones and the B-splines of every column, each centered, and the column of each."""
    blocks, owners = [np.ones((len(columns), 1))], [np.zeros(1, dtype=int)]
    for i, basis in enumerate(bases):
        block = basis.at(columns[:, i])[:, 1:]
        blocks.append(block - block.mean(axis=0))
        owners.append(np.full(block.shape[1], i + 1))
    return np.concatenate(blocks, axis=1), np.concatenate(owners)


def additive_error(
    problem: Problem, pieces: int = _PIECES, *, weights: Array | None = None
) -> float:
    """Return how badly a sum of splines fits, on the held-out rows."""
    bases = tuple(Basis.of(c, _pieces(problem, pieces)) for c in problem.columns.T)
    matrix, _ = additive_matrix(problem.columns, bases)
    return quick_error(*weighted(weights, matrix, problem.target), problem.held_out)


def solve_layer(problem: Problem, pieces: int = _PIECES, *, weights: Array | None = None) -> Layer:
    """Fit a sum of splines, with residuals multiplied by weights."""
    bases = tuple(Basis.of(c, _pieces(problem, pieces)) for c in problem.columns.T)
    matrix, owners = additive_matrix(problem.columns, bases)
    fitted = ~problem.held_out
    heavy, target = weighted(weights, matrix, problem.target)
    found = solve(heavy[fitted], target[fitted])
    judged = problem.held_out if problem.held_out.any() else fitted
    error = relative_error((heavy @ found)[judged], target[judged])
    parts = tuple(np.concatenate(([0.0], found[owners == i + 1])) for i in range(problem.width))
    means = [
        float(basis.at(x)[:, 1:].mean(axis=0) @ c[1:])
        for basis, x, c in zip(bases, problem.columns.T, parts, strict=True)
    ]
    return Layer(bases, parts, float(found[0]) - sum(means), error)


def _pieces(problem: Problem, pieces: int) -> int:
    """Return fewer pieces where there are few rows."""
    rows = int((~problem.held_out).sum())
    return max(1, min(pieces, rows // (3 * problem.width) - 4))


def additive_formulas(
    problem: Problem, front: Front, *, targets: tuple[str, ...] = TARGETS
) -> float:
    """Offer formulas of additive fits to the target and its transforms; return the best error."""
    if problem.width == 0:
        return float("inf")
    made = transformed(problem, targets)
    best = _best_layers([(name, each, None) for name, each in made], front)
    if best > _NO_NOISE and not front.done:
        uneven = [(name, each, each.weights) for name, each in made if each.weights is not None]
        _best_layers(uneven, front)
    return best


def _best_layers(problems: Sequence[tuple[str, Problem, Array | None]], front: Front) -> float:
    """Offer formulas of the two best fits, whose rows have weights; return the least error."""
    ranked = sorted(
        (
            (additive_error(each, weights=weights), name, each, weights)
            for name, each, weights in problems
        ),
        key=lambda item: item[0],
    )
    for error, name, each, weights in ranked[:2]:
        if error < 0.2 and not front.done:
            _offer_layer(each, name, weights, front)
    return ranked[0][0] if ranked else float("inf")


def _offer_layer(problem: Problem, name: str, weights: Array | None, front: Front) -> None:
    layer = solve_layer(problem, weights=weights)
    grids, values = layer.curves()
    sizes = np.array([v.std() for v in values])
    live = np.flatnonzero(sizes > 1e-3 * np.sqrt(layer.error + 1e-6) * sizes.max())
    if len(live) == 0:
        return
    epsilon = float(np.clip(layer.error, 1e-9, 1e-2))
    if name == "log":
        shapes = [np.exp(values[i] - values[i].mean()) for i in live]
        options = fit_curves(
            grids[live],
            shapes,
            outer=("id", "inv", "invsq", "sq", "invsqrt", "log"),
            epsilon=epsilon,
        )
    else:
        shapes = [values[i] for i in live]
        options = fit_curves(grids[live], shapes, inner=("id", "sq"), epsilon=epsilon)
    names = [problem.names[i] for i in live]
    for choice in itertools.islice(choices(options), _SWAPS if layer.error < _GOOD else 2):
        if front.done:
            return
        parts = [c.expression.subs(U, n) for c, n in zip(choice, names, strict=True)]
        front.offer(problem.rebuild(_joined(parts, name, layer, values, live)))


def _joined(parts: list[Expr], name: str, layer: Layer, values: list[Array], live: Array) -> Expr:
    """Return the sum of parts (for the log: log of their product) and its constant."""
    if name == "log":
        size = np.exp(layer.constant + sum(float(v.mean()) for v in values))
        product = sympy.Mul(*parts) * sympy.Float(float(size))
        return sympy.log(product)
    rest = layer.constant + sum(float(v.mean()) for i, v in enumerate(values) if i not in live)
    return sympy.Add(*parts, sympy.Float(rest))


def choices(options: list[list[Curve]]) -> list[list[Curve]]:
    """Return choices of one curve each: the best, then with one of them changed."""
    best = [curves[0] for curves in options]
    found = [best]
    swaps = [
        (rank, place) for place, curves in enumerate(options) for rank in range(1, len(curves))
    ]
    if len(best) > 1:
        found += [[curves[min(r, len(curves) - 1)] for curves in options] for r in (1, 2)]
    for rank, place in sorted(swaps):
        choice = list(best)
        choice[place] = options[place][rank]
        found.append(choice)
    return found
