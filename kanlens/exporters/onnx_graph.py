"""A graph of plain ONNX operators."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import numpy as np
import sympy

from kanlens.exporters.description import Layer, Splines, Terms
from kanlens.exporters.dialects import formula
from kanlens.exporters.subject import refuse
from kanlens.functions.elementary import Array

_SINGLE = ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf")
_DOUBLE = ("exp", "log", "sin", "cos", "tanh", "Abs", "sign", "Pow", "Add", "Mul", "Max", "Min")
_EXACT = {  # in place of _SINGLE, which runtimes lack in float64, without a loss at poles and ends
    "tan": lambda u: sympy.sin(u) / sympy.cos(u),
    "asin": lambda u: 2 * sympy.atan(u / (1 + sympy.sqrt(1 - u**2))),
    "acos": lambda u: sympy.pi / 2 - 2 * sympy.atan(u / (1 + sympy.sqrt(1 - u**2))),
    "sinh": lambda u: (sympy.exp(u) - sympy.exp(-u)) / 2,
    "cosh": lambda u: (sympy.exp(u) + sympy.exp(-u)) / 2,
    "atanh": lambda u: sympy.log((1 + u) / (1 - u)) / 2,
}


class Graph:
    """Nodes and constants of a graph that computes in one dtype."""

    def __init__(self, onnx: Any, dtype: Any) -> None:
        self.onnx = onnx
        self.dtype = np.dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.known: dict[Any, str] = {}

    def add(self, kind: str, *inputs: Any, name: str = "", **attributes: Any) -> str:
        """Add a node; numbers and arrays among its inputs become constants."""
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        output = name or f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, names, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        """Add a constant: whole numbers as they are, others in the dtype of the graph."""
        array = np.asarray(value)
        array = array.astype(np.int64 if array.dtype.kind in "iu" else self.dtype)
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def cast(self, value: str, dtype: Any, name: str = "") -> str:
        """Convert a value to another dtype."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", value, name=name, to=kind)

    def fold(self, kind: str, parts: Sequence[Any]) -> str:
        """Join values by an operator of two."""
        joined: str = reduce(partial(self.add, kind), parts)
        return joined

    def function(self, expression: Any, u: str) -> str:
        """Add what evaluates a sympy expression of one symbol at a value, once."""
        key = expression, u, self.dtype
        if key not in self.known:
            self.known[key] = self.evaluated(expression, u)
        return self.known[key]

    def evaluated(self, expression: Any, u: str) -> str:
        """Add the outermost function of an expression."""
        if expression.is_Symbol:
            return u
        if expression.is_number:
            return self.constant(float(expression))
        if isinstance(expression, sympy.Piecewise):
            return self.choice(expression.args, u)
        name, double = type(expression).__name__, self.dtype == np.float64
        if double and name in _EXACT:
            return self.function(_EXACT[name](*expression.args), u)
        if name == "Pow" and expression.exp in (-1, sympy.Rational(1, 2)):
            kind = "Reciprocal" if expression.exp == -1 else "Sqrt"
            return self.add(kind, self.function(expression.base, u))
        parts = [self.function(part, u) for part in expression.args]
        if double and name in ("atan", "erf"):
            return self.arctangent(*parts) if name == "atan" else self.error_function(*parts)
        if name not in (_DOUBLE if double else _DOUBLE + _SINGLE):
            refuse("functions that ONNX has", name, "Choose another format")
        kind = name.capitalize()
        return self.fold(kind, parts) if len(parts) > 1 else self.add(kind, *parts)

    def choice(self, pieces: Sequence[Any], u: str) -> str:
        """Add what chooses between the pieces of an expression."""
        (value, condition), *rest = pieces
        inside = self.function(value, u)
        if condition == sympy.true:
            return inside
        kinds = {"<": "Less", "<=": "LessOrEqual", ">": "Greater", ">=": "GreaterOrEqual"}
        sides = self.function(condition.lhs, u), self.function(condition.rhs, u)
        inside_of = self.add(kinds[condition.rel_op], *sides)
        return self.add("Where", inside_of, inside, self.choice(rest, u))

    def arctangent(self, u: str) -> str:
        """Add arctan in float64: that of float32, and one step of Newton's method for tan."""
        near = self.cast(self.add("Atan", self.cast(u, np.float32)), self.dtype)
        sine, cosine = self.add("Sin", near), self.add("Cos", near)
        above = self.add("Sub", self.add("Mul", u, cosine), sine)
        below = self.add("Add", cosine, self.add("Mul", u, sine))
        return self.add("Add", near, self.add("Div", above, below))

    def error_function(self, u: str) -> str:
        """Add erf in float64, 1 to rounding beyond 6: the integral of a Gaussian by quadrature."""
        places, weights = np.polynomial.legendre.leggauss(40)
        held = self.add("Max", self.add("Min", u, 6.0), -6.0)
        inside = self.add("Mul", self.add("Unsqueeze", held, [-1]), (places + 1) / 2)
        values = self.add("Exp", self.add("Neg", self.add("Mul", inside, inside)))
        return self.add("Mul", held, self.add("MatMul", values, weights / np.sqrt(np.pi)))

    def scaled(self, x: Any, scaling: Sequence[Array]) -> str:
        """Hold features in their ranges and scale them."""
        low, high, shift, scale = scaling
        if np.isfinite(low).any() or np.isfinite(high).any():
            x = self.add("Max", self.add("Min", x, high), low)
        return self.add("Div", self.add("Sub", x, shift), scale)

    def splines(self, u: str, splines: Splines) -> str:
        """Add the columns (batch, in, column) that the matrix of splines multiplies."""
        breaks, v = splines.breaks, self.add("Unsqueeze", u, [2])
        below = self.add("Min", self.add("Sub", v, breaks[:, :1]), 0.0)
        above = self.add("Max", self.add("Sub", v, breaks[:, -1:]), 0.0)
        risen = self.add("Min", self.add("Sub", v, breaks[:, :-1]), np.diff(breaks, axis=1))
        inside = self.add("Max", risen, 0.0)
        powers = [inside]
        for _ in range(splines.degree - 1):
            powers.append(self.add("Mul", powers[-1], inside))
        return self.add("Concat", below, above, *powers, axis=2)

    def columns(self, u: str, terms: Terms) -> str:
        """Add the values (batch, column) of a function."""
        v = self.add("Gather", u, terms.inputs, axis=1)
        if (terms.a != 1).any() or (terms.b != 0).any():
            v = self.add("Add", self.add("Mul", v, terms.a), terms.b)
        return self.function(formula(terms.g, sympy.Symbol("u")), v)

    def sums(self, u: str, layer: Layer) -> str:
        """Add the sums (batch, out) of a layer."""
        parts = [self.add("MatMul", self.columns(u, terms), terms.weights) for terms in layer.terms]
        if layer.splines:
            flat = self.add("Flatten", self.splines(u, layer.splines), axis=1)
            parts.append(self.add("MatMul", flat, np.concatenate(layer.splines.matrix)))
        if not parts:
            parts.append(self.add("MatMul", u, np.zeros((layer.width, len(layer.bias)))))
        return self.fold("Add", [*parts, layer.bias])

    def nodes_of(self, sums: str, layer: Layer) -> str:
        """Add the nodes (batch, node): sums, and products of them."""
        if any(len(one) > 1 for one in layer.members):
            found = [
                self.fold("Mul", [self.add("Gather", sums, [k], axis=1) for k in one])
                for one in layer.members
            ]
            sums = self.add("Concat", *found, axis=1)
        if layer.plain:
            return sums
        return self.add("Add", self.add("Mul", sums, layer.scale), layer.shift)
