"""Data with which a page runs the model: weights, controls, checks."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor

from kanlens._plain_json import to_plain
from kanlens.data._schema import Feature, choices
from kanlens.errors import MethodError
from kanlens.exporters import _exported_model as exported
from kanlens.exporters._dialects import JAVASCRIPT, Layer, describe, formula
from kanlens.functions._elementary import Array
from kanlens.model._analysis import float64_copy
from kanlens.model._conversion import expand_normalization
from kanlens.model._held_out import conformal_widths, interval_ends
from kanlens.model._network import KAN
from kanlens.model._statistics import EXPECTED
from kanlens.reporting._report_data import Subject

MAX_FEATURES = 60
LEVEL = 0.9  # of intervals
MAX_CHARACTERS = 2_000_000  # characters of a network's numbers
EDGE_TEXT = 100  # least characters of an edge's numbers
TOO_LARGE = f"the weights of the model take more than {MAX_CHARACTERS // 1_000_000} MB"
CHECKED = [0, exported.RANDOM, exported.RANDOM + 2, -4, -3, -2, -1]  # of exported.sample_rows
POSITIONS = 200  # of a slider
TERM = ("inputs", "a", "b", "weights")


def build_panel(subject: Subject, picks: Sequence[int]) -> dict[str, Any]:
    """Return a panel as plain JSON types, or the reason in "left_out".

    "network" and "functions" (in JavaScript) are the model as exporters write it, "controls" one
    per column, "reference" and "rows" (at `picks`) values of all features, "check" rows with the
    outputs of the model in float64, "widths" half of each 90% interval, or the least probability
    in a set of classes, if rows were held out, "ends" the outputs that intervals start from, and
    "support" the rows and ranges that show which values lie outside the data.
    """
    try:
        network, functions, check = _computed(subject.model)
    except (MethodError, _LeftOut) as error:
        return {"left_out": str(error), "functions": {}}
    x = subject.x.double().cpu().numpy()
    groups: dict[str, tuple[list[Feature], list[int]]] = {}
    for index, feature in enumerate(subject.model.schema.features):
        features, columns = groups.setdefault(_name(feature), ([], []))
        features.append(feature)
        columns.append(index)
    controls = [_control(x, features, columns) for features, columns in groups.values()]
    reference = np.empty(x.shape[1])
    for control in controls:
        reference[control["columns"]] = control["start"]
    loss, names = subject.model.loss, subject.model.output_names
    panel = {
        "left_out": "",
        "labels": subject.labels,
        "outputs": [
            {"name": name, "unit": subject.model.output_unit(index)}
            for index, name in enumerate(names)
        ],
        "response": loss.scale.removeprefix("log ") * loss.log,
        "ordered": bool(loss.levels),
        "ends": interval_ends(loss, len(names), LEVEL),
        "support": _support(subject.model),
        "target": subject.target,
        "network": network,
        "functions": functions,
        "controls": controls,
        "reference": reference,
        "rows": x[list(picks)],
        "check": check,
        "widths": _widths(subject.model, subject.x[:1]),
    }
    plain: dict[str, Any] = to_plain(panel)
    return plain


def _widths(model: KAN, row: Tensor) -> list[float] | None:
    try:
        widths = conformal_widths(model, row, LEVEL, None, call="report")[0]
    except MethodError:
        return None
    return (1 - widths if model.task == "classification" else widths).tolist()


def _support(model: KAN) -> dict[str, Any]:
    """Return the ranges and rows by which `kanlens.predict` finds values outside the data."""
    held = model.input_low.isfinite() & model.input_high.isfinite()
    domain = (end * model.input_scale + model.input_shift for end in model.layers[0].domain())
    ends = zip((model.input_low, model.input_high), domain, strict=True)
    columns, rows = model.schema.places, model.background
    return {
        "range": [torch.where(held, *pair).tolist() for pair in ends],
        "names": [*columns],
        "places": [*columns.values()],
        "rows": [] if rows is None or len(rows) < 4 * EXPECTED + 1 else rows.tolist(),
        "expected": EXPECTED,
    }


class _LeftOut(Exception):
    """The reason why a page has no panel."""


def _computed(model: KAN) -> tuple[Any, dict[str, str], dict[str, Array]]:
    """Return the network as JSON, its functions in JavaScript, and rows to check the page by."""
    if len(model.feature_names) > MAX_FEATURES:
        got = f"the model has {len(model.feature_names)} features"
        raise _LeftOut(f"{got}, and a page has controls for at most {MAX_FEATURES}")
    if model.edges_alive * EDGE_TEXT > MAX_CHARACTERS:
        raise _LeftOut(TOO_LARGE)
    exact = expand_normalization(float64_copy(model)).cpu()
    description, functions = describe(exact), {}
    for name, g in description.functions.items():
        try:
            functions[name] = JAVASCRIPT.text(formula(g, sympy.Symbol("u")))
        except MethodError:
            raise _LeftOut(f"a page cannot compute the function {g.name}") from None
    layers = [_layer(layer) for layer in description.layers]
    network = to_plain({"scaling": description.scaling, "layers": layers})
    if len(json.dumps(network)) > MAX_CHARACTERS:
        raise _LeftOut(TOO_LARGE)
    rows = exported.sample_rows(exact)[CHECKED]
    y = exported.predicted(exact, rows)
    finite = np.isfinite(y).all(1)
    if not finite.any():
        raise _LeftOut("the model is not finite on any of the rows that the page is checked with")
    return network, functions, {"x": rows[finite], "y": y[finite]}


def _layer(layer: Layer) -> dict[str, Any]:
    """Return a layer for a page, with constants of splines in the bias."""
    splines, powers = layer.splines, None
    if splines is not None:
        powers = splines.powers.copy()
        powers[:, :, 0] -= splines.powers[:, :1, 0]
    return {
        "bias": layer.bias,
        "breaks": splines and splines.breaks,
        "powers": powers,
        "terms": [
            {"g": term.g.name, **{key: getattr(term, key) for key in TERM}} for term in layer.terms
        ],
        "members": layer.members,
        "scale": layer.scale,
        "shift": layer.shift,
    }


def _name(feature: Feature) -> str:
    """Return the name of a control, shared by features of one column."""
    own = feature.category is None and feature.kind != "missing"
    return feature.name if own else feature.column


def _control(x: Array, features: Sequence[Feature], columns: list[int]) -> dict[str, Any]:
    """Describe the control of a column, and its most typical value."""
    first, values = features[0], x[:, columns]
    shared = {"name": _name(first), "unit": first.unit, "columns": columns}
    blank = [first.filler or 0.0, 1.0]  # the number, and the indicator of missing cells
    if first.category is not None:
        labels, codes = choices(features)
    elif first.kind == "binary":
        labels, codes = ("0", "1"), [[0.0], [1.0]]
        if len(features) == 2:
            labels, codes = ("0", "1", "missing"), [[0.0, 0.0], [1.0, 0.0], blank]
    elif first.kind == "missing":  # of a date
        labels, codes = ("known", "missing"), [[0.0], [1.0]]
    elif len(features) == 2:
        present = values[values[:, 1] == 0, 0]
        slider = _slider(present if len(present) else values[:, 0])
        return shared | slider | {"start": [*slider["start"], 0.0], "blank": blank}
    else:
        return shared | _slider(values[:, 0])
    counts = [(values == np.array(code)).all(1).sum() for code in codes]
    return shared | {"labels": labels, "codes": codes, "start": codes[int(np.argmax(counts))]}


def _slider(values: Array) -> dict[str, Any]:
    """Describe a slider over the range of a column."""
    low, *marks, high = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
    width = high - low
    whole = bool((values == values.round()).all())
    places = 0 if whole or not width else int(np.clip(2 - math.floor(math.log10(width)), 0, 100))
    return {
        "low": low,
        "high": high,
        "marks": [(value - low) / width for value in marks] if width else None,
        "shown": [
            int(value) if whole and value.is_integer() else value for value in (low, *marks, high)
        ],
        "places": places,
        "steps": int(width) if whole and width <= POSITIONS else POSITIONS,
        "start": [round(marks[1], places) if width else low],
    }
