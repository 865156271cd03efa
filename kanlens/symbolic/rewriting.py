"""Rules that recognise how a network writes products, powers and ratios, and undo it.

A rule may assume more than holds (that a base is positive, say): `simplification.shorten` keeps a
result only if it is shorter and equal at the sample points.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import combinations
from typing import Any

import sympy

from kanlens.symbolic.composition import Expr

_MOST_SQUARES = 8  # of one sum that are paired
_MOST_LOGS = 100  # operations up to which logarithms are combined
_NEARLY = 1e-12  # relative distance at which an exponent is a whole or half number


def difference_of_squares(expression: Expr) -> Expr:
    """Write ``a u^2 - b v^2`` as a product of sums, which a sum of squares in a network stands for.

    Examples
    --------
    >>> x, y = sympy.symbols("x y", real=True)
    >>> difference_of_squares((x + y) ** 2 - (x - y) ** 2)
    4*x*y
    """
    return expression.replace(lambda node: node.is_Add, _paired)


def _paired(total: Expr) -> Expr:
    """Return the shortest form of a sum in which two squares became a product."""
    squares = [(term, *parts) for term in total.args if (parts := _square(term)) is not None]
    best, least = total, sympy.count_ops(total)
    for (one, a, u), (two, b, v) in combinations(squares[:_MOST_SQUARES], 2):
        if a * b < 0:
            left = sympy.expand(_root(abs(a)) * u + _root(abs(b)) * v)
            right = sympy.expand(_root(abs(a)) * u - _root(abs(b)) * v)
            rest = [term for term in total.args if term not in (one, two)]
            trial = sympy.Add(sympy.sign(a) * sympy.Mul(left, right), *rest)
            if sympy.count_ops(trial) < least:
                best, least = trial, sympy.count_ops(trial)
    return best


def _square(term: Expr) -> tuple[Expr, Expr] | None:
    """Return a and u of a term ``a * u**2`` whose u is no number."""
    factor, rest = term.as_coeff_Mul()
    if rest.is_Pow and rest.exp == 2 and rest.base.free_symbols:
        return factor, rest.base
    return None


def _root(number: Expr) -> Expr:
    return sympy.sqrt(number)


def tangent_sums(expression: Expr) -> Expr:
    """Write ``tanh(atanh(a) + atanh(b))`` as ``(a + b) / (1 + a b)``.

    Examples
    --------
    >>> x, y = sympy.symbols("x y", real=True)
    >>> tangent_sums(sympy.tanh(sympy.atanh(x) + sympy.atanh(y)))
    (x + y)/(x*y + 1)
    """
    return expression.replace(lambda node: isinstance(node, sympy.tanh), _added)


def _added(node: Expr) -> Expr:
    """Return tanh of a sum with every atanh in it taken out by the addition theorem."""
    terms = [_doubled(term) for term in sympy.Add.make_args(sympy.expand(node.args[0]))]
    if not any(found is not None for found in terms):
        return node
    parts: list[Expr] = []
    rest: list[Expr] = []
    for term, found in zip(sympy.Add.make_args(sympy.expand(node.args[0])), terms, strict=True):
        if found is None:
            rest.append(term)
        else:
            parts += found
    if rest:
        parts.append(sympy.tanh(sympy.Add(*rest)))
    return reduce(_tangent_sum, parts)


def _doubled(term: Expr) -> list[Expr] | None:
    """Return the arguments of the atanh in a whole multiple of one, or None."""
    factor, rest = term.as_coeff_Mul()
    if not isinstance(rest, sympy.atanh) or abs(factor) > 3 or factor != round(float(factor)):
        return None
    sign = 1 if factor > 0 else -1
    return [sign * rest.args[0]] * abs(round(float(factor)))


def _tangent_sum(u: Expr, v: Expr) -> Expr:
    ratio = (u + v) / (1 + u * v)
    return ratio if ratio.has(sympy.Float) else sympy.cancel(ratio)


def exponentials_of_logarithms(expression: Expr) -> Expr:
    """Write ``exp(sum of c log(u) + d)`` as ``exp(d)`` times a product of powers.

    Examples
    --------
    >>> x, y = sympy.symbols("x y", real=True)
    >>> both = sympy.exp(2 * (sympy.log(x) - 3 * sympy.log(y)) + 1, evaluate=False)
    >>> exponentials_of_logarithms(both)
    E*x**2/y**6
    """
    return expression.replace(
        lambda node: isinstance(node, sympy.exp) and node.has(sympy.log),
        lambda node: sympy.exp(sympy.expand(node.args[0])),
    )


def split_logarithms(expression: Expr) -> Expr:
    """Write the logarithm of a product as a sum, whatever the signs of the factors."""
    return _on_short(expression, lambda e: sympy.expand_log(e, force=True))


def joined_logarithms(expression: Expr) -> Expr:
    """Write a sum of logarithms as the logarithm of a product, whatever the signs.

    Examples
    --------
    >>> x, y = sympy.symbols("x y", real=True)
    >>> joined_logarithms(2 * sympy.log(x) + sympy.log(y))
    log(x**2*y)
    """
    return _on_short(expression, _joined)


def _joined(expression: Expr) -> Expr:
    """Join logarithms with whole factors, and those with equal factors."""
    return sympy.logcombine(expression.replace(lambda node: node.is_Add, _grouped), force=True)


def _grouped(total: Expr) -> Expr:
    """Return a sum in which the logarithms with one inexact factor are one logarithm."""
    groups: dict[Expr, list[Expr]] = {}
    rest: list[Expr] = []
    for term in total.args:
        factor, inner = term.as_coeff_Mul()
        if factor.is_Float and isinstance(inner, sympy.log):
            groups.setdefault(factor, []).append(inner.args[0])
        else:
            rest.append(term)
    joined = [factor * sympy.log(sympy.Mul(*inner)) for factor, inner in groups.items()]
    return sympy.Add(*joined, *rest)


def joined_powers(expression: Expr) -> Expr:
    """Join powers of one base, of one exponent, and of powers, whatever the signs.

    Examples
    --------
    >>> x, y = sympy.symbols("x y", real=True)
    >>> joined_powers(sympy.sqrt(x) * sympy.sqrt(y))
    sqrt(x*y)
    """
    return sympy.powsimp(sympy.powdenest(whole_exponents(expression), force=True), force=True)


def whole_exponents(expression: Expr) -> Expr:
    """Make exponents exact that are whole or half numbers but for rounding.

    Examples
    --------
    >>> whole_exponents(sympy.Symbol("x") ** 2.0)
    x**2
    """
    return expression.replace(lambda node: node.is_Pow and node.exp.is_Float, _exact_power)


def _exact_power(node: Expr) -> Expr:
    halves = round(2 * float(node.exp))
    near = abs(2 * float(node.exp) - halves) <= _NEARLY * max(1, abs(halves))
    return node.base ** sympy.Rational(halves, 2) if near else node


def _on_short(expression: Expr, rule: Callable[[Any], Any]) -> Expr:
    """Apply a rule to expressions with logarithms that are not too long for it."""
    if not expression.has(sympy.log) or sympy.count_ops(expression) > _MOST_LOGS:
        return expression
    return rule(expression)
