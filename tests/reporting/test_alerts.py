from __future__ import annotations

import copy
from typing import Any

import pytest

from kanlens.reporting._alerts import find_alerts
from kanlens.reporting._planning import FROM_DATA


def calm() -> dict[str, Any]:
    """Return the content of a report in which nothing stands out."""
    methods = [{"method": name, "complete": True, "relative_gap": 1e-15} for name in ("a", "b")]
    return {
        "meta": {
            "background_origin": "stored in the model at training",
            "target": "y",
        },
        "data": {
            "rows": 500,
            "given_away": {},
            "features": [{"name": "x1", "constant": False, "outside": 0.0}],
        },
        "model": {
            "task": "regression",
            "provenance": "",
            "edges_alive": 3,
            "edges_total": 3,
            "features_used": 1,
            "outside": {
                "held": False,
                "units": [],
                "rows_with_input": 0.0,
                "rows_with_hidden": None,
            },
        },
        "performance": {"task": "regression", "metric": "R2", "score": 0.9},
        "baselines": None,
        "importance": {"features": [{"importance": 1.0}] * 5},
        "edges": [{"relative": 1.0}],
        "formula": None,
        "comparison": {
            "methods": methods,
            "agreement": {"a": {"a": 1.0, "b": 0.9}, "b": {"a": 0.9, "b": 1.0}},
        },
    }


def receipt(**changes: Any) -> dict[str, Any]:
    known = {"relative_rmse": 0.01, "undefined_rows": 0, "defined_beyond": True, "spline_edges": []}
    return {"trustworthy": True, "receipt": {**known, **changes}}


def put(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(calm())
    *parents, last = path.split(".")
    place: Any = content
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    place[last] = value
    return content


def test_nothing_stands_out_in_a_calm_report() -> None:
    assert find_alerts(calm()) == []
    assert find_alerts(put("formula", receipt())) == []


CASES: dict[str, tuple[str, Any, str, str]] = {
    "background_from_data": (
        "meta.background_origin",
        FROM_DATA,
        "note",
        "The model stores no background rows, so rows of this report are the background. Pass "
        "background to choose other rows.",
    ),
    "imitation": (
        "model.provenance",
        "imitates a forest, R2 0.9 on 50 rows held out, 0.8 beyond the data",
        "note",
        "This page is about a network that imitates a forest, R2 0.9 on 50 rows held out, 0.8 "
        "beyond the data, not about the original.",
    ),
    "few_rows": (
        "data.rows",
        12,
        "warning",
        "There are only 12 rows; averages over them are uncertain.",
    ),
    "constant_features": (
        "data.features.0.constant",
        True,
        "warning",
        "Constant in these rows: x1. Nothing can be said about its effect here.",
    ),
    "target_given_away": (
        "data.given_away",
        {"x1": 0.9987},
        "warning",
        "x1 alone predicts y (R² 1.00). If it is not available at prediction time, this is target "
        "leakage: train without it.",
    ),
    "dead_edges": ("model.edges_total", 4, "note", "1 of 4 edges is removed."),
    "unused_features": ("model.features_used", 0, "note", "1 feature has no edge left."),
    "faint_edges": (
        "edges",
        [{"relative": 1.0}, {"relative": 0.001}],
        "note",
        "1 nonzero edge hardly varies (below 1% of the strongest of the layer); prune could remove "
        "it.",
    ),
    "completeness_gap": (
        "comparison.methods.1.relative_gap",
        0.25,
        "warning",
        "Values of b (25.0%) should add up to the change of the output but do not; numbers in "
        "parentheses are relative gaps. Do not rely on them here.",
    ),
    "methods_disagree": (
        "comparison.agreement.a.b",
        0.2,
        "warning",
        "Methods rank the features differently: a and b (0.20); numbers in parentheses "
        "are Spearman's correlation. They should agree; look at their gaps and errors.",
    ),
    "poor_fit": (
        "performance.score",
        0.1,
        "warning",
        "The model explains little of the target (R² 0.100). What follows describes the model, "
        "not the world.",
    ),
    "no_targets": (
        "performance",
        None,
        "note",
        "There are no targets, so the predictions for these rows cannot be scored.",
    ),
    "constant_output": (
        "importance.features.0.importance",
        0.0,
        "warning",
        "No feature changes the output on these rows: there is nothing to explain.",
    ),
    "formula_undefined": (
        "formula",
        receipt(undefined_rows=2),
        "warning",
        "The formula is not finite on 2 rows.",
    ),
    "formula_far": (
        "formula",
        {**receipt(relative_rmse=0.4), "trustworthy": False},
        "warning",
        "The formula differs from the model: the RMSE is 40.0% of the output's standard deviation.",
    ),
    "formula_edges": (
        "formula",
        receipt(defined_beyond=False),
        "warning",
        "The formula is not finite everywhere within 5% beyond the ranges of the data.",
    ),
    "formula_splines": (
        "formula",
        receipt(spline_edges=["f_0_0_1"]),
        "note",
        "Parts of the formula are still splines: f_0_0_1.",
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_one_change_gives_one_alert(code: str) -> None:
    path, value, level, text = CASES[code]
    assert find_alerts(put(path, value)) == [{"level": level, "code": code, "text": text}]


def test_methods_that_are_not_complete_are_only_noted() -> None:
    content = put("comparison.agreement.a.b", 0.2)
    content["comparison"]["methods"][1].update(complete=False, relative_gap=0.3)
    found = find_alerts(content)
    assert [(one["level"], one["code"]) for one in found] == [
        ("note", "incomplete_methods"),
        ("note", "methods_disagree"),
    ]
    text = "In each pair, one method is not complete and measures something else."
    assert text in found[1]["text"]


def test_ranks_of_four_features_agree_or_not_by_chance() -> None:
    content = put("comparison.agreement.a.b", 0.2)
    assert find_alerts(content)
    content["importance"]["features"] = [{"importance": 1.0}] * 4
    assert find_alerts(content) == []


def test_a_gap_that_is_not_finite_is_a_gap() -> None:
    found = find_alerts(put("comparison.methods.0.relative_gap", None))
    assert [one["code"] for one in found] == ["completeness_gap"]


def test_a_classifier_no_better_than_the_most_frequent_class() -> None:
    chance = {"task": "classification", "accuracy": 0.6, "majority_share": 0.6}
    assert [one["code"] for one in find_alerts(put("performance", chance))] == ["poor_fit"]
    better = {**chance, "accuracy": 0.61}
    assert find_alerts(put("performance", better)) == []


def test_a_model_that_is_no_better_than_the_mean_on_unseen_rows() -> None:
    models = [{"name": "this model", "score": -0.06}, {"name": "the mean", "score": -0.005}]
    content = put("baselines", {"held_out": True, "models": models})
    text = (
        "On rows that training had not seen, the mean predicts as well. What follows describes "
        "the model, not the world."
    )
    alert = {"level": "warning", "code": "poor_fit", "text": text}
    assert find_alerts(content) == [alert]
    for name, value in (("held_out", False), ("score", None), ("score", 0.7)):
        calmer = copy.deepcopy(content)
        calmer["baselines"].update({name: value} if name == "held_out" else {})
        calmer["baselines"]["models"][0].update({name: value} if name == "score" else {})
        assert find_alerts(calmer) == []


def test_warnings_come_first() -> None:
    content = put("performance", None)
    content["data"]["rows"] = 3
    levels = [alert["level"] for alert in find_alerts(content)]
    assert levels == ["warning", "note"]


def test_held_values_are_reported_as_held() -> None:
    content = put("data.features", [{"name": "a", "outside": 0.5, "constant": False}])
    content["model"]["outside"] |= {"held": True, "rows_with_input": 0.5}
    found = {one["code"]: one["text"] for one in find_alerts(content)}
    assert found["inputs_outside_grid"] == (
        "50.0% of the rows have an input outside its training range: a (50.0%). There it is "
        "clipped to the range."
    )
