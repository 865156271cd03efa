"""Alternative forms of a formula: common factors, joined roots, a term left out.

Unlike the rules of `rewriting`, some of them change values: a number to a near fraction, a term
or a function that hardly matters. Who asks for one judges it.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy

from kanlens.symbolic.composition import Expr

_CLOSE = 1e-7  # relative distance of a ratio from a simple fraction
_NEGLIGIBLE = 1e-14  # of the largest number of a sum
_DENOMINATORS = (1, 2, 3, 4, 5, 6, 8)
_MOST = 40  # shorter formulas of one


def even_ratios(expression: Expr) -> Expr:
    """Pull a common number out of every sum whose numbers have simple ratios."""
    if not expression.args:
        return expression
    made = expression.func(*(even_ratios(arg) for arg in expression.args))
    if not made.is_Add:
        return made
    pairs = [term.as_coeff_Mul() for term in made.args]
    if not any(number.is_Float for number, _ in pairs):
        return made
    best = (1, made)
    for divisor, _ in pairs:
        ratios = [_fraction(float(number) / float(divisor)) for number, _ in pairs]
        simple = sum(1 for ratio in ratios if not ratio.is_Float)
        if simple > best[0]:
            terms = (ratio * rest for ratio, (_, rest) in zip(ratios, pairs, strict=True))
            best = (simple, sympy.Mul(divisor, sympy.Add(*terms), evaluate=False))
    return best[1]


def _fraction(value: float) -> Expr:
    for q in _DENOMINATORS:
        p = round(value * q)
        if p and abs(p) <= 20 and abs(value * q / p - 1) < _CLOSE:
            return sympy.Rational(p, q)
    return sympy.Float(value)


def without_negligible_terms(expression: Expr) -> Expr:
    """Leave out the terms of every sum whose number is rounding beside the largest one's."""
    if not expression.args:
        return expression
    made = expression.func(*(without_negligible_terms(arg) for arg in expression.args))
    if not made.is_Add:
        return made
    sizes = [abs(float(term.as_coeff_Mul()[0])) for term in made.args]
    least = _NEGLIGIBLE * max(sizes)
    return sympy.Add(*(term for term, n in zip(made.args, sizes, strict=True) if n >= least))


def joined(expression: Expr) -> Expr:
    """Put the square roots of a product, and the logarithms of a sum, together as one.

    The result is defined wherever the parts are, and where two of them have the wrong sign too.
    """
    if not expression.args:
        return expression
    made = expression.func(*(joined(arg) for arg in expression.args))
    if made.is_Mul:
        roots = [f for f in made.args if f.is_Pow and f.exp.is_Rational and f.exp.q == 2]
        roots = [f for f in roots if f.free_symbols]
        if len(roots) > 1:
            inside = sympy.Mul(*(f.base ** (2 * f.exp) for f in roots))
            rest = sympy.Mul(*(f for f in made.args if f not in roots))
            return rest * sympy.sqrt(inside)
    return _joined_logarithms(made) if made.is_Add else made


def _joined_logarithms(total: Expr) -> Expr:
    """Put logarithms whose factors differ in sign at most together."""
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
    for factor, parts in groups.items():
        others.append(factor * sympy.log(sympy.Mul(*(u**sign for u, sign in parts))))
    return sympy.Add(*others)


def multiplied_in(expression: Expr) -> Expr:
    """Multiply sums of inexact multiples by the exact number before them."""
    return expression.replace(lambda node: node.is_Mul, _multiplied)


def _multiplied(product: Expr) -> Expr:
    number, rest = product.as_coeff_Mul()
    for factor in sympy.Mul.make_args(rest):
        pairs = [term.as_coeff_Mul() for term in factor.args] if factor.is_Add else []
        if number.is_Rational and pairs and all(each.is_Float for each, _ in pairs):
            total = sympy.Add(*(number * each * term for each, term in pairs))
            return rest / factor * total
    return product


def thinner(expression: Expr) -> list[Expr]:
    """Return the formulas that leave out one part of a formula and still hold a symbol.

    Parts are the terms of sums, the factors of products, functions whose argument may do as
    well, and functions that 1 may stand for.
    """
    found = dict.fromkeys(_without_one(expression))
    found.pop(expression, None)
    return [e for e in found if e.free_symbols and not e.has(sympy.zoo, sympy.nan)][:_MOST]


def _without_one(expression: Expr) -> Iterator[Expr]:
    """Yield an expression with one part less, everywhere in it."""
    args = expression.args
    if expression.is_Add or expression.is_Mul:
        for k in range(len(args)):
            if args[k] != -1:
                yield expression.func(*args[:k], *args[k + 1 :])
    elif isinstance(expression, sympy.Abs):
        yield args[0]
    elif expression.is_Function:
        yield sympy.Integer(1)  # it may hardly vary
    for k, arg in enumerate(args):
        for less in _without_one(arg):
            yield expression.func(*args[:k], less, *args[k + 1 :])
