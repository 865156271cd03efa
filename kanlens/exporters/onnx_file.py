"""ONNX files: the graph of a model, and what each feature did as a second output.

These are the secants of `kanlens.attribute`, in float64. Between a row and the reference every edge
has a slope; the products of the slopes on all paths from a feature, times its step, are its share
of the change of an output. Of one layer, these are the edges' own differences.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from kanlens.checks import optional_module
from kanlens.exporters.description import Layer
from kanlens.exporters.onnx_graph import Graph
from kanlens.exporters.subject import Format, Subject
from kanlens.functions.elementary import Array
from kanlens.outputs import to_plain

OPSET, IR_VERSION = 17, 8
SAME = 1e-7  # inputs closer than this have the slope of a step of this size


def _write(subject: Subject, path: Path) -> None:
    description, onnx = subject.description, optional_module("onnx", call="export", extra="export")
    graph = Graph(onnx, str(subject.model.dtype).removeprefix("torch."))
    kind = onnx.helper.np_dtype_to_tensor_dtype(graph.dtype)
    u = graph.scaled("x", description.scaling[:4])
    for layer in description.layers:
        u = graph.nodes_of(graph.sums(u, layer), layer)
    shift, scale = description.scaling[4:]
    graph.add("Add", graph.add("Mul", u, scale), shift, name="y")
    sizes = {"y": ["batch", len(shift)]}
    x, y = subject.shown()
    facts: dict[str, Any] = {"features": description.features, "outputs": description.outputs}
    facts |= {"check_x": x, "check_y": y}
    if subject.explain:
        facts["reference"] = subject.reference
        sizes[_add_scores(graph, subject)] = ["batch", len(shift), x.shape[1]]
    value = onnx.helper.make_tensor_value_info
    inputs = [value("x", kind, ["batch", x.shape[1]])]
    outputs = [value(name, kind, size) for name, size in sizes.items()]
    made = onnx.helper.make_graph(graph.nodes, "kan", inputs, outputs, graph.constants)
    versions = {"opset_imports": [onnx.helper.make_opsetid("", OPSET)], "ir_version": IR_VERSION}
    model = onnx.helper.make_model(made, doc_string=subject.title, **versions)
    texts = {name: json.dumps(to_plain(fact)) for name, fact in facts.items()}
    onnx.helper.set_model_props(model, texts)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _run(subject: Subject, path: Path) -> list[Array]:
    runtime = optional_module("onnxruntime", call="export", extra="export")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = subject.rows.astype(str(subject.model.dtype).removeprefix("torch."))
    found: list[Array] = session.run(None, {"x": x})
    return found


def _add_scores(graph: Graph, subject: Subject) -> str:
    """Add the scores (batch, out, in) of the graph's x; the graph is in float64 from now on."""
    kept, graph.dtype = graph.dtype, np.dtype(np.float64)
    layers, add = subject.description.layers, graph.add
    ours = _levels(graph, subject, graph.cast("x", graph.dtype))
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
    return graph.cast(slopes, kept, name="scores")


def _levels(graph: Graph, subject: Subject, x: Any) -> list[tuple[str, str]]:
    """Add a pass through the network; return inputs and sums of every layer."""
    u, found = graph.scaled(x, subject.description.scaling[:4]), []
    for layer in subject.description.layers:
        found.append((u, graph.sums(u, layer)))
        u = graph.nodes_of(found[-1][1], layer)
    return found


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
    """Turn slopes by nodes (batch, out, node) into slopes by sums (batch, out, sum).

    The factors of a product share its change by their Shapley values: the mean, on the line from
    the one point to the other, of the product of the others.
    """
    add, rates = graph.add, []
    for members, scale in zip(layer.members, layer.scale, strict=True):
        here, there = ([add("Gather", one, [k], axis=1) for k in members] for one in (ours, theirs))
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
    owners = np.repeat(np.arange(len(layer.members)), [len(one) for one in layer.members])
    spread = add("Gather", slopes, owners, axis=2)
    return add("Mul", spread, add("Unsqueeze", add("Concat", *rates, axis=1), [1]))


ONNX = Format(name="onnx", ending=".onnx", write=_write, run=_run, single=True, explains=True)
