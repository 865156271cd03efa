"""What a page needs to run the model itself: its numbers, one control per column, rows to check."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from kanlens.data.schema import Feature, choices
from kanlens.errors import MethodError
from kanlens.exporters import subject as exported
from kanlens.exporters.dialects import JAVASCRIPT, formula
from kanlens.functions.elementary import Array
from kanlens.model.network import KAN
from kanlens.plain_json import to_plain
from kanlens.reporting.subject import Subject

MOST_FEATURES = 60
MOST_TEXT = 2_000_000  # characters of a network's numbers
EDGE_TEXT = 100  # characters that an edge has at least
TOO_LARGE = f"the model's numbers are more than {MOST_TEXT // 1_000_000} MB"
CHECKED = [0, exported.RANDOM, exported.RANDOM + 2, -4, -3, -2, -1]  # see exported.Export.frame
POSITIONS = 200  # of a slider


def build_panel(subject: Subject, picks: Sequence[int]) -> dict[str, Any]:
    """Return a panel as plain JSON types; one that has to be left out says in "left_out" why.

    "network" is what exporters know of the model, "functions" are its elementary functions in
    JavaScript, "controls" are one per column, "reference" and "rows" (those at `picks`) what they
    are set to, and "check" has rows and what the model says of them in float64.
    """
    try:
        network, functions, check = _computed(subject.model)
    except (MethodError, _LeftOut) as error:
        return {"left_out": str(error), "functions": {}}
    x = subject.x.double().cpu().numpy()
    controls = [_control(x, features, columns) for features, columns in _columns(subject.model)]
    reference = np.empty(x.shape[1])
    for control in controls:
        reference[control["columns"]] = control["start"]
    panel = {
        "left_out": "",
        "labels": subject.labels,
        "outputs": [{"name": one.name, "unit": one.unit} for one in subject.model.schema.outputs],
        "target": subject.target,
        "network": network,
        "functions": functions,
        "controls": controls,
        "reference": reference,
        "rows": x[list(picks)],
        "check": check,
    }
    plain: dict[str, Any] = to_plain(panel)
    return plain


class _LeftOut(Exception):
    """Why a page has no panel."""


def _computed(model: KAN) -> tuple[Any, dict[str, str], dict[str, Array]]:
    """Return a network, its functions and rows to check it by; refuse what a page cannot hold."""
    if len(model.feature_names) > MOST_FEATURES:
        got = f"the model has {len(model.feature_names)} features"
        raise _LeftOut(f"{got}, and a page has controls for at most {MOST_FEATURES}")
    if model.edges_alive * EDGE_TEXT > MOST_TEXT:
        raise _LeftOut(TOO_LARGE)
    whole = exported.Export(model=model, path=Path())
    functions = {}
    for name, g in whole.description.functions.items():
        try:
            functions[name] = JAVASCRIPT.text(formula(g, sympy.Symbol("u")))
        except MethodError:
            raise _LeftOut(f"a page cannot compute the function {g.name}") from None
    layers = [_layer(layer) for layer in whole.description.layers]
    network = to_plain({"scaling": whole.description.scaling, "layers": layers})
    if len(json.dumps(network)) > MOST_TEXT:
        raise _LeftOut(TOO_LARGE)
    rows = whole.rows[CHECKED]
    y = exported.predicted(whole.exact, rows)
    known = np.isfinite(y).all(1)
    if not known.any():
        raise _LeftOut("the model has no value on any of the rows that a page is checked with")
    return network, functions, {"x": rows[known], "y": y[known]}


def _layer(layer: exported.Layer) -> dict[str, Any]:
    """Return a layer as a page computes it: the first constant of every spline is in the bias."""
    splines, powers = layer.splines, None
    if splines is not None:
        powers = splines.powers.copy()
        powers[:, :, 0] -= splines.powers[:, :1, 0]
    return {
        "bias": layer.bias,
        "breaks": splines and splines.breaks,
        "powers": powers,
        "terms": [
            {"g": one.g.name} | {key: getattr(one, key) for key in ("inputs", "a", "b", "weights")}
            for one in layer.terms
        ],
        "members": layer.members,
        "scale": layer.scale,
        "shift": layer.shift,
    }


def _columns(model: KAN) -> list[tuple[list[Feature], list[int]]]:
    """Return features and places of every choice or number, one-hot features and marks together."""
    found: dict[str, tuple[list[Feature], list[int]]] = {}
    for index, feature in enumerate(model.schema.features):
        own = feature.category is None and feature.kind != "missing"
        name = feature.name if own else feature.column
        features, columns = found.setdefault(name, ([], []))
        features.append(feature)
        columns.append(index)
    return list(found.values())


def _control(x: Array, features: Sequence[Feature], columns: list[int]) -> dict[str, Any]:
    """Describe a choice or a number, and where it starts: the most frequent or the median."""
    first, values = features[0], x[:, columns]
    name = first.name if first.category is None and first.kind != "missing" else first.column
    shared = {"name": name, "unit": first.unit, "columns": columns}
    blank = [first.filler or 0.0, 1.0]  # a number and the mark of its missing cells
    if first.category is not None:
        labels, codes = choices(features)
    elif first.kind == "binary":
        labels, codes = ("0", "1"), [[0.0], [1.0]]
        if len(features) == 2:
            labels, codes = ("0", "1", "missing"), [[0.0, 0.0], [1.0, 0.0], blank]
    elif first.kind == "missing":  # of a date
        labels, codes = ("known", "missing"), [[0.0], [1.0]]
    elif len(features) == 2:
        known = values[values[:, 1] == 0, 0]
        slider = _slider(known if len(known) else values[:, 0])
        return shared | slider | {"start": [*slider["start"], 0.0], "blank": blank}
    else:
        return shared | _slider(values[:, 0])
    counts = [(values == np.array(code)).all(1).sum() for code in codes]
    return shared | {"labels": labels, "codes": codes, "start": codes[int(np.argmax(counts))]}


def _slider(values: Array) -> dict[str, Any]:
    """Describe a slider over the range of a column, and the decimals of its steps."""
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
