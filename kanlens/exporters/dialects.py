"""Elementary functions, as sympy knows them, in the syntax of other languages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from kanlens.exporters.subject import refuse
from kanlens.functions.elementary import ElementaryFunction

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
