"""Composition of a symbolic network into sympy expressions, and their evaluation by NumPy.

Sums, scales and phases are merged, so that no constant is redundant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial, reduce
from typing import Any

import numpy as np
import sympy

from kanlens._runtime import check_time
from kanlens.functions._catalog import FUNCTIONS
from kanlens.functions._registration import MODULES
from kanlens.model._edge import Edge
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes
from kanlens.model._terms import SPLINE

_MAX_EXACT = 10**12  # numerator or denominator that is shown to the last digit
Expr = Any  # sympy is untyped
Array = np.ndarray[Any, np.dtype[np.float64]]
Function = Callable[..., Any]

_INVERTIBLE = ("sin", "cos", "tan", "sinh", "cosh", "tanh")
_ALIKE = ("exp", "log", "sign", *_INVERTIBLE)  # named alike in sympy and NumPy
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


def compose(model: KAN, first: Callable[[list[Expr]], list[Expr]] = list) -> tuple[Expr, ...]:
    """Return the expressions of the outputs in the units of the data.

    `first` maps the sums of the first layer to other expressions.
    """
    shifts, scales = model.input_shift.tolist(), model.input_scale.tolist()
    nodes = [
        _scaled(symbol, 1 / scale, -shift / scale)
        for symbol, shift, scale in zip(feature_symbols(model), shifts, scales, strict=True)
    ]
    for index, layer in enumerate(model.layers):
        mask, bias = (layer.mask != 0).tolist(), layer.bias.tolist()
        sums = [
            sympy.Add(
                _number(bias[o]),
                *(_edge(model, index, (o, i), u) for i, u in enumerate(nodes) if mask[o][i]),
            )
            for o in range(layer.out_features)
        ]
        nodes = _nodes(model.nodes[index], first(sums) if index == 0 else sums)
    ends = zip(nodes, model.output_scale.tolist(), model.output_shift.tolist(), strict=True)
    return tuple(_scaled(node, scale, shift) for node, scale, shift in ends)


def feature_symbols(model: KAN) -> tuple[Expr, ...]:
    """Return one real symbol per feature, as `compose` uses them."""
    return tuple(sympy.Symbol(name, real=True) for name in model.feature_names)


def plain(expression: Expr) -> Expr:
    """Replace the real symbols of an expression by symbols without assumptions."""
    symbols = {symbol: sympy.Symbol(symbol.name) for symbol in expression.free_symbols}
    return expression.xreplace(symbols)


def evaluator(expressions: tuple[Expr, ...], symbols: tuple[Expr, ...]) -> Callable[..., Any]:
    """Return the NumPy function from x (batch, in) to values (batch, out)."""
    check_time()
    function = compiled(tuple(expressions), tuple(symbols))

    def evaluate(x: Array) -> Array:
        columns = np.asarray(x, dtype=np.float64).T
        with np.errstate(all="ignore"):
            values = [np.asarray(value) for value in function(*columns)]
        rows = columns.shape[1]
        real = [np.where(np.imag(v) == 0, np.real(v), np.nan) for v in values]
        return np.stack([np.broadcast_to(v, (rows,)) for v in real], axis=1).astype(np.float64)

    return evaluate


@lru_cache(maxsize=256)  # a search compiles the same one up to three times
def compiled(expressions: tuple[Expr, ...], symbols: tuple[Expr, ...]) -> Callable[..., Any]:
    """Return a function that evaluates expressions, given one array per symbol."""
    try:
        return Program(expressions, symbols)
    except NotImplementedError:  # functions of SciPy, and Piecewise
        return _lambdified(expressions, symbols)


class Program:
    """Expressions as NumPy calls, each subexpression once; faster to compile than by lambdify.

    Raises NotImplementedError if a subexpression has no equivalent in NumPy.
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


def _lambdified(expressions: tuple[Expr, ...], symbols: tuple[Expr, ...]) -> Callable[..., Any]:
    """Compile with sympy; symbols are renamed, as some names would clash with sympy's."""
    names = {symbol.name: f"_{k}" for k, symbol in enumerate(symbols)}
    used = {symbol for expression in expressions for symbol in expression.free_symbols}
    renamed = {s: sympy.Symbol(names[s.name], real=s.is_real) for s in used if s.name in names}
    body = [expression.xreplace(renamed) for expression in expressions]
    arguments = [sympy.Symbol(name) for name in names.values()]
    function: Callable[..., Any] = sympy.lambdify(arguments, body, modules=MODULES, cse=True)
    return function


def stretched(name: str, parameters: Iterable[float], u: Expr) -> Expr:
    """Return ``c * g(a * u + b) + d``, with -1, 0 and 1 as exact numbers."""
    exact = (-1.0, 0.0, 1.0)
    a, b, c, d = (sympy.Integer(int(p)) if p in exact else sympy.Float(p) for p in parameters)
    return c * FUNCTIONS[name].expression(a * u + b) + d


def rounded(expression: Expr, digits: int) -> Expr:
    """Round the constants of an expression, including very long exact ones."""
    numbers = expression.atoms(sympy.Float, sympy.Rational)
    long = {n for n in numbers if n.is_Float or max(abs(n.p), n.q) > _MAX_EXACT}
    return expression.xreplace({number: sympy.Float(number, digits) for number in long})


def _edge(model: KAN, index: int, place: tuple[int, int], u: Expr) -> Expr:
    """Return the expression of an edge (out, in) as a function of its input's expression."""
    layer, (out, in_) = model.layers[index], place
    name, (a, b, c, d) = layer.assigned(out, in_)
    if name == SPLINE:
        edge = layer.edge(out, in_)
        if np.ptp(edge.coefficients) == 0:  # a constant and base functions
            return float(edge.coefficients[0]) + edge.functions.expression(u)
        if index == 0:
            shift, scale = float(model.input_shift[in_]), float(model.input_scale[in_])
            edge, u = edge.in_units(shift, scale), feature_symbols(model)[in_]
        return spline_function(f"f_{index}_{out}_{in_}", edge)(u)
    mask = float(layer.mask[out, in_])
    return affine(name, (a, b, c * mask, d * mask), u)


def affine(name: str, parameters: Iterable[float], u: Expr) -> Expr:
    """Return ``c * g(a * u + b) + d`` in the form with the fewest constants."""
    a, b, c, d = parameters
    return _scaled(_apply(name, _scaled(u, a, b)), c, d)


@lru_cache(maxsize=1024)  # sympy and lambdify need one class per spline
def spline_function(name: str, edge: Edge, order: int = 0) -> Any:
    """Return a sympy function for an edge, or for a derivative of it."""

    def evaluate(x: Array) -> Array:
        if np.iscomplexobj(x):  # a root of a negative number inside: undefined
            x = np.where(np.imag(x) == 0, np.real(x), np.nan)
        return edge(x) if order == 0 else edge.derivative(x, order)

    def fdiff(self: Expr, argindex: int = 1) -> Any:
        return spline_function(f"{edge_name}_d{order + 1}", edge, order + 1)(self.args[0])

    edge_name = name if order == 0 else name.rsplit("_d", 1)[0]
    numbers = len(getattr(edge, "coefficients", (1.0,)))
    members = {"nargs": 1, "spline": (edge, order), "numbers": numbers}
    return _function(name, evaluate, fdiff, (spline_function, name, edge, order), **members)


def _function(name: str, evaluate: Any, fdiff: Any, constructor: Any, **members: Any) -> Any:
    """Return a sympy function whose applications can be copied and pickled."""
    common = {
        "_imp_": staticmethod(evaluate),
        "fdiff": fdiff,
        "is_real": True,
        "__deepcopy__": lambda self, memo: self,
        "__reduce_ex__": lambda self, protocol: (_applied, (self.args, *constructor)),
    }
    return type(name, (sympy.Function,), common | members)


def _applied(arguments: tuple[Expr, ...], function: Callable[..., Any], *options: object) -> Expr:
    return function(*options)(*arguments)


def _nodes(nodes: Nodes, sums: list[Expr]) -> list[Expr]:
    """Return the expressions of the nodes of a layer, from those of its sums."""
    count = nodes.grouping.nodes
    scales = nodes.scale.tolist() if nodes.scaled else [1.0] * count
    shifts = nodes.shift.tolist() if nodes.scaled else [0.0] * count
    if block := sums[nodes.apart :] if nodes.normalized else []:
        normalized = layer_norm_function(nodes.eps)
        sums = [*sums[: nodes.apart], *(normalized(total, *block) for total in block)]
    unit, expressions = sympy.Integer(1), []
    for node, (scale, shift) in enumerate(zip(scales, shifts, strict=True)):
        factors = [sums[subnode] for subnode in nodes.grouping.members(node)]
        if len(factors) > 1:  # their scales as one number in front
            pairs = [_split_scale(f) if f.free_symbols else (float(f), unit) for f in factors]
            sizes, rests = zip(*pairs, strict=True)
            factors = [_scaled(sympy.Mul(*rests), math.prod(sizes), 0.0)]
        expressions.append(_scaled(factors[0], scale, shift))
    return expressions


@lru_cache(maxsize=64)  # one class for one eps
def layer_norm_function(eps: float) -> Any:
    """Return layer_norm(u, u_1, ..., u_n) as a sympy function."""

    def evaluate(u: Expr, *others: Expr) -> Expr:
        mean = sum(others) / len(others)
        return (u - mean) / (sum((v - mean) ** 2 for v in others) / len(others) + eps) ** 0.5

    def fdiff(self: Expr, argindex: int = 1) -> Any:
        symbols = [sympy.Dummy() for _ in self.args]
        slope = evaluate(*symbols).diff(symbols[argindex - 1])
        return slope.xreplace(dict(zip(symbols, self.args, strict=True)))

    return _function("layer_norm", evaluate, fdiff, (layer_norm_function, eps), numbers=1)


def _number(value: float) -> Expr:
    return sympy.Float(value) if value else sympy.Integer(0)


def _scaled(expression: Expr, factor: float, shift: float) -> Expr:
    """Return factor * expression + shift, multiplied out."""
    if factor == 1.0:
        return sympy.Add(expression, _number(shift))
    if factor == 0.0:
        return _number(shift)
    number = sympy.Integer(-1) if factor == -1.0 else sympy.Float(factor)
    terms = (sympy.Mul(number, term) for term in sympy.Add.make_args(expression))
    return sympy.Add(*terms, _number(shift))


def _apply(name: str, u: Expr) -> Expr:
    """Return g(u) in the form with the fewest constants."""
    g = FUNCTIONS[name]
    if name == "sin":  # plus or minus a sine or cosine of the least phase
        phase, rest = u.as_coeff_Add()
        quarter = round(float(phase) / (math.pi / 2))
        u = rest + _number(float(phase) - quarter * math.pi / 2)
        return (sympy.sin(u), sympy.cos(u), -sympy.sin(u), -sympy.cos(u))[quarter % 4]
    if name == "log":
        return _logarithm(u)
    if g.degree is None or name == "x" or not u.free_symbols:
        return g.expression(u)
    size, rest = _split_scale(u)
    if name == "abs":
        side, outer = 1.0, abs(size)
    elif g.symmetry is None or g.degree == 0:
        side, outer = math.copysign(1.0, size), abs(size) ** g.degree
    else:
        side, outer = 1.0, size ** int(g.degree)
    return _scaled(g.expression(_scaled(rest, side, 0.0)), float(outer), 0.0)


def _split_scale(u: Expr) -> tuple[float, Expr]:
    """Return s and u / s, where s is the largest coefficient of the terms."""
    parts = [term.as_coeff_Mul() for term in sympy.Add.make_args(u) if term.free_symbols]
    number, first = max(parts, key=lambda part: (abs(part[0]), sympy.default_sort_key(part[1])))
    size = float(number)
    others = [term for term in sympy.Add.make_args(u) if term.as_coeff_Mul() != (number, first)]
    return size, sympy.Add(first, *(_scaled(term, 1.0 / size, 0.0) for term in others))


def _logarithm(u: Expr) -> Expr:
    """Return log(u) with the constant factor of u as a separate term."""
    if not u.free_symbols:
        return sympy.log(u)
    if u.is_Mul or u.is_Pow or isinstance(u, sympy.exp):
        factor, rest = u.as_coeff_Mul()
        if isinstance(rest, sympy.exp) and factor > 0:
            return rest.args[0] + sympy.log(factor)
    size, rest = _split_scale(u)
    side = math.copysign(1.0, size)
    return sympy.log(_scaled(rest, side, 0.0)) + _number(math.log(abs(size)))
