"""ONNX files: the graph of a model and of its attributions by method "secant"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import sympy
from numpy.typing import ArrayLike, DTypeLike

from kanlens._checks import optional_module
from kanlens._plain_json import to_plain
from kanlens.data._schema import Schema
from kanlens.exporters._dialects import FunctionTerms, Layer, Splines, formula, refuse
from kanlens.exporters._exported_model import (
    Cell,
    Export,
    Format,
    Predictions,
    blank_numbers,
    blank_texts,
    date_part,
)
from kanlens.functions._elementary import Array

ML = "ai.onnx.ml"
OPSETS, IR_VERSION = {"": 17, ML: 3}, 8
SAME = 1e-7  # inputs closer than this have the slope of a step of this size
_SINGLE = ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf")
_ALGEBRAIC = ("floor", "Abs", "sign", "Pow", "Add", "Mul", "Max", "Min")
_DOUBLE = ("exp", "log", "sin", "cos", "tanh", *_ALGEBRAIC)
_EXACT = {  # of _SINGLE, which runtimes lack in float64; as accurate at poles and ends
    "tan": lambda u: sympy.sin(u) / sympy.cos(u),
    "asin": lambda u: 2 * sympy.atan(u / (1 + sympy.sqrt(1 - u**2))),
    "acos": lambda u: sympy.pi / 2 - 2 * sympy.atan(u / (1 + sympy.sqrt(1 - u**2))),
    "sinh": lambda u: (sympy.exp(u) - sympy.exp(-u)) / 2,
    "cosh": lambda u: (sympy.exp(u) + sympy.exp(-u)) / 2,
    "atanh": lambda u: sympy.log((1 + u) / (1 - u)) / 2,
}


class Graph:
    """Builder of an ONNX graph; new constants have the current `dtype`."""

    def __init__(self, onnx: Any, dtype: DTypeLike) -> None:
        self.onnx = onnx
        self.dtype = np.dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.values: dict[Any, str] = {}  # names of values, by expression

    def add(self, kind: str, *inputs: ArrayLike, name: str = "", **attributes: Any) -> str:
        """Add a node, return its output; numbers and arrays as inputs become constants."""
        names = [part if isinstance(part, str) else self.constant(part) for part in inputs]
        output = name or f"kan/v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, names, [output], **attributes))
        return output

    def constant(self, value: ArrayLike) -> str:
        """Add a constant: integers and texts unchanged, others in the dtype."""
        array = np.asarray(value)
        kinds = {"i": np.int64, "u": np.int64, "U": object}
        array = array.astype(kinds.get(array.dtype.kind, self.dtype))
        name = f"kan/c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def value(self, name: str, dtype: DTypeLike, sizes: Sequence[int]) -> Any:
        """Describe an input or an output of any number of rows."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, ["batch", *sizes])

    def unmarked(self, value: str, schema: Schema) -> str:
        """Replace numbers that mark missing cells by NaN."""
        for mark in blank_numbers(schema):
            value = self.add("Where", self.add("Equal", value, mark), np.nan, value)
        return value

    def cast(self, value: str, dtype: DTypeLike, name: str = "") -> str:
        """Convert a value to another dtype."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", value, name=name, to=kind)

    def fold(self, kind: str, parts: Sequence[Any]) -> str:
        """Reduce values by a binary operator."""
        joined: str = reduce(partial(self.add, kind), parts)
        return joined

    def function(self, expression: sympy.Expr, u: str) -> str:
        """Add a sympy expression of one symbol, evaluated at `u`; equal ones are added once."""
        key = expression, u, self.dtype
        if key not in self.values:
            self.values[key] = self.evaluated(expression, u)
        return self.values[key]

    def evaluated(self, expression: sympy.Expr, u: str) -> str:
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
        if name not in _DOUBLE and (double or name not in _SINGLE):
            refuse("functions of ONNX", name, "Choose another format")
        kind = name.capitalize()
        return self.fold(kind, parts) if len(parts) > 1 else self.add(kind, *parts)

    def choice(self, pieces: Sequence[Any], u: str) -> str:
        """Add a piecewise expression."""
        (value, condition), *rest = pieces
        inside = self.function(value, u)
        if condition == sympy.true:
            return inside
        kinds = {"<": "Less", "<=": "LessOrEqual", ">": "Greater", ">=": "GreaterOrEqual"}
        sides = self.function(condition.lhs, u), self.function(condition.rhs, u)
        inside_of = self.add(kinds[condition.rel_op], *sides)
        return self.add("Where", inside_of, inside, self.choice(rest, u))

    def arctangent(self, u: str) -> str:
        """Add arctan in float64: one step of Newton's method from the float32 value."""
        near = self.cast(self.add("Atan", self.cast(u, np.float32)), self.dtype)
        sine, cosine = self.add("Sin", near), self.add("Cos", near)
        above = self.add("Sub", self.add("Mul", u, cosine), sine)
        below = self.add("Add", cosine, self.add("Mul", u, sine))
        return self.add("Add", near, self.add("Div", above, below))

    def error_function(self, u: str) -> str:
        """Add erf in float64 by quadrature; it is 1 beyond 6."""
        places, weights = np.polynomial.legendre.leggauss(40)
        held = self.add("Max", self.add("Min", u, 6.0), -6.0)
        inside = self.add("Mul", self.add("Unsqueeze", held, [-1]), (places + 1) / 2)
        values = self.add("Exp", self.add("Neg", self.add("Mul", inside, inside)))
        return self.add("Mul", held, self.add("MatMul", values, weights / np.sqrt(np.pi)))

    def scaled(self, x: str | Array, scaling: Sequence[Array]) -> str:
        """Clip features to their ranges and scale them."""
        low, high, shift, scale = scaling
        if np.isfinite(low).any() or np.isfinite(high).any():
            x = self.add("Max", self.add("Min", x, high), low)
        return self.add("Div", self.add("Sub", x, shift), scale)

    def splines(self, u: str, splines: Splines) -> str:
        """Add the columns (batch, in, column) of splines."""
        breaks, v = splines.breaks, self.add("Unsqueeze", u, [2])
        below = self.add("Min", self.add("Sub", v, breaks[:, :1]), 0.0)
        above = self.add("Max", self.add("Sub", v, breaks[:, -1:]), 0.0)
        risen = self.add("Min", self.add("Sub", v, breaks[:, :-1]), np.diff(breaks, axis=1))
        inside = self.add("Max", risen, 0.0)
        powers = [inside]
        for _ in range(splines.degree - 1):
            powers.append(self.add("Mul", powers[-1], inside))
        return self.add("Concat", below, above, *powers, axis=2)

    def columns(self, u: str, terms: FunctionTerms) -> str:
        """Add the values (batch, column) of g(a * u + b), a column for each term of function g."""
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
        if any(len(members) > 1 for members in layer.members):
            products = [
                self.fold("Mul", [self.add("Gather", sums, [k], axis=1) for k in members])
                for members in layer.members
            ]
            sums = self.add("Concat", *products, axis=1)
        if layer.plain:
            return sums
        return self.add("Add", self.add("Mul", sums, layer.scale), layer.shift)


def _write(subject: Export, path: Path) -> None:
    description, onnx = subject.description, optional_module("onnx", call="export", extra="export")
    graph = Graph(onnx, str(subject.model.dtype).removeprefix("torch."))
    inputs, features = _add_inputs(graph, subject)
    outputs = _add_outputs(graph, subject, features)
    x, y = subject.examples()
    names = subject.predictions.names
    facts: dict[str, Any] = {"features": description.features, "outputs": names}
    facts |= {"columns": subject.columns, "classes": subject.classes, "check_x": x, "check_y": y}
    if subject.explain:
        facts["reference"] = subject.reference
    kan = onnx.helper.make_graph(graph.nodes, "kan", inputs, outputs, graph.constants)
    domains = sorted({node.domain for node in graph.nodes})
    opsets = [onnx.helper.make_opsetid(domain, OPSETS[domain]) for domain in domains]
    versions = {"opset_imports": opsets, "ir_version": IR_VERSION}
    model = onnx.helper.make_model(kan, doc_string=subject.title, **versions)
    texts = {name: json.dumps(to_plain(fact)) for name, fact in facts.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _add_outputs(graph: Graph, subject: Export, x: str) -> list[Any]:
    """Add the network, with scores if wanted; return the outputs of the graph."""
    *_, (u, _) = _levels(graph, subject, x)
    shift, scale = subject.description.scaling[4:]
    classes, count, dtype = np.array(subject.classes), len(shift), graph.dtype
    y = graph.add("Add", graph.add("Mul", u, scale), shift)
    if not len(classes):
        outputs = [graph.value("y", dtype, [len(subject.predictions.names)])]
        _add_predictions(graph, subject.predictions, y)
    else:
        y = graph.add("Mul", y, [0.0, 1.0]) if count == 1 else y
        graph.add("Gather", classes, graph.add("ArgMax", y, axis=1, keepdims=0), name="label")
        graph.add("Softmax", y, axis=1, name="probabilities")
        kind = np.int64 if classes.dtype.kind == "i" else object
        outputs = [graph.value("label", kind, [])]
        outputs.append(graph.value("probabilities", dtype, [len(classes)]))
    if subject.explain:
        scores = _add_scores(graph, subject, x)
        outputs.append(graph.value(scores, dtype, [count, len(subject.rules)]))
    return outputs


def _add_predictions(graph: Graph, predictions: Predictions, y: str) -> None:
    """Add the predictions as "y", computed from the outputs `y`."""
    if predictions.swaps:
        parts = [graph.add("Gather", y, [k], axis=1) for k in range(max(predictions.swaps)[1] + 1)]
        for a, b in predictions.swaps:
            parts[a], parts[b] = (graph.add(kind, parts[a], parts[b]) for kind in ("Min", "Max"))
        y = graph.add("Concat", *parts, axis=1)
    y = graph.add("Exp", y) if predictions.log else y
    if not predictions.plain:
        y = graph.add("Add", graph.add("Gather", y, predictions.picks, axis=1), predictions.moves)
    graph.add("Max", y, 0.0, name="y") if predictions.log else graph.add("Identity", y, name="y")


def _whole(subject: Export) -> bool:
    """Return whether the input is x (batch, in): every column is one numeric feature."""
    return all(rule.kind == "number" for rule in subject.rules)


def _add_inputs(graph: Graph, subject: Export) -> tuple[list[Any], str]:
    """Add the features; return the inputs of the graph, and the name of the features."""
    x, inputs = "x", [graph.value("x", graph.dtype, [len(subject.rules)])]
    if _whole(subject):
        x = graph.unmarked(x, subject.model.schema)
    else:
        kinds = {"text": object, "date": np.float64, "number": graph.dtype}
        columns = subject.columns.items()
        inputs = [graph.value(_input(name), kinds[kind], [1]) for name, kind in columns]
        features = [_add_feature(graph, rule, subject) for rule in subject.rules]
        x = graph.add("Concat", *features, axis=1)
    if not np.isnan(subject.fillers).all():
        x = graph.add("Where", graph.add("IsNaN", x), subject.fillers, x)
    return inputs, x


def _input(column: str) -> str:
    """Return the name of the input for a raw column, distinct from those of outputs."""
    return f"{column} " if column in ("y", "label", "probabilities", "scores") else column


def _add_feature(graph: Graph, rule: Cell, subject: Export) -> str:
    """Add a feature (batch, 1) of a raw column."""
    column, kind, dtype = _input(rule.column), subject.columns[rule.column], graph.dtype
    schema = subject.model.schema
    if kind == "text":
        codes = dict.fromkeys(rule.content, 1.0) | dict.fromkeys(blank_texts(schema), rule.blank)
        table: dict[str, Any] = {"keys_strings": [*codes], "values_floats": [*codes.values()]}
        value = graph.add("LabelEncoder", column, domain=ML, default_float=0.0, **table)
        return graph.cast(value, dtype)
    graph.dtype = np.dtype(np.float64) if kind == "date" else dtype
    value = graph.unmarked(column, schema)
    if rule.kind == "date":
        value = graph.function(date_part(rule.content[0], sympy.Symbol("u")), value)
    elif rule.kind == "text":
        value = graph.add("IsNaN", value)
    graph.dtype = dtype
    return graph.cast(value, dtype)


def _run(subject: Export, path: Path) -> list[Array]:
    """Run a graph, first on an empty batch."""
    runtime = optional_module("onnxruntime", call="export", extra="export")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    dtype = str(subject.model.dtype).removeprefix("torch.")
    kinds: dict[str, Any] = {"text": object, "date": np.float64, "number": dtype}
    columns = {}
    for name, kind in subject.columns.items():
        cells = ["" if kind == "text" and cell is None else cell for cell in subject.cells[name]]
        columns[_input(name)] = np.array(cells, dtype=kinds[kind])[:, None]
    feed = {"x": np.concatenate([*columns.values()], axis=1)} if _whole(subject) else columns
    none, every = (
        session.run(None, {name: x[rows] for name, x in feed.items()})
        for rows in (slice(0), slice(None))
    )
    return [np.concatenate(pair) for pair in zip(none, every, strict=True)]


def _add_scores(graph: Graph, subject: Export, x: str) -> str:
    """Add the scores (batch, out, in); the graph stays in float64."""
    dtype, graph.dtype = graph.dtype, np.dtype(np.float64)
    layers, add = subject.description.layers, graph.add
    ours = _levels(graph, subject, graph.cast(x, graph.dtype))
    theirs = _levels(graph, subject, subject.reference)
    slopes = graph.constant(np.diag(subject.description.scaling[5])[None])  # (1, out, node)
    for index in reversed(range(len(layers))):
        layer, (u, sums), (v, others) = layers[index], ours[index], theirs[index]
        slopes = _through_nodes(graph, layer, slopes, sums, others)
        if index:
            close = add("Less", add("Abs", add("Sub", u, v)), SAME)
            u = add("Where", close, add("Add", v, SAME), u)
        rises = add("Sub", _edges(graph, layer, u), _edges(graph, layer, v))
        if index:
            rises = add("Div", rises, add("Unsqueeze", add("Sub", u, v), [1]))
        slopes = add("MatMul", slopes, rises)
    return graph.cast(slopes, dtype, name="scores")


def _levels(graph: Graph, subject: Export, x: str | Array) -> list[tuple[str, str]]:
    """Add a forward pass; return inputs and sums of every layer, then the last nodes."""
    u, levels = graph.scaled(x, subject.description.scaling[:4]), []
    for layer in subject.description.layers:
        levels.append((u, graph.sums(u, layer)))
        u = graph.nodes_of(levels[-1][1], layer)
    return [*levels, (u, "")]


def _edges(graph: Graph, layer: Layer, u: str) -> str:
    """Add the values of all edges, (batch, out, in)."""
    add, parts = graph.add, []
    if layer.splines:
        columns = add("Transpose", graph.splines(u, layer.splines), perm=[1, 0, 2])
        values = add("MatMul", columns, layer.splines.matrix)  # (in, batch, out)
        parts.append(add("Transpose", values, perm=[1, 2, 0]))
    for terms in layer.terms:
        values = add("Mul", add("Unsqueeze", graph.columns(u, terms), [1]), terms.weights.T)
        parts.append(add("MatMul", values, terms.inputs[:, None] == np.arange(layer.width)))
    zeros = np.zeros((len(layer.bias), layer.width))
    return graph.fold("Add", [*parts, add("Mul", add("Unsqueeze", u, [1]), zeros)])


def _through_nodes(graph: Graph, layer: Layer, slopes: str, ours: str, theirs: str) -> str:
    """Convert slopes by nodes to slopes by sums, with Shapley values for products."""
    add, rates = graph.add, []
    for members, scale in zip(layer.members, layer.scale, strict=True):
        here, there = ([add("Gather", row, [k], axis=1) for k in members] for row in (ours, theirs))
        places, weights = np.polynomial.legendre.leggauss((len(members) + 1) // 2)
        for factor in range(len(members)):
            parts = [add("Mul", add("Mul", here[factor], 0.0), 0.0)]
            for place, weight in zip(places, weights, strict=True):
                between = [
                    add("Add", add("Mul", u, (1 + place) / 2), add("Mul", v, (1 - place) / 2))
                    for k, (u, v) in enumerate(zip(here, there, strict=True))
                    if k != factor
                ]
                parts.append(graph.fold("Mul", [*between, weight / 2 * scale]))
            rates.append(graph.fold("Add", parts))
    owners = np.repeat(np.arange(len(layer.members)), [*map(len, layer.members)])
    spread = add("Gather", slopes, owners, axis=2)
    return add("Mul", spread, add("Unsqueeze", add("Concat", *rates, axis=1), [1]))


ONNX = Format(name="onnx", ending=".onnx", write=_write, run=_run, single=True, explains=True)
