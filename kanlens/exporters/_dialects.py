"""Networks as arrays, and as formulas in the syntax of programming languages."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
import sympy
import torch
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from kanlens.errors import MethodError
from kanlens.functions._elementary import Array, ElementaryFunction
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes
from kanlens.splines._pieces import Index

Pieces = tuple[int, Array]  # an input, and the coefficients (power, out) of a piece, from power 1
_SAME = "exp sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh"


@dataclass(frozen=True, kw_only=True, eq=False)
class Splines:
    """The splines of a layer; all splines of one input have the same breaks.

    Pieces are polynomials in the distance from their start, the first from its end; the first and
    the last are linear. The value at u is the sum of the changes over all pieces up to u, so that
    it hardly depends on which of two adjacent pieces contains a rounded u.
    """

    breaks: Array  # (in, break), increasing
    powers: Array  # (in, break + 1, degree + 1, out): coefficients of every piece, constant first

    @property
    def degree(self) -> int:
        """Degree of the pieces."""
        return int(self.powers.shape[2]) - 1

    @property
    def matrix(self) -> Array:
        """Weights (in, column, out) of distances beyond both ends, then of powers in each piece."""
        inner = self.powers[:, 1:-1, 1:].swapaxes(1, 2)  # (in, power, piece, out)
        tails = self.powers[:, [0, -1], 1]
        return np.concatenate([tails, inner.reshape(len(tails), -1, tails.shape[-1])], axis=1)

    def combined(self, in_: int) -> tuple[Index, Array]:
        """Return indices (rank,) of outputs whose splines span all, and weights (rank, out)."""
        from scipy.linalg import qr, solve_triangular

        inner = np.diff(self.breaks[in_])
        widths = np.concatenate(([1.0], inner, [1.0]))[:, None] ** np.arange(1, self.degree + 1)
        sizes = self.powers[in_, :, 1:] * widths[:, :, None]
        r, order = qr(sizes.reshape(-1, sizes.shape[-1]), mode="r", pivoting=True)
        diagonal = np.abs(r.diagonal())
        rank = int((diagonal > len(widths) * np.finfo(float).eps * diagonal[0]).sum())
        weights = np.zeros((rank, len(order)))
        weights[:, order[:rank]] = np.eye(rank)
        weights[:, order[rank:]] = solve_triangular(r[:rank, :rank], r[:rank, rank:])
        return order[:rank], weights


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionTerms:
    """Columns ``g(a * u[input] + b)`` with their weights (column, out)."""

    g: ElementaryFunction
    inputs: Index  # (column,)
    a: Array
    b: Array
    weights: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One layer: its splines and functions, and the nodes made of its sums."""

    width: int  # number of inputs
    bias: Array  # (out,): constants of all edges, and values of splines at their first break
    splines: Splines | None
    terms: tuple[FunctionTerms, ...]
    members: list[list[int]]  # the sums that each node is the product of
    scale: Array  # (node,)
    shift: Array

    @property
    def plain(self) -> bool:
        """True if nodes are neither scaled nor shifted."""
        return bool((self.scale == 1).all() and (self.shift == 0).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Description:
    """A network as arrays, independent of torch."""

    features: tuple[str, ...]
    outputs: tuple[str, ...]
    scaling: tuple[Array, ...]  # low, high, shift, scale of features; shift, scale of outputs
    layers: tuple[Layer, ...]

    @cached_property
    def functions(self) -> Mapping[str, ElementaryFunction]:
        """Every elementary function in use, by name."""
        return {terms.g.name: terms.g for layer in self.layers for terms in layer.terms}


@torch.no_grad()
def describe(model: KAN) -> Description:
    """Return a float64 network as arrays."""
    inputs = (model.input_low, model.input_high, model.input_shift, model.input_scale)
    scaling = (*inputs, model.output_shift, model.output_scale)
    return Description(
        features=model.feature_names,
        outputs=model.output_names,
        scaling=tuple(buffer.numpy() for buffer in scaling),
        layers=tuple(map(_layer, model.layers, model.nodes)),
    )


def _layer(layer: KANLinear, nodes: Nodes) -> Layer:
    bias, size = layer.bias.numpy().copy(), nodes.grouping.nodes
    columns: dict[ElementaryFunction, dict[tuple[int, float, float], Array]] = {}
    splines: list[tuple[int, int, Any]] = []

    def add(g: ElementaryFunction, place: tuple[int, float, float], weights: Array) -> None:
        if g.line != 0.0:
            row = columns.setdefault(g, {}).setdefault(place, np.zeros(len(bias)))
            row += weights

    for term in layer.terms():
        for in_ in (term.weight != 0).any(0).nonzero()[:, 0].tolist():
            place = in_, float(term.a[in_]), float(term.b[in_])
            add(term.g, place, term.weight[:, in_].numpy())
    for out, in_ in layer.mask.nonzero().tolist():
        edge = layer.edge(out, in_)
        if (single := edge.single) is None:
            splines.append((out, in_, edge.to_scipy().spline))
        else:
            bias[out] += single.d
            add(single.g, (in_, single.a, single.b), single.c * (np.arange(len(bias)) == out))
    return Layer(
        width=layer.in_features,
        splines=_splines(splines, layer.in_features, bias),
        bias=bias,
        terms=tuple(_terms(g, rows) for g, rows in columns.items()),
        members=[list(nodes.grouping.members(node)) for node in range(size)],
        scale=nodes.scale.numpy() if nodes.scaled else np.ones(size),
        shift=nodes.shift.numpy() if nodes.scaled else np.zeros(size),
    )


def _splines(edges: list[tuple[int, int, Any]], n_in: int, bias: Array) -> Splines | None:
    """Stack the splines of edges; add their values at the first break to `bias`."""
    if not any(spline.c.any() for _, _, spline in edges):
        return None
    n_powers, n_pieces = edges[0][2].c.shape
    breaks = np.tile(np.arange(n_pieces - 1.0), (n_in, 1))  # kept for inputs without splines
    powers = np.zeros((n_in, n_pieces, n_powers, len(bias)))
    for out, in_, spline in edges:
        breaks[in_] = spline.x[1:-1]
        powers[in_, :, :, out] = spline.c[::-1].T
        powers[in_, 0, 0, out] += powers[in_, 0, 1, out]  # SciPy's starts at this end minus 1
        bias[out] += powers[in_, 0, 0, out]
    return Splines(breaks=breaks, powers=powers)


def _terms(g: ElementaryFunction, rows: dict[tuple[int, float, float], Array]) -> FunctionTerms:
    inputs, a, b = map(np.array, zip(*rows, strict=True))  # (column,) each
    return FunctionTerms(g=g, inputs=inputs, a=a, b=b, weights=np.stack([*rows.values()]))


def formula(g: ElementaryFunction, u: sympy.Expr) -> sympy.Expr:
    """Return g(u) in terms of functions that programming languages have."""
    if family := re.fullmatch(r"T(\d+)\(tanh\)", g.name):
        return _chebyshev(int(family[1]), sympy.tanh(u))
    return g.expression(u).replace(
        sympy.sinc, lambda v: sympy.Piecewise((sympy.sin(v) / v, sympy.Abs(v) > 0), (1, True))
    )


def _chebyshev(degree: int, t: sympy.Expr) -> sympy.Expr:
    """Return the Chebyshev polynomial of t, in a form without cancellation."""
    if degree < 2:
        return t if degree else sympy.Integer(1)
    half = _chebyshev(degree // 2, t)
    return 2 * half**2 - 1 if degree % 2 == 0 else 2 * half * _chebyshev(degree // 2 + 1, t) - t


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The names of sympy's functions in a language."""

    name: str
    functions: Mapping[str, str]  # by sympy's name: a name, or a format string of the arguments
    number: Callable[[float], str] = repr

    def text(self, expression: sympy.Expr) -> str:
        """Write a sympy expression; names of symbols are not changed."""
        return str(_DialectPrinter(self).doprint(expression))


def refuse(expected: str, got: str, advice: str) -> NoReturn:
    """Refuse a model that a format cannot hold."""
    raise MethodError("export", expected, got, advice)


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
    """Return a dialect; `same` writes names in _SAME, `others` has pairs sympy=name."""
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
    Max="IF({0}>{1},{0},{1})",  # its MAX and MIN return one number for a whole range
    Min="IF({0}<{1},{0},{1})",
    Piecewise="IF({0},{1},{2})",
)


MAX_CHARACTERS = 1_000_000  # characters of all formulas: SQLite's default limit


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
        columns = zip(features, *map(np.ndarray.tolist, description.scaling[:4]), strict=True)
        texts = [
            f"({self._held(name, low, high)} - {self.number(shift)})/{self.number(scale)}"
            for name, low, high, shift, scale in columns
        ]
        names = self.level("u", texts)
        for index, layer in enumerate(description.layers):
            names = self.sums(index, layer, names)
            if any(len(members) > 1 for members in layer.members) or not layer.plain:
                nodes = zip(layer.members, layer.scale, layer.shift, strict=True)
                texts = [
                    f"{'*'.join([*(names[k] for k in members), self.number(scale)])}"
                    f" + {self.number(shift)}"
                    for members, scale, shift in nodes
                ]
                names = self.level(f"h{index}_", texts)
        shift, scale = map(np.ndarray.tolist, description.scaling[4:])
        ends = zip(names, scale, shift, strict=True)
        return [f"{name}*{self.number(a)} + {self.number(b)}" for name, a, b in ends]

    def level(self, prefix: str, formulas: Sequence[str]) -> list[str]:
        """Add columns named by a prefix and a number."""
        return self.define([f"{prefix}{k}" for k in range(len(formulas))], formulas)

    def number(self, value: float) -> str:
        """Write a number to the last digit."""
        return self.dialect.number(float(value))

    def _held(self, name: str, low: float, high: float, origin: float = 0.0) -> str:
        """Clip a column and subtract an origin; missing cells stay missing."""
        text = f"({name} - {self.number(origin)})" if origin else name
        for sign, end in ((">=", high), ("<=", low)):
            if np.isfinite(end):
                outside = f"{name} {sign} {self.number(end)}", self.number(end - origin)
                text = self.dialect.functions["Piecewise"].format(*outside, text)
        return text

    def rises(self, names: Sequence[str], splines: Splines) -> tuple[list[str], list[Pieces]]:
        """Return texts of the distances of u from the starts of nonconstant pieces, and these."""
        texts, pieces = [], []
        for in_, (name, breaks) in enumerate(zip(names, splines.breaks.tolist(), strict=True)):
            for piece, (start, end) in enumerate(pairwise([-np.inf, *breaks, np.inf])):
                powers = splines.powers[in_, piece, 1:]
                if powers.any():
                    texts.append(self._held(name, start, end, start if piece else end))
                    pieces.append((in_, powers))
        return texts, pieces

    def term(self, names: Sequence[str], terms: FunctionTerms, column: int) -> str:
        """Return the text of ``g(a * u + b)`` for one column of `terms`."""
        u, a, b = sympy.Symbol(names[terms.inputs[column]]), terms.a[column], terms.b[column]
        inner = u if (a, b) == (1, 0) else float(a) * u + float(b)
        return self.dialect.text(formula(terms.g, inner))
