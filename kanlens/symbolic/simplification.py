"""Shorten expressions by rules, each checked with numbers before it is kept.

A rule that changes a value by more than 1e-9 of the largest value at any sample point is
rolled back. Expanding is tried only where the number of terms it can give is small; the general
simplifier of sympy only on short expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy

from kanlens.deadlines import check_time
from kanlens.symbolic import rewriting
from kanlens.symbolic.composition import Array, Expr, evaluator

_MOST_TERMS = 300  # of an expanded expression
_SHORT = 60  # operations up to which sympy.simplify is tried
_LARGEST = 12  # number in exponents, or common denominator, up to which it is tried
_MEDIUM = 120  # operations up to which powers are joined, and rules tried again
_LONG = 600  # operations beyond which nothing is tried
_TOLERANCE = 1e-9
_PASSES = 3  # over all rules, while one of them still helps


def shorten(expression: Expr, symbols: tuple[Expr, ...], points: Array) -> Expr:
    """Return the shortest equal form that the rules find.

    Fewer numbers count first, then fewer operations (a function as two): two numbers that only
    appear as a product cannot be told apart by data.

    Parameters
    ----------
    expression : Expr
        One output.
    symbols : tuple of Symbol
        One per column of `points`.
    points : ndarray, shape (point, in)
        Where equality is checked.

    Returns
    -------
    Expr

    Examples
    --------
    >>> x, y = sympy.symbols("x y", real=True)
    >>> points = np.random.default_rng(0).uniform(1.0, 2.0, (50, 2))
    >>> shorten((x + y) ** 2 / 4 - (x - y) ** 2 / 4, (x, y), points)
    x*y
    """
    turned = rewriting.reduced_phases(expression)
    best = turned if agree(turned, expression, symbols, points) else expression
    for _ in range(_PASSES):
        before = best
        for rule in _RULES:
            if sympy.count_ops(best) > _LONG:
                return best
            check_time()
            trial = rule(best)
            if _rank(trial) < _rank(best) and agree(trial, best, symbols, points):
                best = trial
        if best == before or sympy.count_ops(best) > _MEDIUM:
            break
    return best


def agree(one: Expr, two: Expr, symbols: tuple[Expr, ...], points: Array) -> bool:
    """Say whether two expressions have the same values at points, relative to the largest.

    Points where the second is not finite do not count; at least one must.

    Examples
    --------
    >>> x = sympy.Symbol("x", real=True)
    >>> agree(x, 1.001 * x, (x,), np.ones((1, 1)))
    False
    """
    values = evaluator((one, two), symbols)(points)
    values = values[np.isfinite(values[:, 1])]
    if not len(values):
        return False
    gap = np.abs(values[:, 0] - values[:, 1]).max()
    return bool(gap <= _TOLERANCE * np.abs(values[:, 1]).max())


def count_numbers(expression: Expr) -> int:
    """Return how many inexact numbers an expression holds.

    Examples
    --------
    >>> count_numbers(2.5 * sympy.Symbol("x") + 2)
    1
    """
    return sum(1 for node in sympy.preorder_traversal(expression) if node.is_Float)


def complexity(expression: Expr) -> int:
    """Return the number of nodes of the expression tree: symbols, numbers and operations.

    A spline counts with its coefficients.

    Examples
    --------
    >>> complexity(sympy.sin(sympy.Symbol("x")))
    2
    """
    nodes = sympy.preorder_traversal(expression)
    return sum(1 + getattr(type(node), "numbers", 0) for node in nodes)


def _rank(expression: Expr) -> tuple[int, int, int]:
    functions = sum(1 for node in sympy.preorder_traversal(expression) if node.is_Function)
    operations = int(sympy.count_ops(expression)) + functions
    return count_numbers(expression), operations, complexity(expression)


def _merged_numbers(expression: Expr) -> Expr:
    """Make one number of an inexact one and what exact irrational ones it is multiplied by."""
    return expression.replace(
        lambda node: node.is_Mul and any(arg.is_Float for arg in node.args), _merged
    )


def _merged(product: Expr) -> Expr:
    numbers = [arg for arg in product.args if not arg.free_symbols]
    others = [arg for arg in product.args if arg.free_symbols]
    if not all(number.is_real for number in numbers):  # a root of a negative one
        return product
    return sympy.Mul(sympy.Float(float(sympy.Mul(*numbers))), *others)


def _expanded(expression: Expr) -> Expr:
    """Multiply out sums and their whole powers, and drop terms that cancel but for rounding."""
    if _term_count(expression) > _MOST_TERMS:
        return expression
    return _without_dust(sympy.expand(expression, log=False, power_exp=False, power_base=False))


def _term_count(expression: Expr) -> float:
    """Bound the number of terms that expanding gives anywhere in an expression."""
    if not expression.args:
        return 1
    inner = [_term_count(arg) for arg in expression.args]
    if expression.is_Add:
        return sum(inner)
    if expression.is_Mul:
        return math.prod(inner)
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        power = int(expression.exp)
        return math.comb(int(min(inner[0], 1e6)) + power - 1, power)
    return max(inner)  # an atom for what is around it


def _without_dust(expression: Expr) -> Expr:
    """Drop terms of sums whose number is 1e-13 of the largest one's."""
    if not expression.args:
        return expression
    args = [_without_dust(arg) for arg in expression.args]
    if expression.is_Add:
        sizes = [abs(float(arg.as_coeff_Mul()[0])) for arg in args]
        floor = 1e-13 * max(sizes)
        args = [arg for arg, size in zip(args, sizes, strict=True) if size > floor]
    return expression.func(*args)


def _simplified(expression: Expr) -> Expr:
    """Let sympy try, on short expressions of exact numbers with plain exponents."""
    if sympy.count_ops(expression) > _SHORT or count_numbers(expression):
        return expression
    return sympy.simplify(expression) if _plain_exponents(expression) else expression


def _plain_exponents(expression: Expr) -> bool:
    """Tell whether exponents hold small numbers only.

    sympy takes exp(25/49) for the 25th power of exp(1/49), and writes out polynomials of such
    degrees in all they consist of: that was seen to take hours.
    """
    exponents = [node.exp for node in expression.atoms(sympy.Pow, sympy.exp)]
    numbers = [number for each in exponents for number in each.atoms(sympy.Rational)]
    common = math.lcm(*(int(number.q) for number in numbers))
    return common <= _LARGEST and all(abs(int(number.p)) <= _LARGEST for number in numbers)


def _up_to(most: int, rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a rule that leaves expressions with more than `most` operations alone."""
    return lambda expression: expression if sympy.count_ops(expression) > most else rule(expression)


_RULES: tuple[Callable[[Any], Any], ...] = (
    _without_dust,
    _merged_numbers,
    rewriting.exponentials_of_logarithms,
    rewriting.whole_exponents,
    rewriting.tangent_sums,
    rewriting.angle_sums,
    lambda expression: _merged_numbers(rewriting.half_angles(expression)),
    lambda expression: _merged_numbers(rewriting.half_angle_sizes(expression)),
    rewriting.difference_of_squares,
    _expanded,
    _up_to(_MEDIUM, sympy.powsimp),
    _up_to(_MEDIUM, rewriting.joined_powers),
    rewriting.joined_logarithms,
    rewriting.split_logarithms,
    sympy.factor_terms,
    _up_to(_SHORT, sympy.together),
    _simplified,
)
