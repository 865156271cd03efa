"""The JSON twin, as the schema in the package describes it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

import kanlens
from kanlens._plain_json import to_plain
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.reporting import Report
from kanlens.reporting._analysis import Request, analyze
from kanlens.reporting._model_comparison import describe_models, read_others
from kanlens.reporting._page_data import SCHEMA_VERSION, build_content
from kanlens.reporting._report_data import read_subject
from tests.reporting.conftest import network, seeded

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "_static" / "report-schema.json").read_text("utf-8"))
CHECK = jsonschema.Draft202012Validator(SCHEMA)


def faults(twin: Any) -> list[str]:
    """List where a twin is not as the schema says."""
    return [error.json_path for error in CHECK.iter_errors(twin)]


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    """Return the twin of a report that was given everything."""
    layer = KANLinear(2, 1, functions=[["x^2", "sin"]]).double()
    model, quiet = KAN.from_layers([layer], network([2, 1]).schema), dict[str, Any](progress=False)
    rows = torch.rand(60, 2, generator=seeded(7), dtype=torch.float64) * 1.8 - 0.9
    y = model(rows)[:, 0].detach()
    request = Request(
        formula=kanlens.symbolize(model, rows, y, **quiet),
        history=kanlens.fit(network([2, 1]), (rows, y), steps=2, **quiet),
        pruning=kanlens.prune(network([2, 1]), rows, y, threshold=0.9, **quiet),
        certificate=kanlens.certify(model, [(-1, 1)] * 2, max_boxes=8, **quiet),
        methods=["secant"],
        generator=seeded(),
        **quiet,
    )
    analysis = analyze(read_subject(model, (rows, y), None), request)
    content = build_content(analysis, title="T", generator="seed 0")
    models = read_others(analysis.subject, {"fewer": network([1, 1]), "other": network([2, 1])})
    content["models"] = to_plain(describe_models(analysis, models))
    twin: dict[str, Any] = json.loads(json.dumps(content))
    return twin


@pytest.mark.slow  # draws every picture of a report
def test_twins_are_as_the_schema_says(
    full: dict[str, Any], content_of: Callable[..., Any], model: KAN, rows: torch.Tensor
) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    parts = ("formula", "training", "pruning", "certificate", "models", "performance")
    assert all(full[part] for part in parts)
    assert faults(full) == faults(content_of(model, rows)) == []
    assert SCHEMA["properties"]["schema_version"] == {"const": SCHEMA_VERSION}


@pytest.mark.slow  # draws every picture of a report
def test_the_twin_of_classes_is_as_the_schema_says(hostile: Report) -> None:
    twin = json.loads(hostile.json_path.read_text("utf-8"))
    assert twin["performance"]["task"] == "classification"
    assert faults(twin) == []


@pytest.mark.slow  # writes reports
def test_wrong_twins_are_told(full: dict[str, Any]) -> None:
    def wrong(change: Callable[[dict[str, Any]], Any]) -> list[str]:
        twin = copy.deepcopy(full)
        change(twin)
        return faults(twin)

    assert wrong(lambda twin: twin.update(schema_version=2)) == ["$.schema_version"]
    assert wrong(lambda twin: twin.update(more=1)) == ["$"]
    assert wrong(lambda twin: twin.pop("edges")) == ["$"]
    assert wrong(lambda twin: twin["meta"].update(more=1)) == ["$.meta"]
    assert wrong(lambda twin: twin["edges"][0].update(std="large")) == ["$.edges[0].std"]
    assert wrong(lambda twin: twin["models"]["models"][1]["changes"].pop("mean_size")) == [
        "$.models.models[1].changes"
    ]
    assert wrong(lambda twin: twin["alerts"].append({"level": "bad", "code": "", "text": ""}))
    assert wrong(lambda twin: twin["certificate"]["outputs"][0].update(decided=None))
    assert wrong(lambda twin: twin["performance"].update(accuracy=1.0))
