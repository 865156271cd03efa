from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pandas as pd
import pytest
import torch
from jinja2 import Environment

from kanlens.attribution import attribute, compare
from kanlens.attribution._result import Attribution
from kanlens.attribution.metrics import METRICS
from kanlens.data._schema import class_schema
from kanlens.data._table_reader import read_table
from kanlens.errors import InvalidValueError
from kanlens.model._network import KAN
from kanlens.model._trace import trace
from kanlens.pruning import prune
from kanlens.reporting._analysis import SHOWN, Analysis, pick_rows
from kanlens.reporting._page_data import _model
from kanlens.reporting._report_data import read_subject, spread
from kanlens.training import fit
from tests.reporting.conftest import METHODS, network, seeded

Build = Callable[..., dict[str, Any]]
KEYS = {
    *("schema_version", "meta", "data", "model", "training", "performance", "importance"),
    *("interactions", "flows", "edges", "formula", "formula_refusal", "certificate", "rows"),
    *("comparison", "pruning", "alerts", "findings", "baselines"),
}


@pytest.fixture
def content(content_of: Build, model: KAN, rows: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    return content_of(model, (rows, y))


@pytest.mark.slow  # writes reports
def test_content_is_plain_json(content: dict[str, Any]) -> None:
    assert set(content) == KEYS
    assert content["schema_version"] == 1
    assert json.loads(json.dumps(content, allow_nan=False)) == content


@pytest.mark.slow  # writes reports
def test_importance_is_the_mean_size_of_the_attribution(
    content: dict[str, Any], model: KAN, rows: torch.Tensor
) -> None:
    found = attribute(model, rows[spread(60, 20)], background=model.background)
    sizes = found.values.abs().mean(0)  # type: ignore[union-attr]
    for record in content["importance"]["features"]:
        index = model.feature_names.index(record["name"])
        assert record["importance"] == pytest.approx(float(sizes[index]), rel=1e-12)
        assert record["low"] <= record["importance"] <= record["high"]
    order = [one["importance"] for one in content["importance"]["features"]]
    assert order == sorted(order, reverse=True)
    assert sum(one["share"] for one in content["importance"]["features"]) == pytest.approx(1)


def test_shares_outside_the_grids_are_those_of_the_trace(content_of: Build, model: KAN) -> None:
    x = torch.rand(50, 3, generator=seeded(4), dtype=torch.float64) * 4 - 2
    found, record = content_of(model, x), trace(model, x)
    outside = found["model"]["outside"]
    beyond = x.abs() > 1  # the grid is [-1, 1]
    assert outside["inputs"] == pytest.approx(float(beyond.double().mean()))
    assert outside["rows_with_input"] == pytest.approx(float(beyond.any(1).double().mean()))
    assert outside["all"] == pytest.approx(record.outside_share)
    for place, one in enumerate(found["data"]["features"]):
        assert one["outside"] == pytest.approx(float(beyond[:, place].double().mean()))
    units = [one["outside"] for one in outside["units"]]
    assert units == pytest.approx(record.outside[1].tolist())
    assert [one["name"] for one in outside["units"]] == ["h1_1", "h1_2"]


@pytest.mark.slow  # writes reports
def test_edges_are_ordered_and_measured(
    content: dict[str, Any], model: KAN, rows: torch.Tensor
) -> None:
    values = trace(model, rows).edge_values(0)
    first = [edge for edge in content["edges"] if edge["layer"] == 0]
    assert len(first) == 6
    for edge in first:
        column = values[:, edge["out"], edge["in"]]
        assert edge["std"] == pytest.approx(float(column.std(correction=0)), rel=1e-6)
        assert edge["name"] == model.edge_name(0, edge["out"], edge["in"])
    sizes = [edge["std"] for edge in first]
    assert sizes == sorted(sizes, reverse=True)
    assert first[0]["relative"] == 1.0


@pytest.mark.slow  # writes reports
def test_masked_edges_are_not_listed(content_of: Build, model: KAN, rows: torch.Tensor) -> None:
    model.layers[0].mask[0, 1] = 0
    found = content_of(model, rows)
    assert all((e["out"], e["in"]) != (0, 1) for e in found["edges"] if e["layer"] == 0)
    assert found["model"]["edges_alive"] == 7
    assert found["model"]["edges_total"] == 8


def test_a_row_predicted_right_is_no_largest_error(model: KAN, rows: torch.Tensor) -> None:
    subject = read_subject(model, (rows, model(rows).detach()), None)
    reasons = [reason.partition(",")[0] for _, reason in pick_rows(subject)]
    assert reasons[:3] == ["predicted exactly"] * 3
    classifier = network([3, 3])
    classes = class_schema("y", ["a", "b", "c"])
    classifier.schema = dataclasses.replace(classes, features=classifier.schema.features)
    codes = classifier(rows).argmax(1)
    likely = classifier(rows).softmax(1).max(1).values
    for wrong in ([], [int(likely.argmax())], [5, 9, 13, 20]):
        labels = codes.clone()
        labels[wrong] = (labels[wrong] + 1) % 3
        subject = read_subject(classifier, (rows, labels), 0)
        picks = pick_rows(subject)[:3]
        named = {row for row, reason in picks if reason.startswith("among the largest errors")}
        assert named <= set(wrong)
        assert len(named) == min(3, len(wrong))
        others = [reason for row, reason in picks if row not in named]
        assert all(reason.startswith("among the least certain") for reason in others)


@pytest.mark.slow  # writes reports
def test_rows_add_up_and_include_the_worst(
    content: dict[str, Any], model: KAN, rows: torch.Tensor, y: torch.Tensor
) -> None:
    worst = int((model(rows)[:, 0] - y).abs().argmax())
    assert content["rows"][0]["row"] == worst
    assert content["rows"][0]["reason"].startswith("among the largest errors")
    assert content["rows"][0]["actual"] == pytest.approx(float(y[worst]))
    output = model(rows)[:, 0]
    reasons = {
        reason: one["row"] for one in content["rows"] for reason in one["reason"].split(", ")
    }
    assert reasons["the highest output"] == int(output.argmax())
    assert reasons["the lowest output"] == int(output.argmin())
    assert "near the medians of the features" in reasons
    for record in content["rows"]:
        total = sum(part["contribution"] for part in record["contributions"])
        assert record["reference"] + total == pytest.approx(record["output"], abs=1e-10)
        assert abs(record["gap"]) < 1e-10
        assert [p["value"] for p in record["contributions"]] == [
            pytest.approx(float(rows[record["row"], model.feature_names.index(p["feature"])]))
            for p in record["contributions"]
        ]


@pytest.mark.slow  # writes reports
def test_the_comparison_is_complete(content: dict[str, Any]) -> None:
    comparison = content["comparison"]
    assert [one["method"] for one in comparison["methods"]] == [*METHODS, "random"]
    by_name = {one["method"]: one for one in comparison["methods"]}
    assert by_name["shapley"]["relative_gap"] < 1e-10
    assert by_name["captum_input_x_gradient"]["relative_gap"] > 1e-6
    assert comparison["agreement"]["shapley"]["shapley"] == 1.0
    assert set(comparison["importance"]) == set(METHODS)


@pytest.mark.slow  # writes reports
def test_of_the_metrics_only_those_that_the_page_shows_are_computed(
    content: dict[str, Any],
) -> None:
    assert set(content["comparison"]["arrows"]) == set(SHOWN)
    found = set(content["comparison"]["methods"][0]) & set(METRICS)
    assert found == set(SHOWN)
    page = (files("kanlens.reporting") / "sections.html.j2").read_text()
    assert {name for name in METRICS if f"one.{name}|" in page} == set(SHOWN)


def test_a_comparison_with_other_metrics_keeps_its_gaps(
    content_of: Build, model: KAN, rows: torch.Tensor
) -> None:
    methods = ["secant", "captum_input_x_gradient"]
    passed = compare(model, rows, target=0, background=rows[:5], methods=methods, metrics=["gini"])
    found = content_of(model, rows, target=0, comparison=passed)["comparison"]["methods"]
    assert found[0]["relative_gap"] < 1e-10
    assert found[1]["relative_gap"] > 1e-6
    assert found[0]["gini"] > 0
    assert found[0]["infidelity"] is None


@pytest.mark.slow  # writes reports
def test_pruning_and_training_are_taken_over(
    content_of: Build, model: KAN, rows: torch.Tensor, y: torch.Tensor
) -> None:
    history = fit(model, (rows, y), steps=2, generator=seeded(), progress=False)
    pruned = prune(model, rows, y, budget=5.0, progress=False)
    found = content_of(
        pruned.model,
        rows[:, [0, 1, 2]][:, : pruned.model.widths[0]],
        history=history,
        pruning=pruned,
    )
    assert found["pruning"]["edges_after"] == pruned.edges_after
    assert len(found["pruning"]["removed"]) == len(pruned.removed) > 0
    assert found["training"]["metric"] == pytest.approx(history.metric)
    assert found["training"]["held_out_rows"] == 12


def test_categories_are_summed_to_columns(content_of: Build) -> None:
    frame = pd.DataFrame({"kind": list("abc") * 10, "x": range(30), "y": range(30)})
    table = read_table(frame, target="y")
    model = network([4, 1])
    model.schema = table.schema
    found = content_of(model, table)["importance"]
    assert {one["name"] for one in found["columns"]} == {"kind", "x"}
    assert len(found["features"]) == 4


def test_the_model_is_left_as_it_was(
    analyzed: Callable[..., Analysis], model: KAN, rows: torch.Tensor
) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    analyzed(model, rows, methods=("shapley", "captum_shapley_value_sampling"))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_methods_are_compared_without_truth_where_that_would_have_to_be_sampled(
    content_of: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("no exact values")

    monkeypatch.setattr("kanlens.attribution._method_runs.Runs._exact", never)
    x = torch.rand(20, 16, generator=seeded(4), dtype=torch.float64)
    found = content_of(network([16, 2, 2, 1]), x, methods=["secant", "gradient_x_input"])
    assert [one["shapley_error"] for one in found["comparison"]["methods"]] == [None] * 3
    assert found["comparison"]["arrows"]["shapley_error"] == "↓"
    assert found["comparison"]["methods"][0]["infidelity"] is not None


@pytest.mark.slow  # writes reports
def test_results_that_are_passed_are_not_made_again(
    content_of: Build,
    model: KAN,
    rows: torch.Tensor,
    y: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = rows[[40, 3, 3, 17, 28]]
    shares = attribute(model, some, method="secant", background=rows[:5])
    shares = dataclasses.replace(shares, interactions=torch.ones(5, 3, 3))
    side = compare(model, some, background=rows[:5], methods=["secant", "shapley"], progress=False)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("what was passed is made again")

    for name in ("attribute", "run_comparison"):
        monkeypatch.setattr(f"kanlens.reporting._analysis.{name}", never)
    found = content_of(model, (rows, y), attribution=shares, comparison=side)
    assert isinstance(shares, Attribution)
    meta, importance = found["meta"], shares.to_importance()
    assert (meta["method"], meta["attributed_rows"], meta["background_rows"]) == ("secant", 5, None)
    assert found["interactions"]["background_rows"] is None
    by_name = {one["name"]: one for one in found["importance"]["features"]}
    for name, value, low in zip(
        model.feature_names, importance.values, importance.low, strict=True
    ):
        assert (by_name[name]["importance"], by_name[name]["low"]) == (float(value), float(low))
    assert found["flows"]["layers"][1] == shares.paths[1].abs().mean(0).tolist()
    assert found["interactions"]["pairs"][0]["size"] == 1.0
    assert {one["row"] for one in found["rows"]} == {40, 3, 17, 28}
    places = {40: 0, 3: 1, 17: 3, 28: 4}
    for one in found["rows"]:
        values = {part["feature"]: part["contribution"] for part in one["contributions"]}
        truth = shares.values[places[one["row"]]].tolist()
        assert [values[name] for name in model.feature_names] == truth
    compared = found["comparison"]
    assert [one["method"] for one in compared["methods"]] == ["secant", "shapley", "random"]
    assert (compared["rows"], compared["background_rows"], compared["left_out"]) == (5, None, {})
    assert compared["importance"]["secant"] == side.importance["secant"].to_dict()


def test_results_of_something_else_are_refused(
    content_of: Build, model: KAN, rows: torch.Tensor
) -> None:
    shares = attribute(model, rows[:4], background=rows[:3])
    side = compare(model, rows[:4], background=rows[:3], methods=["secant"], progress=False)

    def refused(text: str, **options: Any) -> None:
        with pytest.raises(InvalidValueError, match=f"^{re.escape(text)}$"):
            content_of(model, rows[10:], **options)

    refused(
        "report: expected attribution of rows of the data, got 4 rows that are not in it. "
        "Attribute rows of the data that is passed.",
        attribution=shares,
    )
    text = "report: expected attribution of this model, got outputs that differ by 1. "
    other = attribute(model, rows[10:14], background=rows[:3])
    other = dataclasses.replace(other, output=other.output + 1)
    refused(text + "Attribute this model.", attribution=other)
    advice = "Pass a result of this model, for the output of target."
    text = "report: expected attribution of output 'y', got one of 'z'. "
    refused(text + advice, attribution=dataclasses.replace(shares, target="z"))
    text = "report: expected attribution of features x1, x2, x3, got one of x1, x2, b. "
    other = dataclasses.replace(shares, features=("x1", "x2", "b"))
    refused(text + advice, attribution=other)
    runs = {name: dataclasses.replace(one, target="z") for name, one in side.attributions.items()}
    text = "report: expected comparison of output 'y', got one of 'z'. "
    refused(text + advice, comparison=dataclasses.replace(side, attributions=runs))


def test_the_background_of_a_passed_attribution_is_that_which_is_passed_too(
    content_of: Build, model: KAN, rows: torch.Tensor
) -> None:
    shares = attribute(model, rows[:4], background=rows[:3])
    meta = content_of(model, rows, attribution=shares, background=rows[:3])["meta"]
    assert (meta["background_rows"], meta["background_origin"]) == (
        3,
        "passed as background",
    )


@pytest.mark.slow  # takes a while
def test_constraints_are_listed_with_their_proofs(rows: torch.Tensor) -> None:
    model, shapes = network([3, 2, 1]), {"x1": "increasing"}
    options: dict[str, Any] = {"optimizer": "adam", "steps": 1, "progress": False}
    fit(model, (rows, rows[:, :1]), constraints=shapes, **options)
    model.constraints |= {"x2": "decreasing"}  # which training has not kept
    listed = _model(model, trace(model, rows))["constraints"]
    first = {"column": "x1", "shape": "increasing", "proven": True}
    assert listed == [first, {"column": "x2", "shape": "decreasing", "proven": False}]
    text = files("kanlens.reporting").joinpath("sections.html.j2").read_text()
    text = text.partition('{% elif section == "certificates" %}')[2]
    content = {"model": {"constraints": listed}, "certificate": None}
    page = Environment(autoescape=True).from_string(text.partition("{% else %}")[0] + "{% endif %}")
    expected = "increasing in x1, proven; decreasing in x2, required in training, but not proven."
    assert expected in page.render(c=content)
