"""Rules that recognise how a network writes products, powers and ratios, and undo it.

A rule may assume more than holds (that a base is positive, say): `simplification.shorten` keeps a
result only if it is shorter and equal at the sample points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from itertools import combinations
from typing import Any

import sympy

from kanlens.symbolic.composition import Expr

_MOST_SQUARES = 8  # of one sum that are paired
_MOST_LOGS = 100  # operations up to which logarithms are combined
_MOST_TERMS = 4  # of a sum of angles, and largest multiple of one
_MOST_ANGLES = 100  # operations up to which sums of angles are taken apart
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


def angle_sums(expression: Expr) -> Expr:
    """Write the sine or cosine of a sum with an arcsine, arccosine or arctangent without it.

    Examples
    --------
    >>> x, y = sympy.symbols("x y", real=True)
    >>> a, b = sympy.asin(x), sympy.asin(y)
    >>> sympy.expand(angle_sums(sympy.cos(a - b) - sympy.cos(a + b)))
    2*x*y
    """
    inverse = (sympy.asin, sympy.acos, sympy.atan)
    if not expression.has(*inverse) or sympy.count_ops(expression) > _MOST_ANGLES:
        return expression
    taken_apart = expression.replace(
        lambda node: (
            isinstance(node, sympy.sin | sympy.cos)
            and node.has(*inverse)
            and _few_angles(node.args[0])
        ),
        lambda node: sympy.expand_trig(node.func(sympy.expand(node.args[0]))),
    )
    return sympy.expand(taken_apart)


def _few_angles(total: Expr) -> bool:
    """Say whether the sine of a sum has few terms: each angle in it doubles them."""
    terms = sympy.Add.make_args(sympy.expand(total))
    return len(terms) <= _MOST_TERMS and all(abs(t.as_coeff_Mul()[0]) <= _MOST_TERMS for t in terms)


def reduced_phases(expression: Expr) -> Expr:
    """Take whole turns off the phases of sines and cosines, and half turns off those of tangents.

    Examples
    --------
    >>> x = sympy.Symbol("x", real=True)
    >>> reduced_phases(sympy.sin(x + 7.0) + sympy.tan(x - 4))
    sin(x + 0.716814692820414) + tan(x - 0.858407346410207)
    """
    waves = (sympy.sin, sympy.cos, sympy.tan)
    return expression.replace(lambda node: isinstance(node, waves), _turned_back)


def _turned_back(wave: Expr) -> Expr:
    phase, rest = wave.args[0].as_coeff_Add()
    period = math.pi if isinstance(wave, sympy.tan) else 2 * math.pi
    turns = math.ceil(float(phase) / period - 0.5)
    return wave.func(rest + sympy.Float(float(phase) - turns * period)) if turns else wave


def half_angles(expression: Expr) -> Expr:
    """Write the root of ``1 - cos(u)`` as a sine, and that of ``1 + cos(u)`` as a cosine.

    Examples
    --------
    >>> x = sympy.Symbol("x", real=True)
    >>> half_angles(sympy.sqrt(3 - 3 * sympy.cos(4 * x)))
    sqrt(6)*sin(2*x)
    """
    return expression.replace(_is_root, _halved)


def half_angle_sizes(expression: Expr) -> Expr:
    """Do what `half_angles` does where sines and cosines change their sign.

    Examples
    --------
    >>> half_angle_sizes(1 / sympy.sqrt(1 + sympy.cos(sympy.Symbol("x", real=True))))
    sqrt(2)/(2*Abs(cos(x/2)))
    """
    return expression.replace(_is_root, lambda node: _halved(node, sympy.Abs))


def _is_root(node: Expr) -> bool:
    return bool(node.is_Pow and node.exp.is_Rational and node.exp.q == 2 and node.base.is_Add)


def _halved(root: Expr, sign: Callable[[Any], Any] = lambda e: e) -> Expr:
    """Return a root without its cosine, or as it is."""
    number, wave = root.base.as_coeff_Add()
    factor, cosine = wave.as_coeff_Mul()
    if not isinstance(cosine, sympy.cos) or number <= 0:
        return root
    if abs(abs(factor) - number) > _NEARLY * number:
        return root
    function = sympy.sin if factor < 0 else sympy.cos
    return (2 * number) ** root.exp * sign(function(cosine.args[0] / 2)) ** (2 * root.exp)


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
    """Join logarithms with whole factors, and those with equal factors.

    A logarithm times a symbol stays that: ``x*log(x)`` is not made ``log(x**x)``.
    """
    found = sympy.logcombine(expression.replace(lambda node: node.is_Add, _grouped), force=True)
    return expression if _varying_powers(found) - _varying_powers(expression) else found


def _varying_powers(expression: Expr) -> set[Expr]:
    """Return the powers with symbols in their exponents."""
    return {power for power in expression.atoms(sympy.Pow) if power.exp.free_symbols}


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
