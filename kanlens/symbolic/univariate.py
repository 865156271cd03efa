"""Write the parts of a formula that hold one feature as one function of it.

A network may say ``x^2`` by a function of a function, where a node has a single input. Such a part
is a curve like that of an edge: it is compared with the library and becomes the function with
which the whole formula, refitted, is closest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import sympy
import torch

from kanlens.functions.catalog import FUNCTIONS
from kanlens.symbolic.composition import Array, Expr, evaluator
from kanlens.symbolic.edge_fitting import EdgeSamples, fit_edges
from kanlens.symbolic.library import Family
from kanlens.symbolic.selection import rank_candidates
from kanlens.symbolic.simplification import complexity, count_numbers

_POINTS = 64  # of a curve
_SHORTEST = 8  # nodes of a part that is tried; one function of a feature has so many
_INDEPENDENT = 20.0  # values of a curve
_CLOSE = 1e-3  # part of a curve that a function may leave
_TRIED = 3  # functions for a part: the closest ones, and the closest simple ones
_FEW = 3  # numbers in a simple one
_MOST_PARTS = 6


def with_shorter_parts(
    expression: Expr, symbols: Sequence[Expr], x: Array, families: Sequence[Family]
) -> Iterator[Expr]:
    """Yield shorter expressions in which one part that holds one feature is one function.

    Parameters
    ----------
    expression : Expr
        One output.
    symbols : sequence of Symbol
        One per column of `x`.
    x : ndarray, shape (batch, in)
        The ranges of the features.
    families : sequence of Family
        What parts are compared with.

    Yields
    ------
    Expr
        With ``c * g(a * s + b) + d`` close to the part on the range of its feature s; the
        longest part first, and for each the best functions.

    Examples
    --------
    >>> from kanlens.symbolic.library import library
    >>> s, t = sympy.symbols("s t", real=True)
    >>> long = 1.2 * sympy.log(1.1 * sympy.exp(2.1 * sympy.log(s + 0.1) + 0.5) + 0.3) + t
    >>> x = np.random.default_rng(0).uniform(1.0, 2.0, (50, 2))
    >>> next(with_shorter_parts(long, (s, t), x, library())).has(sympy.exp)
    False
    """
    for node, part in _parts(expression)[:_MOST_PARTS]:
        symbol = next(iter(part.free_symbols))
        column = x[:, list(symbols).index(symbol)]
        rest = [] if node is part else [arg for arg in node.args if arg.free_symbols != {symbol}]
        for function in _functions(part, symbol, column, families):
            shorter = node.func(function, *rest) if rest else function
            trial = expression.xreplace({node: shorter})
            if _size(trial) < _size(expression):
                yield trial


def _size(expression: Expr) -> tuple[int, int]:
    return count_numbers(expression), complexity(expression)


def _parts(expression: Expr) -> list[tuple[Expr, Expr]]:
    """Return the largest parts that hold one feature with the nodes they lie in, longest first."""
    found: list[tuple[Expr, Expr]] = []
    stack = [expression]
    while stack:
        node = stack.pop()
        if len(node.free_symbols) == 1:
            found.append((node, node))
            continue
        groups: dict[Expr, list[Expr]] = {}
        for arg in node.args:
            if len(arg.free_symbols) == 1 and (node.is_Add or node.is_Mul):
                groups.setdefault(next(iter(arg.free_symbols)), []).append(arg)
            elif arg.free_symbols:
                stack.append(arg)
        found += [(node, node.func(*args)) for args in groups.values()]
    long = [(node, part) for node, part in found if complexity(part) >= _SHORTEST]
    return sorted(long, key=lambda pair: -complexity(pair[1]))


def _functions(
    part: Expr, symbol: Expr, column: Array, families: Sequence[Family]
) -> Iterator[Expr]:
    """Yield the functions of the library that are closest to a part."""
    low, high = float(column.min()), float(column.max())
    x = np.linspace(low, high, _POINTS)
    y = evaluator((part,), (symbol,))(x[:, None])[:, 0]
    if not np.isfinite(y).all() or high <= low:
        return
    samples = EdgeSamples(
        x=torch.from_numpy(x)[None],
        y=torch.from_numpy(y)[None],
        low=torch.tensor([low]).double(),
        high=torch.tensor([high]).double(),
        uniform=_POINTS,
    )
    fits = fit_edges(samples, families)
    ranked = rank_candidates(fits, _INDEPENDENT, kept=len(families))[0]
    close = [c for c in ranked if 1 - c.r2 <= _CLOSE and c.function != "constant"]
    few = {family.name for family in families if family.parameters <= _FEW}
    simple = [candidate for candidate in close if candidate.function in few]
    for candidate in dict.fromkeys((*close[:_TRIED], *simple[:_TRIED])):
        a, b, c, d = (_number(number) for number in candidate.parameters)
        inner = symbol * a + b
        yield c * FUNCTIONS[candidate.function].expression(inner) + d


def _number(value: float) -> Expr:
    """Return a number; those that a family leaves no choice of are exact."""
    return sympy.Integer(int(value)) if value in (-1.0, 0.0, 1.0) else sympy.Float(value)
