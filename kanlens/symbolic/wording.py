"""An edge as a line of text, without building an expression: tables have hundreds of them."""

from __future__ import annotations

import re
from functools import lru_cache

import sympy

from kanlens.core.function_edge import FunctionEdge
from kanlens.core.functions import FUNCTIONS, ElementaryFunction

_PLACE = "_u_"  # stands for the argument in the text of a function


def edge_text(edge: FunctionEdge, name: str, *, digits: int = 4) -> str:
    """Write ``c * g(a * x + b) + d`` as Python and sympy read it.

    Parameters
    ----------
    edge : FunctionEdge
        What to write, in the units of its input.
    name : str
        What x is called.
    digits : int
        Significant digits of its numbers.

    Returns
    -------
    str

    Examples
    --------
    >>> edge_text(FunctionEdge(function="x^2", a=1.0, b=-0.5, c=-2.0, d=1 / 3), "height")
    '-2*(height - 0.5)**2 + 0.3333'
    """
    a, b = edge.a / edge.input_scale, edge.b - edge.a * edge.input_shift / edge.input_scale
    if edge.function == "constant":
        return _number(edge.d, digits)
    if edge.function == "x":
        return _affine(edge.c * a, name, edge.c * b + edge.d, digits)
    text = _inserted(*_text(FUNCTIONS[edge.function]), _affine(a, name, b, digits), name)
    return _affine(edge.c, text, edge.d, digits)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}"


def _affine(factor: float, text: str, constant: float, digits: int) -> str:
    """Write factor * text + constant without ones and zeros."""
    scale, shift = _number(factor, digits), _number(abs(constant), digits)
    if scale in ("1", "-1"):
        product = f"{scale.removesuffix('1')}{text}"
    else:
        product = f"{scale}/{text[2:]}" if text.startswith("1/") else f"{scale}*{text}"
    if float(scale) == 0:
        return _number(constant, digits)
    return product if float(shift) == 0 else f"{product} {'-' if constant < 0 else '+'} {shift}"


@lru_cache(maxsize=256)
def _text(function: ElementaryFunction) -> tuple[str, bool]:
    """Return a function's text, and whether it is a sum."""
    expression = function.expression(sympy.Symbol(_PLACE))
    return str(expression), bool(expression.is_Add or expression.could_extract_minus_sign())


def _inserted(text: str, is_sum: bool, inner: str, name: str) -> str:
    """Put the argument into a function's text, in brackets where it needs them."""
    if inner != name:
        text = text.replace(f"({_PLACE})", f"({inner})")
        inner = f"({inner})"
    elif not re.fullmatch(r"\w+", name):
        inner = f"({inner})"
    text = text.replace(_PLACE, inner)
    return f"({text})" if is_sum else text
