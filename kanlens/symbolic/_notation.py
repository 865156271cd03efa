"""Formulas and names as text that can be read back, and in LaTeX.

A name that sympy would not read as a symbol is written in backticks: `E`, `blood sugar`.
"""

from __future__ import annotations

import builtins
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from keyword import iskeyword
from types import BuiltinFunctionType
from typing import Any, cast
from unicodedata import normalize

import sympy
from sympy.printing.str import StrPrinter

from kanlens.errors import DataError
from kanlens.functions._elementary import ElementaryFunction
from kanlens.functions._sums import ScaledFunction
from kanlens.model._edge import Edge

_PLACE = "_u_"  # placeholder of a function's argument
_IN_PLACE = re.compile(rf"(\({_PLACE}\))|{_PLACE}")
_GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau"
_GREEK += " upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega"
_LETTER = rf"[A-Za-z]|{_GREEK.replace(' ', '|')}"
_NAME = re.compile(rf"({_LETTER})(?:_?(\d+)|_([A-Za-z0-9]+))?")  # pi is a number
_SPLINE = re.compile(r"f(_\d+){3}")  # name of a spline of a formula
_QUOTED = re.compile(r"`((?:[^`\\]|\\.)*)`")
_ESCAPE = re.compile(r"\\(?:([`\\])|[nrt]|x..|u.{4}|U.{8})")
_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "_$%#&{} "},
    "\\": r"\backslash{}",
    "~": r"\sim{}",
    "^": r"\wedge{}",
    "-": r"\mbox{-}",
}
_MAX_WIDTH = 90  # characters of an equation in a table


def edge_text(edge: Edge, name: str, *, digits: int = 4) -> str:
    """Return an edge that is one function as text for sympy, with variable `name`."""
    name, function = written(name), cast("ScaledFunction", edge.single)
    g, c, d = function.g, function.c, function.d
    a = function.a / edge.input_scale
    b = function.b - function.a * edge.input_shift / edge.input_scale
    if g.name == "constant":
        return f"{d:.{digits}g}"
    if g.name == "x":
        return _affine(c * a, name, c * b + d, digits)
    text, is_sum = _text(g)
    inner = _affine(a, name, b, digits)
    alone = inner if inner == name else f"({inner})"
    text = _IN_PLACE.sub(lambda match: f"({inner})" if match[1] else alone, text)
    return _affine(c, f"({text})" if is_sum else text, d, digits)


def written(name: str) -> str:
    """Return a name, in backticks if it would not be read as a symbol."""
    word = name.isidentifier() and name.replace("_", "a").isalnum()
    taken = name in _taken() or iskeyword(name) or _SPLINE.fullmatch(name)
    if word and name == normalize("NFKC", name) and not taken:
        return name
    return f"`{''.join(map(_escaped, name))}`"


def legend(names: Iterable[str]) -> str:
    """Return a line with the names in backticks, or empty text."""
    quoted = [text for text in map(written, names) if text.startswith("`")]
    return f"Names in backticks are columns: {', '.join(quoted)}." if quoted else ""


def formula_text(expression: sympy.Expr, *, exact: bool = False) -> str:
    """Return an expression as text that `parse_formula` reads back.

    Parameters
    ----------
    expression : sympy.Expr
    exact : bool
        Whether numbers are written to the last digit.

    Examples
    --------
    >>> formula_text(2 * sympy.Symbol("a-b") * sympy.Symbol("x[0]"))
    '2*`a-b`*`x[0]`'
    """
    return str(_Printer({"full": exact}).doprint(expression))


def parse_formula(text: str, functions: Mapping[str, Any] | None = None) -> Any:
    """Read the text of a formula, with names in backticks.

    Like `sympy.sympify` it runs the text as code: do not pass untrusted text.

    Parameters
    ----------
    text : str
        As `formula_text` writes it.
    functions : mapping of str, optional
        Functions by name that sympy does not have, such as the splines of a formula.

    Returns
    -------
    sympy.Expr

    Raises
    ------
    DataError
        If the text is not a formula.

    Examples
    --------
    >>> formula = parse_formula("exp(`E`) + sin(pi*`pi`)")
    >>> sorted(symbol.name for symbol in formula.free_symbols)
    ['E', 'pi']
    """
    start = "_"
    while start in text:
        start += "_"
    meanings: dict[str, Any] = dict(functions or {})

    def unescaped(match: re.Match[str]) -> str:
        return match[1] or match[0].encode("ascii").decode("unicode_escape")

    def placed(match: re.Match[str]) -> str:
        place = f"{start}{len(meanings)}"
        meanings[place] = sympy.Symbol(_ESCAPE.sub(unescaped, match[1]))
        return place

    try:
        return sympy.sympify(_QUOTED.sub(placed, text), locals=meanings)
    except (sympy.SympifyError, TypeError, AttributeError) as error:
        advice = "Pass the result of formula_text"
        raise DataError("parse_formula", "a formula", repr(text), advice) from error


class _Printer(StrPrinter):  # type: ignore[misc]  # untyped
    """sympy's text printer, with names as returned by `written`."""

    _default_settings = StrPrinter._default_settings | {"full": False}

    def _print_Symbol(self, symbol: sympy.Symbol) -> str:
        return written(symbol.name)

    def _print_Float(self, number: sympy.Float) -> str:
        if self._settings["full"] and number == float(number):
            return repr(float(number))
        return str(super()._print_Float(number))


@lru_cache(maxsize=1)
def _taken() -> frozenset[str]:
    """Return the words that sympy or a person would not read as a symbol."""
    builtin = {k for k, v in vars(builtins).items() if isinstance(v, BuiltinFunctionType)}
    return frozenset({*sympy.__all__, *builtin, "max", "min", "e"})


def _escaped(sign: str) -> str:
    if sign in "`\\":
        return f"\\{sign}"
    return sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")


def latex(expression: sympy.Expr) -> str:
    """Return an expression in LaTeX with names from `latex_name`."""
    names = {symbol: latex_name(symbol.name) for symbol in expression.free_symbols}
    counts = Counter(names.values())
    names |= {s: _upright(written(s.name)) for s, text in names.items() if counts[text] > 1}
    words = any(name.startswith(r"\mathrm") for name in names.values())
    return str(sympy.latex(expression, symbol_names=names, mul_symbol=r" \, " if words else None))


def latex_name(name: str) -> str:
    """Return a name as one symbol of LaTeX."""
    match = _NAME.fullmatch(name)
    if match is None or name == "e":  # not the number
        return _upright(" ".join(name.split()) or name.replace("\n", " "))
    letter, digits, word = match.groups()
    letter = letter if len(letter) == 1 else rf"\{letter}"
    index = digits or (word and rf"\mathrm{{{word}}}")
    return rf"{letter}_{{{index}}}" if index else letter


def _upright(text: str) -> str:
    return rf"\mathrm{{{''.join(_SPECIAL.get(sign, sign) for sign in text)}}}"


def _affine(factor: float, text: str, constant: float, digits: int) -> str:
    """Return factor * text + constant without ones and zeros."""
    scale, shift = f"{factor:.{digits}g}", f"{abs(constant):.{digits}g}"
    if float(scale) == 0:
        return f"{constant:.{digits}g}"
    product = f"{scale}/{text[2:]}" if text.startswith("1/") else f"{scale}*{text}"
    if scale in ("1", "-1"):
        product = f"{scale.removesuffix('1')}{text}"
    return product if float(shift) == 0 else f"{product} {'-' if constant < 0 else '+'} {shift}"


@lru_cache(maxsize=256)
def _text(function: ElementaryFunction) -> tuple[str, bool]:
    """Return a function's text, and whether it is a sum."""
    expression = function.expression(sympy.Symbol(_PLACE))
    return str(expression), bool(expression.is_Add or expression.could_extract_minus_sign())


def text_table(outputs: Iterable[tuple[str, int, Mapping[int, Mapping[str, Any]]]]) -> list[str]:
    """Return the rows of every output as lines of text, with the picked row marked."""
    table = [("", "", "complexity", "loss", "score", "equation")]
    for name, chosen, rows in outputs:
        label = written(name)
        for index, row in rows.items():
            mark, label = (">>>>" if index == chosen else label), ""
            sizes = (str(row["complexity"]), f"{row['loss']:.3g}", f"{row['score']:.3g}")
            text = row["equation"]
            short = text if len(text) <= _MAX_WIDTH else f"{text[: _MAX_WIDTH - 3]}..."
            table.append((mark, str(index), *sizes, short))
    widths = [max(len(cells[k]) for cells in table) for k in range(6)]
    return [
        "  ".join((first.ljust(widths[0]), *map(str.rjust, middle, widths[1:-1]), last)).rstrip()
        for first, *middle, last in table
    ]


def latex_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows, with equations in LaTeX, as a LaTeX table for booktabs."""
    align = "".join("l" if c in ("output", "stage", "equation") else "r" for c in columns)
    lines = [rf"\begin{{tabular}}{{@{{}}{align}@{{}}}}", r"\toprule"]
    lines += [" & ".join(c.capitalize() for c in columns) + r" \\", r"\midrule"]
    lines += [" & ".join(_cell(c, row[c]) for c in columns) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _cell(column: str, value: Any) -> str:
    if column in ("equation", "output"):
        return f"${latex_name(value) if column == 'output' else value}$"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
