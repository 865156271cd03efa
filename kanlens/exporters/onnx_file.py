"""ONNX files: a graph with its inputs and outputs, and onnxruntime to run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kanlens.checks import optional_module
from kanlens.exporters.onnx_explanation import add_scores
from kanlens.exporters.onnx_graph import Graph
from kanlens.exporters.subject import Format, Subject
from kanlens.functions.elementary import Array
from kanlens.outputs import to_plain

OPSET, IR_VERSION = 17, 8


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
        sizes[add_scores(graph, subject)] = ["batch", len(shift), x.shape[1]]
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


ONNX = Format(name="onnx", ending=".onnx", write=_write, run=_run, single=True, explains=True)
