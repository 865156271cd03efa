"""One formula of the search, and how two of them compare."""

from __future__ import annotations

import math
from dataclasses import dataclass

import sympy

from kanlens.symbolic.composition import Expr
from kanlens.symbolic.simplification import count_numbers

EXACT = 1e-24  # relative squared error at rounding level
NUMBER = 6  # nodes that an inexact number is worth
_ODD = 2.0  # digits of fractions, by the natural logarithm, that may stand for any number


@dataclass(frozen=True, eq=False)
class Entry:
    """One formula.

    Attributes
    ----------
    expression : Expr
        In the symbols of the table, scaled.
    error : float
        Relative squared error on the held-out rows.
    complexity : int
    snapped : tuple of str
    overall : float
        Relative squared error on all rows; that on the held-out ones where it is not known.
    """

    expression: Expr
    error: float
    complexity: int
    snapped: tuple[str, ...] = ()
    overall: float = math.nan


def beats(one: Entry, two: Entry, every: list[Entry]) -> bool:
    """Say whether one makes two superfluous; equal ones are settled by their order."""
    ours = (max(one.error, EXACT), one.complexity, count_numbers(one.expression))
    other = (max(two.error, EXACT), two.complexity, count_numbers(two.expression))
    if ours == other:
        return every.index(one) < every.index(two)
    return all(a <= b for a, b in zip(ours, other, strict=True))


def count_free(expression: Expr) -> float:
    """Return how many numbers an expression holds that data had to tell, odd fractions by half.

    Examples
    --------
    >>> count_free(2.5 * sympy.Symbol("x") ** sympy.Rational(7, 5))
    1.5
    """
    odd = sum(1 for d in digits(expression) if d > _ODD)
    return count_numbers(expression) + odd / 2


def length(entry: Entry) -> int:
    """Return the nodes of a formula, an inexact number as several.

    Examples
    --------
    >>> length(Entry(sympy.Float(2.5) * sympy.Symbol("x"), 0.1, 3))
    9
    """
    return entry.complexity + NUMBER * count_numbers(entry.expression)


def digits(expression: Expr) -> list[float]:
    """Return the logarithm of the numerator and denominator of every fraction in an expression."""
    nodes = sympy.preorder_traversal(expression)
    return [math.log((1 + abs(int(n.p))) * int(n.q)) for n in nodes if n.is_Rational]


def unsound(expression: Expr) -> bool:
    """Say whether an expression is no number somewhere, or far too long."""
    return bool(
        expression.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo, sympy.I)
        or len(expression.args) > 60
    )


def powered(expression: Expr) -> bool:
    """Say whether a power other than of e has an exponent that varies: it soon overflows."""
    return any(
        node.exp.free_symbols for node in expression.atoms(sympy.Pow) if node.base != sympy.E
    )
