"""A Python module that needs NumPy alone."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import sympy

from kanlens.exporters._cells import blank_texts, date_part
from kanlens.exporters._dialects import NUMPY, formula
from kanlens.exporters._exported_model import Export, Format, Layer, rendered
from kanlens.functions._elementary import Array

U = sympy.Symbol("u")


def _write(subject: Export, path: Path) -> None:
    description = subject.description
    x, y = subject.examples()
    parts = [rule.content[0] for rule in subject.rules if rule.kind == "date"]
    text = rendered(
        "module.py.j2",
        title=subject.title,
        features=list(description.features),
        outputs=list(description.outputs),
        classes=list(subject.classes),
        functions=_lambdas({name: formula(g, U) for name, g in description.functions.items()}),
        cells=_literal(subject.rules),
        blanks=blank_texts(subject.model.schema),
        dates=_lambdas({part: date_part(part, U) for part in parts}),
        fillers=_literal(subject.fillers),
        scaling=_literal(description.scaling),
        layers=_literal([_layer(layer) for layer in description.layers]),
        check_x=_literal(x),
        check_y=_literal(y),
    )
    path.write_text(text, encoding="utf-8")


def _lambdas(expressions: Mapping[str, Any]) -> str:
    """Write expressions of u by name."""
    texts = {name: NUMPY.text(expression) for name, expression in expressions.items()}
    return f"{{{', '.join(f'{name!r}: lambda u: {text}' for name, text in texts.items())}}}"


def _layer(layer: Layer) -> list[Any]:
    """Return the arguments for the function _layer in the module."""
    pieces = layer.splines
    splines = pieces and (pieces.breaks, pieces.degree, np.concatenate(pieces.matrix))
    terms = [(t.g.name, t.inputs, t.a, t.b, t.weights) for t in layer.terms]
    return [layer.bias, splines, terms, layer.members, layer.scale, layer.shift]


def _literal(value: object) -> str:
    """Write nested arrays as Python reads them, to the last digit."""
    if isinstance(value, np.ndarray):
        return f"array({value.tolist()})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def load_module(path: Path) -> Any:
    """Return the names that a file of Python defines; no bytecode is written."""
    return SimpleNamespace(**runpy.run_path(str(path)))


def _run(subject: Export, path: Path) -> list[Array]:
    """Run a module on rows and on raw columns, after an empty batch."""
    module = load_module(path)
    calls = [module.predict_proba, module.predict_label] if subject.classes else [module.predict]
    return [
        np.concatenate([call(x[:0]), call(x)])
        for call in calls
        for x in (subject.rows, subject.frame)
    ]


NUMPY_MODULE = Format(name="numpy", ending=".py", write=_write, run=_run)
