"""Elementary functions, as sympy knows them, in the syntax of other languages.

For those that have no loops, formulas without: one text for every node.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from kanlens.exporters.subject import Description, Layer, Splines, Terms, refuse
from kanlens.functions.elementary import Array, ElementaryFunction

_SAME = "exp sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh"


def formula(g: ElementaryFunction, u: Any) -> Any:
    """Return g(u) in functions that languages have, and in numbers of its own size."""
    if family := re.fullmatch(r"T(\d+)\(tanh\)", g.name):
        return _chebyshev(int(family[1]), sympy.tanh(u))
    return g.expression(u).replace(
        sympy.sinc, lambda v: sympy.Piecewise((sympy.sin(v) / v, sympy.Abs(v) > 0), (1, True))
    )


def _chebyshev(degree: int, t: Any) -> Any:
    """Return a Chebyshev polynomial by halving its degree: powers of t would cancel."""
    if degree < 2:
        return t if degree else sympy.Integer(1)
    half = _chebyshev(degree // 2, t)
    return 2 * half**2 - 1 if degree % 2 == 0 else 2 * half * _chebyshev(degree // 2 + 1, t) - t


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What a language calls sympy's functions, ``Pow`` among them."""

    name: str
    functions: Mapping[str, str]  # to a name, or to a text with places for arguments
    number: Callable[[float], str] = repr

    def text(self, expression: Any) -> str:
        """Write a sympy expression; the names of its symbols stand as they are.

        Examples
        --------
        >>> SQL.text(sympy.exp(-(sympy.Symbol("u") ** 2)) / 2)
        'exp(-power(u, 2.0e0))/2.0e0'
        """
        return str(_Printer(self).doprint(expression))


class _Printer(StrPrinter):  # type: ignore[misc]  # untyped
    """sympy's printer of text, with numbers to the last digit and the functions of a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self.dialect = dialect

    def _call(self, name: str, *parts: Any) -> str:
        if name not in self.dialect.functions:
            expected = f"functions that {self.dialect.name} has"
            refuse(expected, name, "Choose another format")
        form, texts = self.dialect.functions[name], [*map(self._print, parts)]
        return form.format(*texts) if "{" in form else f"{form}({', '.join(texts)})"

    def emptyPrinter(self, expr: Any) -> str:
        """Refuse what has no text of its own."""
        return self._call(type(expr).__name__)

    def _print_Float(self, number: Any) -> str:
        return self.dialect.number(float(number))

    _print_Integer = _print_Pi = _print_Exp1 = _print_Float

    def _print_Rational(self, number: Any) -> str:
        return f"({self._print_Float(number.p)}/{self._print_Float(number.q)})"

    def _print_Symbol(self, symbol: Any) -> str:
        return str(symbol.name)

    def _print_Pow(self, power: Any, rational: bool = False) -> str:
        base, exponent = power.args
        if exponent == sympy.Rational(1, 2):
            return self._call("sqrt", base)
        if exponent in (-1, sympy.Rational(-1, 2)):
            below = base if exponent == -1 else sympy.sqrt(base)
            text = self.parenthesize(below, PRECEDENCE["Pow"], strict=False)
            return f"({self._print_Float(1)}/{text})"
        return self._call("Pow", base, exponent)

    def _print_Function(self, function: Any) -> str:
        return self._call(type(function).__name__, *function.args)

    def _print_Max(self, function: Any) -> str:
        first, *rest = function.args
        last = rest[0] if len(rest) == 1 else type(function)(*rest, evaluate=False)
        return self._call(type(function).__name__, first, last)

    _print_Min = _print_Max

    def _print_Piecewise(self, pieces: Any) -> str:
        (value, condition), *rest = pieces.args
        if condition == sympy.true:
            return str(self._print(value))
        return self._call("Piecewise", condition, value, sympy.Piecewise(*rest, evaluate=False))

    def _print_Relational(self, relation: Any) -> str:
        return f"{self._print(relation.lhs)} {relation.rel_op} {self._print(relation.rhs)}"


def _double(value: float) -> str:
    """Write a number that SQL takes for binary, not for decimal."""
    return repr(value) if "e" in repr(value) else f"{value!r}e0"


def _dialect(name: str, same: Callable[[str], str], others: str, **forms: str) -> Dialect:
    """Make a dialect of calls alike, pairs of names, and texts with places for arguments."""
    calls = {word: same(word) for word in _SAME.split()}
    calls |= dict(pair.split("=") for pair in others.split()) | forms
    return Dialect(name=name, functions=calls, number=_double if name == "SQL" else repr)


C99 = _dialect(
    "C99",
    str,
    "log=log erf=erf Abs=fabs Max=fmax Min=fmin Pow=pow",
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
    "Pow=np.power Piecewise=np.where",
)
SQL = _dialect(
    "SQL",
    str,
    "log=ln Abs=abs sign=sign Pow=power",
    Max="CASE WHEN {0} > {1} THEN {0} ELSE {1} END",
    Min="CASE WHEN {0} < {1} THEN {0} ELSE {1} END",
    Piecewise="CASE WHEN {0} THEN {1} ELSE {2} END",
)
EXCEL = _dialect(
    "Excel",
    str,
    "log=ln erf=erf Abs=abs sign=sign Pow=power Piecewise=if",
    exp="exp(if({0}<709.0,{0},709.0))",  # beyond, Excel has an error in place of infinity
    Max="if({0}>{1},{0},{1})",  # its MAX and MIN look through whole ranges
    Min="if({0}<{1},{0},{1})",
)


MOST = 1_000_000  # characters of all formulas: what SQLite reads where nobody has changed it


@dataclass(frozen=True, kw_only=True)
class Unrolled:
    """A description in a dialect.

    `define` is given the level of some formulas, each as the terms that it is the sum of, and
    returns the names that they can be read by from then on.
    """

    dialect: Dialect
    define: Callable[[str, list[list[str]]], list[str]]

    def outputs(self, description: Description, features: Sequence[str]) -> list[list[str]]:
        """Define all nodes, from the names of the features on; return the terms of the outputs."""
        names = self.define("u", self._scaled(features, *description.scaling[:4]))
        for index, layer in enumerate(description.layers):
            names = self.define(f"s{index}_", self._sums(names, index, layer))
            if any(len(one) > 1 for one in layer.members) or not layer.plain:
                names = self.define(f"h{index}_", self._nodes(names, layer))
        shift, scale = map(np.ndarray.tolist, description.scaling[4:])
        texts = zip(names, scale, shift, strict=True)
        return [[f"{name}*{self.number(a)}", self.number(b)] for name, a, b in texts]

    def number(self, value: float) -> str:
        """Write a number to the last digit."""
        return self.dialect.number(float(value))

    def _scaled(self, names: Sequence[str], *scaling: Array) -> list[list[str]]:
        found = []
        for name, low, high, shift, scale in zip(
            names, *map(np.ndarray.tolist, scaling), strict=True
        ):
            held = self._held(name, low, high)
            found.append([f"({held} - {self.number(shift)})/{self.number(scale)}"])
        return found

    def _held(self, text: str, low: float, high: float) -> str:
        """Hold what a text stands for between two ends, which may be infinite."""
        held = sympy.Symbol(text)
        held = sympy.Min(held, high) if high < np.inf else held
        held = sympy.Max(held, low, evaluate=False) if low > -np.inf else held
        return self.dialect.text(held)

    def _sums(self, names: Sequence[str], index: int, layer: Layer) -> list[list[str]]:
        rises = self._rises(names, index, layer.splines) if layer.splines else []
        found = []
        for out, bias in enumerate(layer.bias):
            parts = [self.number(bias)]
            for name, powers in rises:
                if powers[:, out].any():
                    parts.append(f"{name}*{self._polynomial(name, powers[:, out])}")
            parts += [text for terms in layer.terms for text in self._terms(names, terms, out)]
            found.append(parts)
        return found

    def _rises(self, names: Sequence[str], index: int, splines: Splines) -> list[tuple[str, Array]]:
        """Define how far inputs are within pieces; return names and coefficients (power, out)."""
        texts, found = [], []
        for in_, (name, breaks) in enumerate(zip(names, splines.breaks.tolist(), strict=True)):
            ends = [-np.inf, *breaks, np.inf]
            for piece, (start, end) in enumerate(pairwise(ends)):
                powers = splines.powers[in_, piece, 1:]
                if powers.any():
                    origin = start if piece else end
                    far, least = f"({name} - {self.number(origin)})", 0 if piece else -np.inf
                    texts.append([self._held(far, least, end - origin)])
                    found.append(powers)
        return list(zip(self.define(f"t{index}_", texts), found, strict=True))

    def _terms(self, names: Sequence[str], terms: Terms, out: int) -> list[str]:
        found = []
        for column in np.flatnonzero(terms.weights[:, out]):
            u, a, b = sympy.Symbol(names[terms.inputs[column]]), terms.a[column], terms.b[column]
            inner = u if (a, b) == (1, 0) else float(a) * u + float(b)
            text = self.dialect.text(formula(terms.g, inner))
            found.append(f"{self.number(terms.weights[column, out])}*({text})")
        return found

    def _polynomial(self, name: str, powers: Array) -> str:
        """Write a polynomial by Horner's rule, constant first."""
        text, *rest = map(self.number, np.trim_zeros(powers, "b")[::-1])
        for power in rest:
            text = f"({power} + {name}*{text})"
        return text

    def _nodes(self, names: Sequence[str], layer: Layer) -> list[list[str]]:
        nodes = zip(layer.members, layer.scale, layer.shift, strict=True)
        return [
            ["*".join([*(names[k] for k in members), self.number(scale)]), self.number(shift)]
            for members, scale, shift in nodes
        ]
