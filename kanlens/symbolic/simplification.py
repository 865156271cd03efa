"""Simplification of formulas: the rules of `rewriting`, numbers refitted, constants made exact.

Every step is checked with numbers. A rule that changes a value by more than 1e-9 of the largest
value at any sample point is rolled back.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import sympy
import torch

from kanlens.deadlines import check_time
from kanlens.symbolic.composition import Array, Expr, evaluator
from kanlens.symbolic.constants import RefinedFormula, refine, snap
from kanlens.symbolic.joint_refit import relative_loss
from kanlens.symbolic.rewriting import RULES, reduced_phases

_LONG = 600  # operations beyond which no rule is tried
_AGAIN = 120  # operations up to which rules are tried again
_PASSES = 3  # over all rules, while one of them still helps
_TOLERANCE = 1e-9
_POINTS = 200  # where rules are checked


@dataclass(frozen=True, kw_only=True, eq=False)
class Simplifier:
    """Simplification of formulas of one output on a table."""

    symbols: tuple[Expr, ...]  # one per column of x
    x: Array  # (batch, in)
    y: Array  # (batch,)
    independent: int | None = None  # as for `snap`

    def shorten(self, expression: Expr) -> Expr:
        """Return the shortest equal form that the rules find."""
        return shorten(expression, self.symbols, self.x)

    def refit(self, expression: Expr) -> RefinedFormula:
        """Fit the numbers of a formula to y, and shorten it."""
        found = refine(expression, self.symbols, self.x, self.y)
        return dataclasses.replace(found, expression=self.shorten(found.expression))

    def snap(self, expression: Expr) -> RefinedFormula:
        """Replace numbers by exact constants and shorten; once more where numbers were merged."""
        table = (self.symbols, self.x, self.y)
        found = snap(expression, *table, independent=self.independent)
        short = self.shorten(found.expression)
        if count_numbers(short) < count_numbers(found.expression):  # its numbers are others
            again = snap(short, *table, independent=self.independent)
            made, costs = (*found.snapped, *again.snapped), (*found.costs, *again.costs)
            found, short = dataclasses.replace(again, snapped=made, costs=costs), again.expression
            short = self.shorten(short)
        return dataclasses.replace(found, expression=short)

    def loss(self, expression: Expr) -> float:
        """Return the mean squared error over the variance of y; infinite where undefined."""
        values = torch.from_numpy(evaluator((expression,), self.symbols)(self.x))
        return relative_loss(values, torch.from_numpy(self.y)[:, None])


def shorten(expression: Expr, symbols: tuple[Expr, ...], x: Array) -> Expr:
    """Return the shortest equal form that the rules find, checked on some of the rows.

    Fewer numbers count first, then fewer operations (a function as two): two numbers that only
    appear as a product cannot be told apart by data.
    """
    turned, points = reduced_phases(expression), x[:: max(1, len(x) // _POINTS)]
    best = turned if agree(turned, expression, symbols, points) else expression
    for _ in range(_PASSES):
        before = best
        for rule in RULES:
            if sympy.count_ops(best) > _LONG:
                return best
            check_time()
            trial = rule(best)
            if _rank(trial) < _rank(best) and agree(trial, best, symbols, points):
                best = trial
        if best == before or sympy.count_ops(best) > _AGAIN:
            break
    return best


def agree(one: Expr, two: Expr, symbols: tuple[Expr, ...], points: Array) -> bool:
    """Say whether two expressions have the same values at points, relative to the largest.

    Points where the second is not finite do not count; at least one must.
    """
    values = evaluator((one, two), symbols)(points)
    values = values[np.isfinite(values[:, 1])]
    if not len(values):
        return False
    gap = np.abs(values[:, 0] - values[:, 1]).max()
    return bool(gap <= _TOLERANCE * np.abs(values[:, 1]).max())


def count_numbers(expression: Expr) -> int:
    """Return how many inexact numbers an expression holds."""
    return sum(1 for node in sympy.preorder_traversal(expression) if node.is_Float)


def complexity(expression: Expr) -> int:
    """Return the number of nodes of the expression tree: symbols, numbers and operations.

    A spline counts with its coefficients.
    """
    nodes = sympy.preorder_traversal(expression)
    return sum(1 + getattr(type(node), "numbers", 0) for node in nodes)


def _rank(expression: Expr) -> tuple[int, int, int]:
    functions = sum(1 for node in sympy.preorder_traversal(expression) if node.is_Function)
    operations = int(sympy.count_ops(expression)) + functions
    return count_numbers(expression), operations, complexity(expression)
