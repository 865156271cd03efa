"""Formulas that are a little shorter than a given one: a number, a term or a factor is left out."""

from __future__ import annotations

from collections.abc import Iterator

import sympy

from kanlens.symbolic.composition import Expr

_MOST = 40  # shorter formulas of one


def thinner(expression: Expr) -> list[Expr]:
    """Return the formulas that leave out one part of a formula.

    Parts are the terms of sums, the factors of products, functions whose argument may do as
    well, and functions that 1 may stand for.

    Parameters
    ----------
    expression : Expr

    Returns
    -------
    list of Expr
        Those that still hold a symbol, without repeats.

    Examples
    --------
    >>> x, y = sympy.symbols("x y", real=True)
    >>> x / y in thinner(x / (y + 0.01))
    True
    """
    found = dict.fromkeys(_without_one(expression))
    found.pop(expression, None)
    return [e for e in found if e.free_symbols and not e.has(sympy.zoo, sympy.nan)][:_MOST]


def _without_one(expression: Expr) -> Iterator[Expr]:
    """Yield an expression with one part less, everywhere in it."""
    if not expression.args:
        return
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
