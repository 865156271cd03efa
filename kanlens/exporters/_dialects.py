"""Elementary functions and unrolled networks in the syntax of languages."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from kanlens.exporters._exported_model import Description, FunctionTerms, Layer, Splines, refuse
from kanlens.functions._elementary import Array, ElementaryFunction

Pieces = tuple[int, Array]  # an input, and the coefficients (power, out) of a piece, from power 1
_SAME = "exp sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh"


def formula(g: ElementaryFunction, u: sympy.Expr) -> sympy.Expr:
    """Return g(u) in terms of functions that programming languages have."""
    if family := re.fullmatch(r"T(\d+)\(tanh\)", g.name):
        return _chebyshev(int(family[1]), sympy.tanh(u))
    return g.expression(u).replace(
        sympy.sinc, lambda v: sympy.Piecewise((sympy.sin(v) / v, sympy.Abs(v) > 0), (1, True))
    )


def _chebyshev(degree: int, t: sympy.Expr) -> sympy.Expr:
    """Return a Chebyshev polynomial without cancellation."""
    if degree < 2:
        return t if degree else sympy.Integer(1)
    half = _chebyshev(degree // 2, t)
    return 2 * half**2 - 1 if degree % 2 == 0 else 2 * half * _chebyshev(degree // 2 + 1, t) - t


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The names of sympy's functions in a language."""

    name: str
    functions: Mapping[str, str]  # to a name, or to a text with places for arguments
    number: Callable[[float], str] = repr

    def text(self, expression: sympy.Expr) -> str:
        """Write a sympy expression; names of symbols are not changed."""
        return str(_DialectPrinter(self).doprint(expression))


class _DialectPrinter(StrPrinter):  # type: ignore[misc]  # untyped
    """sympy's printer with all digits and the functions of a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self.dialect = dialect

    def _call(self, name: str, *parts: sympy.Expr) -> str:
        if name not in self.dialect.functions:
            expected = f"functions of {self.dialect.name}"
            refuse(expected, name, "Choose another format")
        form, texts = self.dialect.functions[name], [*map(self._print, parts)]
        return form.format(*texts) if "{" in form else f"{form}({', '.join(texts)})"

    def emptyPrinter(self, expr: sympy.Expr) -> str:
        """Refuse an expression that the language lacks."""
        return self._call(type(expr).__name__)

    def _print_Float(self, number: sympy.Float) -> str:
        return self.dialect.number(float(number))

    _print_Integer = _print_Pi = _print_Exp1 = _print_Float

    def _print_Rational(self, number: sympy.Rational) -> str:
        return f"({self._print_Float(number.p)}/{self._print_Float(number.q)})"

    def _print_Symbol(self, symbol: sympy.Symbol) -> str:
        return str(symbol.name)

    def _print_Pow(self, power: sympy.Pow, rational: bool = False) -> str:
        base, exponent = power.args
        if exponent == sympy.Rational(1, 2):
            return self._call("sqrt", base)
        if exponent in (-1, sympy.Rational(-1, 2)):
            below = base if exponent == -1 else sympy.sqrt(base)
            text = self.parenthesize(below, PRECEDENCE["Pow"], strict=False)
            return f"({self._print_Float(1)}/{text})"
        return self._call("Pow", base, exponent)

    def _print_Function(self, function: sympy.Function) -> str:
        return self._call(type(function).__name__, *function.args)

    def _print_Max(self, function: sympy.Max) -> str:
        first, *rest = function.args
        last = rest[0] if len(rest) == 1 else type(function)(*rest, evaluate=False)
        return self._call(type(function).__name__, first, last)

    _print_Min = _print_Max

    def _print_Piecewise(self, pieces: sympy.Piecewise) -> str:
        (value, condition), *rest = pieces.args
        if condition == sympy.true:
            return str(self._print(value))
        return self._call("Piecewise", condition, value, sympy.Piecewise(*rest, evaluate=False))

    def _print_Relational(self, relation: sympy.Rel) -> str:
        return f"{self._print(relation.lhs)} {relation.rel_op} {self._print(relation.rhs)}"


def _double(value: float) -> str:
    """Write a number that SQL reads as a double, not as a decimal."""
    return repr(value) if "e" in repr(value) else f"{value!r}e0"


def _dialect(name: str, same: Callable[[str], str], others: str, **forms: str) -> Dialect:
    """Return a dialect from names equal to sympy's, pairs of names, and templates."""
    calls = {word: same(word) for word in _SAME.split()}
    calls |= dict(pair.split("=") for pair in others.split()) | forms
    number = {"SQL": _double, "Excel": lambda value: repr(value).upper()}.get(name, repr)
    return Dialect(name=name, functions=calls, number=number)


C99 = _dialect(
    "C99",
    str,
    "log=log floor=floor erf=erf Abs=fabs Max=fmax Min=fmin Pow=pow",
    sign="(double)(({0} > 0.0) - ({0} < 0.0))",
    Piecewise="({0} ? {1} : {2})",
)
JAVASCRIPT = _dialect(
    "JavaScript",
    "Math.{}".format,
    "log=Math.log erf=erf Abs=Math.abs sign=Math.sign Max=Math.max Min=Math.min Pow=Math.pow",
    Piecewise="({0} ? {1} : {2})",
)
NUMPY = _dialect(
    "NumPy",
    "np.{}".format,
    "asin=np.arcsin acos=np.arccos atan=np.arctan asinh=np.arcsinh acosh=np.arccosh "
    "atanh=np.arctanh log=np.log erf=erf Abs=np.abs sign=np.sign Max=np.maximum Min=np.minimum "
    "floor=np.floor Pow=np.power Piecewise=np.where",
)
SQL = _dialect(
    "SQL",
    str,
    "log=ln floor=floor Abs=abs sign=sign Pow=power",
    Max="CASE WHEN {0} > {1} THEN {0} ELSE {1} END",
    Min="CASE WHEN {0} < {1} THEN {0} ELSE {1} END",
    Piecewise="CASE WHEN {0} THEN {1} ELSE {2} END",
)
EXCEL = _dialect(
    "Excel",
    str.upper,
    "log=LN erf=ERF Abs=ABS sign=SIGN Pow=POWER",
    exp="EXP(IF({0}<709.0,{0},709.0))",  # beyond, Excel has an error in place of infinity
    Max="IF({0}>{1},{0},{1})",  # its MAX and MIN look through whole ranges
    Min="IF({0}<{1},{0},{1})",
    Piecewise="IF({0},{1},{2})",
)


MAX_CHARACTERS = 1_000_000  # characters of all formulas: SQLite's limit where nobody has changed it


class Unrolled(ABC):
    """A network written as formulas, level by level, for languages without loops."""

    dialect: Dialect

    @abstractmethod
    def define(self, names: Sequence[str], formulas: Sequence[str]) -> list[str]:
        """Add a named column for each formula; return references to the columns."""

    @abstractmethod
    def sums(self, index: int, layer: Layer, inputs: Sequence[str]) -> list[str]:
        """Add the sums of a layer and return the references to them."""

    def outputs(self, description: Description, features: Sequence[str]) -> list[str]:
        """Add the formulas of all levels; return those of the outputs."""
        names = self.level("u", self._scaled(features, *description.scaling[:4]))
        for index, layer in enumerate(description.layers):
            names = self.sums(index, layer, names)
            if any(len(members) > 1 for members in layer.members) or not layer.plain:
                names = self.level(f"h{index}_", self._nodes(names, layer))
        shift, scale = map(np.ndarray.tolist, description.scaling[4:])
        texts = zip(names, scale, shift, strict=True)
        return [f"{name}*{self.number(a)} + {self.number(b)}" for name, a, b in texts]

    def level(self, prefix: str, formulas: Sequence[str]) -> list[str]:
        """Add columns named by a prefix and a number."""
        return self.define([f"{prefix}{k}" for k in range(len(formulas))], formulas)

    def number(self, value: float) -> str:
        """Write a number to the last digit."""
        return self.dialect.number(float(value))

    def _scaled(self, names: Sequence[str], *scaling: Array) -> list[str]:
        columns = zip(names, *map(np.ndarray.tolist, scaling), strict=True)
        return [
            f"({self._held(name, low, high)} - {self.number(shift)})/{self.number(scale)}"
            for name, low, high, shift, scale in columns
        ]

    def _held(self, name: str, low: float, high: float, origin: float = 0.0) -> str:
        """Clip a column and subtract an origin; missing cells stay missing."""
        text = f"({name} - {self.number(origin)})" if origin else name
        for sign, end in ((">=", high), ("<=", low)):
            if np.isfinite(end):
                outside = f"{name} {sign} {self.number(end)}", self.number(end - origin)
                text = self.dialect.functions["Piecewise"].format(*outside, text)
        return text

    def rises(self, names: Sequence[str], splines: Splines) -> tuple[list[str], list[Pieces]]:
        """Return as text how far u is within each piece, and which pieces have a slope."""
        texts, pieces = [], []
        for in_, (name, breaks) in enumerate(zip(names, splines.breaks.tolist(), strict=True)):
            for piece, (start, end) in enumerate(pairwise([-np.inf, *breaks, np.inf])):
                powers = splines.powers[in_, piece, 1:]
                if powers.any():
                    texts.append(self._held(name, start, end, start if piece else end))
                    pieces.append((in_, powers))
        return texts, pieces

    def term(self, names: Sequence[str], terms: FunctionTerms, column: int) -> str:
        """Write a function of an input."""
        u, a, b = sympy.Symbol(names[terms.inputs[column]]), terms.a[column], terms.b[column]
        inner = u if (a, b) == (1, 0) else float(a) * u + float(b)
        return self.dialect.text(formula(terms.g, inner))

    def _nodes(self, names: Sequence[str], layer: Layer) -> list[str]:
        nodes = zip(layer.members, layer.scale, layer.shift, strict=True)
        return [
            f"{'*'.join([*(names[k] for k in members), self.number(scale)])} + {self.number(shift)}"
            for members, scale, shift in nodes
        ]
