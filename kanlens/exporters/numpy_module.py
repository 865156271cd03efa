"""A Python module that needs NumPy alone."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import sympy

from kanlens.exporters.dialects import NUMPY, formula
from kanlens.exporters.subject import Description, Format, Layer, Subject
from kanlens.functions.elementary import Array

_TEXT = '''"""{title}.

predict(x) takes rows (batch, in) of FEATURES, one-hot features as zeros and ones, in the units of
the data, and returns (batch, out); of a classifier, logits. It needs NumPy alone.
"""

import math

import numpy as np
from numpy import array, inf

erf = np.vectorize(math.erf, otypes=[float])
FEATURES = {features}
OUTPUTS = {outputs}
FUNCTIONS = {{{functions}}}
SCALING = {scaling}
LAYERS = {layers}
CHECK_X = {check_x}
CHECK_Y = {check_y}


def predict(x):
    """Return the outputs (batch, out) of rows (batch, in)."""
    x = np.asarray(x, dtype=float)
    if x.ndim != 2 or x.shape[1] != len(FEATURES):
        shape = f"(batch, {{len(FEATURES)}})"
        raise ValueError(f"predict: expected x of shape {{shape}}, got {{x.shape}}.")
    low, high, shift, scale, output_shift, output_scale = SCALING
    u = (np.clip(x, low, high) - shift) / scale
    with np.errstate(all="ignore"):
        for layer in LAYERS:
            u = _layer(u, *layer)
    return u * output_scale + output_shift


def check():
    """Return the largest difference from what the model says of CHECK_X."""
    return float(np.max(np.abs(predict(CHECK_X) - CHECK_Y)))


def _layer(u, bias, splines, terms, members, scale, shift):
    y = np.tile(bias, (len(u), 1))
    if splines:
        y += _splines(u[:, :, None], *splines)
    for g, inputs, a, b, weights in terms:
        y += FUNCTIONS[g](a * u[:, inputs] + b) @ weights
    return np.stack([y[:, one].prod(1) for one in members], axis=1) * scale + shift


def _splines(u, breaks, degree, matrix):
    """Add up what every piece rises by, from its start to its end or to u."""
    below, above = np.minimum(u - breaks[:, :1], 0.0), np.maximum(u - breaks[:, -1:], 0.0)
    inside = np.clip(u - breaks[:, :-1], 0.0, np.diff(breaks, axis=1))
    powers = [inside**power for power in range(1, degree + 1)]
    columns = np.concatenate([below, above, *powers], axis=2).reshape(len(u), -1)
    return columns @ matrix


if __name__ == "__main__":
    print("largest difference from the model:", check())
'''


def _write(subject: Subject, path: Path) -> None:
    description = subject.description
    x, y = subject.shown()
    text = _TEXT.format(
        title=subject.title,
        features=list(description.features),
        outputs=list(description.outputs),
        functions=_functions(description),
        scaling=_literal(description.scaling),
        layers=_literal([_layer(layer) for layer in description.layers]),
        check_x=_literal(x),
        check_y=_literal(y),
    )
    path.write_text(text, encoding="utf-8")


def _functions(description: Description) -> str:
    u = sympy.Symbol("u")
    texts = {name: NUMPY.text(formula(g, u)) for name, g in description.functions.items()}
    return ", ".join(f"{name!r}: lambda u: {text}" for name, text in texts.items())


def _layer(layer: Layer) -> list[Any]:
    """Return what the written _layer takes."""
    splines: Any = layer.splines
    if splines:
        splines = splines.breaks, splines.degree, np.concatenate(splines.matrix)
    terms = [(one.g.name, one.inputs, one.a, one.b, one.weights) for one in layer.terms]
    return [layer.bias, splines, terms, layer.members, layer.scale, layer.shift]


def _literal(value: Any) -> str:
    """Write nested arrays as Python reads them, to the last digit."""
    if isinstance(value, np.ndarray):
        return f"array({value.tolist()})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def load_module(path: Path) -> Any:
    """Return what a file of Python defines; no bytecode is left beside it."""
    return SimpleNamespace(**runpy.run_path(str(path)))


def _run(subject: Subject, path: Path) -> list[Array]:
    return [load_module(path).predict(subject.rows)]


NUMPY_MODULE = Format(name="numpy", ending=".py", write=_write, run=_run)
