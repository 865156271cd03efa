"""Rewrite rules for products, powers and ratios in sums of functions.

A rule may assume more than holds (that a base is positive, say): `shorten` keeps a
result only if it is shorter and equal at the sample points. Functions after `RULES` may change
values: the caller compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from operator import methodcaller
from typing import Any

import sympy
from sympy.functions.elementary.trigonometric import TrigonometricFunction

from kanlens.symbolic._composition import Expr

_MAX_SQUARES = 8  # of one sum
_MAX_LOG_OPERATIONS = 100  # to combine logarithms
_MAX_ANGLES = 4  # terms of a sum of angles, and largest multiple of one
_MAX_ANGLE_OPERATIONS = 100  # to expand sums of angles
_ROUNDING = 1e-12  # relative error of a whole or half exponent
_COEFFICIENT_EPS = 1e-13  # relative coefficient of a term that is rounding
_MAX_TERMS = 300  # of an expanded expression
_MAX_SIMPLIFIED = 60  # operations for sympy.simplify
_MAX_EXPONENT = 12  # exponent or common denominator for it
_MAX_POWERS = 120  # operations to join powers
_RATIO_TOLERANCE = 1e-7  # relative distance of a ratio from a simple fraction
_DENOMINATORS = (1, 2, 3, 4, 5, 6, 8)
_MAX_THINNER = 40  # most shorter formulas that are tried for one


def _paired(total: Expr) -> Expr:
    """Write ``a u^2 - b v^2`` in a sum as a product of sums."""
    squares = []
    for term in total.args:
        factor, rest = term.as_coeff_Mul()
        if rest.is_Pow and rest.exp == 2 and rest.base.free_symbols:
            squares.append((term, factor, rest.base))
    best, least = total, sympy.count_ops(total)
    for (first, a, u), (second, b, v) in combinations(squares[:_MAX_SQUARES], 2):
        if a * b < 0:
            p, q = sympy.sqrt(abs(a)) * u, sympy.sqrt(abs(b)) * v
            left, right = _multiplied(p + q), _multiplied(p - q)
            others = [term for term in total.args if term not in (first, second)]
            trial = sympy.Add(sympy.sign(a) * sympy.Mul(left, right), *others)
            if sympy.count_ops(trial) < least:
                best, least = trial, sympy.count_ops(trial)
    return best


def _added(node: Expr) -> Expr:
    """Write ``tanh(atanh(a) + atanh(b))`` as ``(a + b) / (1 + a b)``."""
    parts, rest = list[Expr](), list[Expr]()
    for term in sympy.Add.make_args(_multiplied(node.args[0])):
        factor, inner = term.as_coeff_Mul()
        if isinstance(inner, sympy.atanh) and abs(factor) <= 3 and factor == round(float(factor)):
            parts += [sympy.sign(factor) * inner.args[0]] * abs(round(float(factor)))
        else:
            rest.append(term)
    if parts and rest:
        parts.append(sympy.tanh(sympy.Add(*rest)))
    total = parts[0] if parts else node
    for part in parts[1:]:
        ratio = (total + part) / (1 + total * part)
        total = ratio if ratio.has(sympy.Float) else sympy.cancel(ratio)
    return total


def angle_sums(expression: Expr) -> Expr:
    """Expand sines and cosines of sums that contain inverse functions."""
    inverse = (sympy.asin, sympy.acos, sympy.atan)
    if not expression.has(*inverse) or sympy.count_ops(expression) > _MAX_ANGLE_OPERATIONS:
        return expression

    def few_angles(node: Expr) -> bool:  # each of them doubles the terms
        if not isinstance(node, sympy.sin | sympy.cos) or not node.has(*inverse):
            return False
        terms = sympy.Add.make_args(_multiplied(node.args[0]))
        factors = (abs(term.as_coeff_Mul()[0]) for term in terms)
        return len(terms) <= _MAX_ANGLES and all(factor <= _MAX_ANGLES for factor in factors)

    return _multiplied(
        expression.replace(
            few_angles, lambda node: sympy.expand_trig(node.func(_multiplied(node.args[0])))
        )
    )


def reduced_phases(expression: Expr) -> Expr:
    """Reduce phases modulo the period of sine, cosine and tangent."""

    def reduced(wave: Expr) -> Expr:
        phase, rest = wave.args[0].as_coeff_Add()
        period = math.pi if isinstance(wave, sympy.tan) else 2 * math.pi
        turns = math.ceil(float(phase) / period - 0.5)
        return wave.func(rest + sympy.Float(float(phase) - turns * period)) if turns else wave

    waves = (sympy.sin, sympy.cos, sympy.tan)
    return expression.replace(lambda node: isinstance(node, waves), reduced)


def _is_root(node: Expr) -> bool:
    return bool(node.is_Pow and node.exp.is_Rational and node.exp.q == 2 and node.base.is_Add)


def _halved(root: Expr, sign: Callable[[Any], Any] = lambda e: e) -> Expr:
    """Write the square root of 1 -+ cos(u) as a sine or cosine of u / 2."""
    number, wave = root.base.as_coeff_Add()
    factor, cosine = wave.as_coeff_Mul()
    if not isinstance(cosine, sympy.cos) or number <= 0:
        return root
    if abs(abs(factor) - number) > _ROUNDING * number:
        return root
    function = sympy.sin if factor < 0 else sympy.cos
    return (2 * number) ** root.exp * sign(function(cosine.args[0] / 2)) ** (2 * root.exp)


def _joined(expression: Expr) -> Expr:
    """Join a sum of logarithms, unless an exponent would contain a symbol."""
    grouped = expression.replace(lambda node: node.is_Add, _joined_logarithms)
    whole = sympy.logcombine(grouped, force=True)
    return expression if varying_powers(whole) - varying_powers(expression) else whole


def varying_powers(expression: Expr) -> set[Expr]:
    """Return the powers with symbols in their exponents."""
    return {power for power in expression.atoms(sympy.Pow) if power.exp.free_symbols}


def _exact_power(node: Expr) -> Expr:
    """Make an exponent exact if it is a whole or half number up to rounding."""
    halves = round(2 * float(node.exp))
    near = abs(2 * float(node.exp) - halves) <= _ROUNDING * max(1, abs(halves))
    return node.base ** sympy.Rational(halves, 2) if near else node


def _merged(product: Expr) -> Expr:
    """Merge the inexact and irrational factors of a product into one number."""
    numbers = [arg for arg in product.args if not arg.free_symbols]
    others = [arg for arg in product.args if arg.free_symbols]
    if not all(number.is_real for number in numbers):  # a root of a negative one
        return product
    return sympy.Mul(sympy.Float(float(sympy.Mul(*numbers))), *others)


def _expanded(expression: Expr) -> Expr:
    """Multiply out sums and whole powers, and drop terms that are rounding."""
    return without_dust(_multiplied(expression, log=False, power_exp=False, power_base=False))


def _multiplied(expression: Expr, **hints: bool) -> Expr:
    """Expand an expression unless it may have too many terms; one expansion took 24 GB."""
    few = _term_count(expression) <= _MAX_TERMS
    return sympy.expand(expression, **hints) if few else expression


def _term_count(expression: Expr) -> float:
    """Bound the number of terms of any part of an expression after expansion."""
    if not expression.args:
        return 1
    inner = [_term_count(arg) for arg in expression.args]
    if expression.is_Add:
        return sum(inner)
    if expression.is_Mul:
        return math.prod(inner)
    if expression.is_Pow and expression.exp.is_Rational:  # also of 1/u^n and u^(n + 1/2)
        power = max(int(abs(expression.exp)), 1)
        return math.comb(int(min(inner[0], 1e6)) + power - 1, power)
    return max(inner)


def without_dust(expression: Expr, share: float = _COEFFICIENT_EPS) -> Expr:
    """Drop terms of sums whose coefficients are rounding relative to the largest."""
    if not expression.args:
        return expression
    args = [without_dust(arg, share) for arg in expression.args]
    if expression.is_Add:
        sizes = [abs(float(arg.as_coeff_Mul()[0])) for arg in args]
        floor = share * max(sizes)
        args = [arg for arg, size in zip(args, sizes, strict=True) if size > floor]
    return expression.func(*args)


def _simplified(expression: Expr) -> Expr:
    """Simplify with sympy if exponents and angles are simple: exp(25/49) took hours."""
    exponents = [node.exp for node in expression.atoms(sympy.Pow, sympy.exp)]
    numbers = [number for exponent in exponents for number in exponent.atoms(sympy.Rational)]
    common = math.lcm(*(int(number.q) for number in numbers))
    small = max((common, *(abs(int(number.p)) for number in numbers))) <= _MAX_EXPONENT
    for wave in expression.atoms(TrigonometricFunction) if small else ():  # expanded over sums
        angle = _multiplied(sympy.numer(sympy.together(wave.args[0])))
        terms = len(sympy.Add.make_args(angle))
        small &= terms == 1 or (terms == 2 and not angle.has(TrigonometricFunction))
    return sympy.simplify(expression) if small and not expression.has(sympy.Float) else expression


Rule = Callable[[Any], Any]  # from an expression to an equal one, or to itself


# makes a rule that rewrites every match, given a matcher and a function of matches
_everywhere = partial(methodcaller, "replace")


def _up_to(most: int, rule: Rule, *, within: type[sympy.Basic] = sympy.Basic) -> Rule:
    """Restrict a rule to short expressions that contain `within`."""
    return lambda e: rule(e) if e.has(within) and sympy.count_ops(e) <= most else e


_merged_numbers = _everywhere(
    lambda node: node.is_Mul and any(arg.is_Float for arg in node.args), _merged
)
_whole_exponents = _everywhere(lambda node: node.is_Pow and node.exp.is_Float, _exact_power)
_half_angles = _everywhere(_is_root, _halved)
_half_angle_sizes = _everywhere(_is_root, lambda node: _halved(node, sympy.Abs))

RULES: tuple[Rule, ...] = (
    without_dust,
    _merged_numbers,
    _everywhere(  # exp of a sum of logarithms is a product of powers
        lambda node: isinstance(node, sympy.exp) and node.has(sympy.log),
        lambda node: sympy.exp(_multiplied(node.args[0])),
    ),
    _whole_exponents,
    _everywhere(lambda node: isinstance(node, sympy.tanh), _added),
    angle_sums,
    lambda expression: _merged_numbers(_half_angles(expression)),
    lambda expression: _merged_numbers(_half_angle_sizes(expression)),
    _everywhere(lambda node: node.is_Add, _paired),
    _expanded,
    _up_to(_MAX_POWERS, sympy.powsimp),
    _up_to(
        _MAX_POWERS,
        lambda e: sympy.powsimp(sympy.powdenest(_whole_exponents(e), force=True), force=True),
    ),
    _up_to(_MAX_LOG_OPERATIONS, _joined, within=sympy.log),
    _up_to(_MAX_LOG_OPERATIONS, lambda e: sympy.expand_log(e, force=True), within=sympy.log),
    sympy.factor_terms,
    _up_to(_MAX_SIMPLIFIED, sympy.together),
    _up_to(_MAX_SIMPLIFIED, _simplified),
)


def even_ratios(expression: Expr) -> Expr:
    """Factor a common number out of every sum whose coefficients have simple ratios."""
    if not expression.args:
        return expression
    total = expression.func(*(even_ratios(arg) for arg in expression.args))
    if not total.is_Add:
        return total
    pairs = [term.as_coeff_Mul() for term in total.args]
    if not any(number.is_Float for number, _ in pairs):
        return total
    most, best = 1, total
    for divisor, _ in pairs:
        ratios = [_fraction(float(number) / float(divisor)) for number, _ in pairs]
        simple = sum(1 for ratio in ratios if not ratio.is_Float)
        if simple > most:
            terms = (ratio * rest for ratio, (_, rest) in zip(ratios, pairs, strict=True))
            most, best = simple, sympy.Mul(divisor, sympy.Add(*terms), evaluate=False)
    return best


def _fraction(value: float) -> Expr:
    for q in _DENOMINATORS:
        p = round(value * q)
        if p and abs(p) <= 20 and abs(value * q / p - 1) < _RATIO_TOLERANCE:
            return sympy.Rational(p, q)
    return sympy.Float(value)


def joined(expression: Expr) -> Expr:
    """Join square roots that are multiplied, and logarithms that are added."""
    if not expression.args:
        return expression
    node = expression.func(*(joined(arg) for arg in expression.args))
    if node.is_Mul:
        powers = [f for f in node.args if f.is_Pow and f.free_symbols]
        roots = [f for f in powers if f.exp.is_Rational and f.exp.q == 2]
        if len(roots) > 1:
            inside = sympy.Mul(*(f.base ** (2 * f.exp) for f in roots))
            rest = sympy.Mul(*(f for f in node.args if f not in roots))
            return rest * sympy.sqrt(inside)
        if roots and roots[0].exp == sympy.Rational(1, 2) and roots[0].base.is_Add:
            whole = sympy.Mul(*(f for f in node.args if f.is_Symbol))
            inside = sympy.Add(*(term * whole**2 for term in roots[0].base.args))
            return node / roots[0] / whole * sympy.sqrt(inside)
    return _joined_logarithms(node) if node.is_Add else node


def _joined_logarithms(total: Expr) -> Expr:
    """Join logarithms whose factors are equal up to the sign."""
    groups: dict[Expr, list[tuple[Expr, int]]] = {}
    others = []
    for term in total.args:
        logs = [f for f in sympy.Mul.make_args(term) if isinstance(f, sympy.log)]
        if len(logs) != 1 or not logs[0].free_symbols:
            others.append(term)
            continue
        factor = term / logs[0]
        sign = -1 if factor.could_extract_minus_sign() else 1
        groups.setdefault(sign * factor, []).append((logs[0].args[0], sign))
    products = ((f, sympy.Mul(*(u**sign for u, sign in parts))) for f, parts in groups.items())
    return sympy.Add(*others, *(f * sympy.log(inner) for f, inner in products))


def multiplied_in(expression: Expr) -> Expr:
    """Multiply an exact factor into a sum whose coefficients are all inexact."""

    def multiplied(product: Expr) -> Expr:
        number, rest = product.as_coeff_Mul()
        for factor in sympy.Mul.make_args(rest):
            pairs = [term.as_coeff_Mul() for term in factor.args] if factor.is_Add else []
            if number.is_Rational and pairs and all(scale.is_Float for scale, _ in pairs):
                total = sympy.Add(*(number * scale * term for scale, term in pairs))
                return rest / factor * total
        return product

    return expression.replace(lambda node: node.is_Mul, multiplied)


def thinner(expression: Expr) -> list[Expr]:
    """Return the formulas with one part removed that still contain a symbol."""
    shorter = [e for e in dict.fromkeys(_without_one(expression)) if e != expression]
    return [e for e in shorter if e.free_symbols and not e.has(sympy.zoo, sympy.nan)][:_MAX_THINNER]


def _without_one(expression: Expr) -> Iterator[Expr]:
    """Yield the expression with one argument left out, for every argument at any depth."""
    args = expression.args
    if expression.is_Add or expression.is_Mul:
        places = (k for k, arg in enumerate(args) if arg != -1)
        yield from (expression.func(*args[:k], *args[k + 1 :]) for k in places)
    elif isinstance(expression, (sympy.Abs, sympy.Max)):  # its sign may never change
        yield from (arg for arg in args if arg.free_symbols)
    elif expression.is_Function:
        yield sympy.Integer(1)  # it may hardly vary
    for k, arg in enumerate(args):
        for shorter in _without_one(arg):
            yield expression.func(*args[:k], shorter, *args[k + 1 :])
