"""What a page is told of a model is the model, and what it cannot compute is left out in words."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.data._schema import class_schema
from kanlens.data._table_reader import read_table
from kanlens.exporters._dialects import JAVASCRIPT
from kanlens.exporters._exported_model import Export as Exported
from kanlens.exporters._exported_model import predicted
from kanlens.functions._catalog import find_function
from kanlens.model._network import KAN
from kanlens.reporting import _what_if_data as what_if
from kanlens.reporting._report import render_page
from kanlens.reporting._report_data import read_subject
from kanlens.reporting._what_if_data import build_panel
from tests.exporters.conftest import MAKERS, build
from tests.made import draw, made
from tests.reporting.conftest import network
from tests.reporting.page import Page
from tests.reporting.test_html import pictures

ROW = list[float]


def panel_of(model: KAN, x: Any = None) -> dict[str, Any]:
    rows = draw(30, model.widths[0]).to(model.input_shift) if x is None else x
    return build_panel(read_subject(model, rows, 0), [3, 5])


def clamped(value: float, low: float | None, high: float | None) -> float:
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


def layer_of(layer: dict[str, Any], u: ROW) -> ROW:
    sums = list(layer["bias"])
    for out in range(len(sums)):
        for value, cuts, pieces in zip(
            u, layer["breaks"] or (), layer["powers"] or (), strict=False
        ):
            piece = sum(value >= cut for cut in cuts)
            t = value - cuts[max(piece - 1, 0)]
            sums[out] += sum(row[out] * t**power for power, row in enumerate(pieces[piece]))
        for terms in layer["terms"]:
            g = find_function(terms["g"])
            for k, i in enumerate(terms["inputs"]):
                inner = torch.tensor(terms["a"][k] * u[i] + terms["b"][k], dtype=torch.float64)
                sums[out] += float(g.value(inner)) * terms["weights"][k][out]
    nodes = zip(layer["members"], layer["scale"], layer["shift"], strict=True)
    return [math.prod(sums[m] for m in members) * scale + shift for members, scale, shift in nodes]


def transcribed(told: dict[str, Any], x: ROW) -> ROW:
    """What page.js does, one number after the other."""
    low, high, shift, scale, out_shift, out_scale = told["scaling"]
    u = [(clamped(v, low[i], high[i]) - shift[i]) / scale[i] for i, v in enumerate(x)]
    for layer in told["layers"]:
        u = layer_of(layer, u)
    return [v * b + a for v, a, b in zip(u, out_shift, out_scale, strict=True)]


def normalized() -> KAN:
    return made([3, 4, 2], normalized=[4, 0], scaled_nodes=True)


def base(name: str) -> KAN:
    return KAN([2, 3, 1], base_activation=name, generator=torch.Generator().manual_seed(0)).double()


MODELS: dict[str, Callable[[], KAN]] = {
    **{name: lambda name=name: build(name) for name in MAKERS},
    "normalized": normalized,
    "gelu": lambda: base("gelu"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow  # many cases
def test_what_a_page_is_told_is_the_model(name: str) -> None:
    model = MODELS[name]()
    told = json.loads(json.dumps(panel_of(model), allow_nan=False))
    rows = Exported(model=model, path=None).rows[::3]  # beside knots, at both ends and beyond
    y = predicted(model, rows)
    found = np.array([transcribed(told["network"], row) for row in rows.tolist()])
    assert np.abs(found - y).max() <= 1e-12 * np.abs(y).max()
    wrong = told["network"] | {"layers": told["network"]["layers"][::-1]}
    if len({len(layer["bias"]) for layer in wrong["layers"]}) == 1:
        assert transcribed(wrong, rows[0].tolist()) != pytest.approx(y[0])


def test_rows_to_check_by_are_at_knots_at_ends_and_beyond() -> None:
    model = build("held")
    check = panel_of(model)["check"]
    low, high = (end.tolist() for end in model.feature_range)
    cuts = (model.layers[0].breakpoints().mT * model.input_scale + model.input_shift).tolist()
    assert low in check["x"]
    assert high in check["x"]
    assert sum(row in cuts for row in check["x"]) == 2
    assert any(value < end for value, end in zip(check["x"][-2], low, strict=True))
    assert any(value > end for value, end in zip(check["x"][-1], high, strict=True))
    assert check["y"] == predicted(model, np.array(check["x"])).tolist()


def test_widths_are_those_of_intervals_and_sets() -> None:
    x, y = draw(30, 2), draw(30, 1)[:, 0]
    for target in (y, (y > y.median()).long()):
        model = network([2, 1])
        if target is not y:
            features = model.schema.features
            model.schema = dataclasses.replace(class_schema("y", ("u", "v")), features=features)
        assert panel_of(model, x)["widths"] is None
        kanlens.calibrate(model, (x, target))
        (width,) = panel_of(model, x)["widths"]
        frame = kanlens.predict(model, x, interval=0.9)
        if target is y:
            assert (frame["y high"] - frame["y"]).tolist() == pytest.approx([width] * 30)
        else:
            sets = frame.filter(like="in set").to_numpy()
            assert ((frame.filter(like="probability").to_numpy() >= width) == sets).all()


def test_outputs_are_log_odds_against_a_class_without_edges() -> None:
    model = network([2, 3])
    features = model.schema.features
    model.schema = dataclasses.replace(class_schema("y", ("u", "v", "w")), features=features)
    assert {output["unit"] for output in panel_of(model)["outputs"]} == {"log-odds"}
    with torch.no_grad():
        model.layers[0].mask[1] = 0.0
    units = {output["unit"] for output in panel_of(model)["outputs"]}
    assert units == {"log-odds against class v"}


def controls(frame: pd.DataFrame, impute: Any = None) -> list[dict[str, Any]]:
    table = read_table(frame, target="y", impute=impute)
    model = network([len(table.feature_names), 1])
    model.schema = table.schema
    return build_panel(read_subject(model, table, None), [0])["controls"]


def test_a_column_is_one_control() -> None:
    frame = pd.DataFrame(
        {
            "size": [0.0, 1.0, 2.5, 4.25, 10.0, 3.125],
            "rooms": [1, 2, 3, 4, 5, 5],
            "kind": ["a", "b", "c", "b", "b", "a"],
            "new": ["no", "yes", "no", "no", "no", "yes"],
            "flag": [0, 1, 0, 0, 1, 1],
            "y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.5],
        }
    )
    size, rooms, kind, new, flag = controls(frame)
    assert (size["low"], size["high"], size["places"], size["steps"]) == (0, 10, 1, 200)
    assert size["start"] == [2.8]  # the median, 2.8125, to the decimals of a step
    assert (rooms["places"], rooms["steps"], rooms["shown"][-1]) == (0, 4, 5)
    assert kind["columns"] == [2, 3, 4]
    assert kind["codes"] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert kind["labels"] == ["a", "b", "c"]
    assert kind["start"] == [0, 1, 0]
    assert (new["labels"], new["codes"], new["start"]) == (["no", "yes"], [[0], [1]], [0])
    assert (flag["labels"], flag["codes"]) == (["0", "1"], [[0], [1]])


def test_missing_cells_are_a_state_of_their_column() -> None:
    frame = pd.DataFrame(
        {
            "size": [0.0, None, 2.5, 4.25, 10.0, 3.125],
            "flag": [0, 1, None, 0, 1, 1],
            "kind": ["a", "b", "c", None, "b", "a"],
            "day": ["2020-01-01", None, "2020-01-03", "2020-02-01", "2020-02-02", "2020-02-03"],
            "y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.5],
        }
    )
    size, flag, kind, *parts, day = controls(frame)
    assert (size["columns"], size["start"], size["blank"]) == ([0, 1], [3.1, 0], [3.125, 1])
    assert (size["low"], size["high"]) == (0, 10)
    assert (flag["labels"], flag["codes"]) == (["0", "1", "missing"], [[0, 0], [1, 0], [1, 1]])
    assert kind["labels"] == ["a", "b", "c", "missing"]
    assert kind["codes"] == np.eye(4).tolist()
    assert [one["name"] for one in parts] == ["day.month", "day.weekday", "day.days"]
    assert (day["name"], day["labels"], day["codes"]) == ("day", ["known", "missing"], [[0], [1]])


@pytest.mark.parametrize("impute", ["mean", "median", "most_frequent"])
def test_a_category_that_replaces_missing_cells_is_no_number(impute: Any) -> None:
    frame = pd.DataFrame({"town": ["Oslo", "Rome", "Bern", "Rome", None], "y": [1.0, 2, 3, 2, 2]})
    (town,) = controls(frame, impute)
    assert town["labels"] == ["Bern", "Oslo", "Rome"]
    assert town["start"] == [0, 0, 1]


def test_a_constant_column_has_no_slider() -> None:
    model = network([2, 1])
    x = torch.tensor([[0.5, 1.0], [0.5, 2.0], [0.5, 3.0]], dtype=torch.float64)
    one = build_panel(read_subject(model, x, None), [0])["controls"][0]
    assert (one["marks"], one["start"]) == (None, [0.5])


def test_a_row_is_that_of_the_data() -> None:
    x = draw(30, 3)
    panel = panel_of(build("functions"), x)
    assert panel["rows"] == x[[3, 5]].tolist()


def test_a_panel_that_a_page_cannot_compute_is_left_out_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = panel_of(network([61, 1]))
    text = "the model has 61 features, and a page has controls for at most 60"
    assert many == {"left_out": text, "functions": {}}
    model = build("splines")
    monkeypatch.setattr(what_if, "MAX_CHARACTERS", 5000)  # found by the text itself
    assert panel_of(model)["left_out"] == "the weights of the model take more than 2 MB"
    monkeypatch.setattr(what_if, "MAX_CHARACTERS", 500)  # and before it is written
    monkeypatch.setattr(what_if, "_layer", pytest.fail)
    assert panel_of(model)["left_out"] == "the weights of the model take more than 2 MB"


def test_a_function_without_a_form_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(JAVASCRIPT.functions, "exp")
    assert panel_of(build("splines"))["left_out"] == "a page cannot compute the function silu"


def unpacked(one: dict[str, Any]) -> Any:
    """Return a table of numbers from its bytes, anything else as it is."""
    if set(one) != {"shape", "float64"}:
        return one
    return np.frombuffer(base64.b64decode(one["float64"]), "<f8").reshape(one["shape"]).tolist()


@pytest.mark.slow  # writes reports
def test_numbers_cannot_end_their_script(content_of: Any, model: KAN, rows: torch.Tensor) -> None:
    panel = panel_of(model, rows)
    panel["controls"][0]["name"] = "</script><!--<script>\u2028&"
    source = render_page(content_of(model, rows), pictures(), panel)
    told, _ = Page(source).scripts
    assert json.loads(told, object_hook=unpacked) == panel
    assert not set("<>&\u2028") & set(told)
