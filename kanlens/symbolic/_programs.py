"""Formulas as steps of NumPy, which compile faster than by lambdify."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import sympy

Expr = Any  # sympy is untyped
Function = Callable[..., Any]

_INVERTIBLE = ("sin", "cos", "tan", "sinh", "cosh", "tanh")
_ALIKE = ("exp", "log", "sign", *_INVERTIBLE)  # called the same by both
_FUNCTIONS: dict[Any, Function] = {
    **{getattr(sympy, name): getattr(np, name) for name in _ALIKE},
    **{getattr(sympy, f"a{name}"): getattr(np, f"arc{name}") for name in _INVERTIBLE},
    sympy.Abs: np.abs,
}
_FOLDED: dict[Any, Function] = {
    sympy.Add: np.add,
    sympy.Mul: np.multiply,
    sympy.Max: np.maximum,
    sympy.Min: np.minimum,
}
_POWERS: dict[Any, Function] = {
    sympy.Integer(2): np.square,
    sympy.Rational(1, 2): np.sqrt,
    sympy.Integer(-1): np.reciprocal,
}


class Program:
    """Expressions as a list of steps, with common parts evaluated once.

    Raises NotImplementedError if a part has no equivalent in NumPy.

    Examples
    --------
    >>> a, b = sympy.symbols("a b")
    >>> [float(value) for value in Program([a**2 / b, a + 1], [a, b])(3.0, 2.0)]
    [4.5, 4.0]
    """

    def __init__(self, expressions: Sequence[Expr], symbols: Sequence[Expr]) -> None:
        self._names = {symbol.name: k for k, symbol in enumerate(symbols)}
        self._count, self._places = len(symbols), dict[Expr, int]()
        self._calls: list[tuple[Function, tuple[int, ...]]] = []
        self._outputs = [self._place(expression) for expression in expressions]
        last = {k: n for n, (_, inputs) in enumerate(self._calls) for k in inputs}
        unused: list[list[int]] = [[] for _ in self._calls]
        for k in last.keys() - set(self._outputs):
            unused[last[k]].append(k)
        self._steps = [(*call, done) for call, done in zip(self._calls, unused, strict=True)]

    def __call__(self, *columns: Any) -> list[Any]:
        """Return the values; intermediate ones are freed early."""
        values = [1.0 * column for column in columns]  # integers have integer reciprocals
        for function, inputs, unused in self._steps:
            values.append(function(*[values[k] for k in inputs]))
            for k in unused:
                values[k] = None
        return [values[k] for k in self._outputs]

    def _place(self, node: Expr) -> int:
        """Add the steps of an expression; return the index of its value."""
        if node.is_Symbol:
            return self._names[node.name]
        if node not in self._places:
            self._places[node] = self._new_place(node)
        return self._places[node]

    def _new_place(self, node: Expr) -> int:
        if not node.args:
            if not getattr(node, "is_extended_real", False):
                raise NotImplementedError(str(node))
            return self._step(partial(np.float64, float(node)))
        if node.is_Pow:
            return self._power(*node.args)
        first, *others = (self._place(arg) for arg in node.args)
        kind = type(node)
        if kind in _FOLDED:
            return reduce(partial(self._step, _FOLDED[kind]), others, first)
        function = _FUNCTIONS.get(kind) or getattr(kind, "_imp_", None)
        if function is None:
            raise NotImplementedError(kind.__name__)
        return self._step(function, first, *others)

    def _power(self, base: Expr, exponent: Expr) -> int:
        if base.is_number and not exponent.is_integer and base.is_negative:
            raise NotImplementedError("a complex number")
        place = self._place(base)
        if exponent in _POWERS:
            return self._step(_POWERS[exponent], place)
        if -exponent in _POWERS:
            return self._step(np.reciprocal, self._step(_POWERS[-exponent], place))
        return self._step(np.power, place, self._place(exponent))

    def _step(self, function: Function, *inputs: int) -> int:
        self._calls.append((function, inputs))
        return self._count + len(self._calls) - 1
