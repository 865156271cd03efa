"""Formulas and names as text and in LaTeX."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import sympy

from kanlens.core.function_edge import FunctionEdge
from kanlens.core.functions import FUNCTIONS, ElementaryFunction

_PLACE = "_u_"  # stands for the argument in the text of a function
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau"
_GREEK += " upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega"
_LETTER = rf"[A-Za-z]|{_GREEK.replace(' ', '|')}"
_NAME = re.compile(rf"({_LETTER})(?:_?(\d+)|_([A-Za-z0-9]+))?")  # pi is a number
_ONE = re.compile(r"\w[\w.\[\]()]*")  # a name that stands for itself beside operators
_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "_$%#&{} "},
    "\\": r"\backslash{}",
    "~": r"\sim{}",
    "^": r"\wedge{}",
    "-": r"\mbox{-}",
}


def edge_text(edge: FunctionEdge, name: str, *, digits: int = 4) -> str:
    """Write ``c * g(a * x + b) + d`` as Python and sympy read it, without building an expression.

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


def formula_text(expression: Any) -> str:
    """Return an expression as text, names that could be read as several in brackets.

    Examples
    --------
    >>> formula_text(2 * sympy.Symbol("a-b") * sympy.Symbol("x[0]"))
    '2*(a-b)*x[0]'
    """
    bracketed = {
        symbol: sympy.Symbol(f"({' '.join(symbol.name.split())})")
        for symbol in expression.free_symbols
        if not _ONE.fullmatch(symbol.name)
    }
    return str(expression.xreplace(bracketed))


def latex(expression: Any) -> str:
    r"""Return an expression in LaTeX, its names as `latex_name` sets them.

    Parameters
    ----------
    expression : sympy.Expr

    Returns
    -------
    str

    Examples
    --------
    >>> print(latex(2 * sympy.Symbol("x1") * sympy.Symbol("blood sugar")))
    2 \, \mathrm{blood\ sugar} \, x_{1}
    """
    names = {symbol: latex_name(symbol.name) for symbol in expression.free_symbols}
    words = any(name.startswith(r"\mathrm") for name in names.values())
    return str(sympy.latex(expression, symbol_names=names, mul_symbol=r" \, " if words else None))


def latex_name(name: str) -> str:
    r"""Return a name as LaTeX sets it in mathematics; whatever it holds, it is one symbol.

    Examples
    --------
    >>> print(*map(latex_name, ("x_1", "theta", "T_in", "50% off")))
    x_{1} \theta T_{\mathrm{in}} \mathrm{50\%\ off}
    """
    match = _NAME.fullmatch(name)
    if match is None:
        plain = " ".join(name.split()) or name.replace("\n", " ")
        return rf"\mathrm{{{''.join(_SPECIAL.get(sign, sign) for sign in plain)}}}"
    letter, digits, word = match.groups()
    letter = letter if len(letter) == 1 else rf"\{letter}"
    index = digits or (word and rf"\mathrm{{{word}}}")
    return rf"{letter}_{{{index}}}" if index else letter


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
