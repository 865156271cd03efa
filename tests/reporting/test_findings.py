"""The sentences a report begins with, and the baselines a model is put beside."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

import kanlens
from kanlens.attribution._result import Attribution
from kanlens.reporting._findings import directions, measure_baselines, write_findings
from kanlens.reporting._report_data import read_subject
from kanlens.training import _baselines as baselines
from tests.reporting.conftest import network, seeded

Build = Callable[..., dict[str, Any]]


def trained(*, classes: bool = False) -> tuple[Any, Any, Any]:
    x = torch.rand(80, 3, generator=seeded(1), dtype=torch.float64)
    y = 3 * x[:, 0] - x[:, 1]
    model = kanlens.KAN([3, 1], generator=seeded()).double()
    target = np.where(y > 1, "high", "low") if classes else y
    history = kanlens.fit(model, (x, target), steps=4, progress=False, generator=seeded())
    return model, (x, target), history


def test_baselines_are_trained_on_the_rows_the_model_was() -> None:
    model, (x, y), history = trained()
    subject = read_subject(model, (x, y), None)
    found: Any = measure_baselines(subject, history)
    held = history.held_out
    kept = np.setdiff1d(np.arange(80), held)
    straight = LinearRegression().fit(x[kept], y[kept])
    scores = {one["name"]: one["score"] for one in found["models"]}
    assert found["rows"] == 16
    y = y.numpy()
    own = r2_score(y[held], model(x[held]).detach().numpy())
    assert scores["this model"] == pytest.approx(own, rel=1e-12)
    linear = r2_score(y[held], straight.predict(x[held]))
    assert scores["a linear model"] == pytest.approx(linear, rel=1e-9)
    mean = r2_score(y[held], np.full(16, float(y[kept].mean())))
    assert scores["the mean"] == pytest.approx(mean, rel=1e-9)
    assert scores["gradient boosting"] < 1


def test_boosting_that_would_take_minutes_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model, table, history = trained(classes=True)
    subject = read_subject(model, table, None)
    every: Any = measure_baselines(subject, history)
    names = [one["name"] for one in every["models"]]
    assert names[-1] == "gradient boosting"
    monkeypatch.setattr(baselines, "MAX_BOOSTING_WIDTH", 2)
    few: Any = measure_baselines(subject, history)
    assert [one["name"] for one in few["models"]] == names[:-1]


def test_baselines_of_classes_are_judged_by_accuracy_as_the_model_is() -> None:
    model, (x, y), history = trained(classes=True)
    subject = read_subject(model, (x, y), None)
    found: Any = measure_baselines(subject, history)
    held = history.held_out.numpy()
    right = subject.probabilities.argmax(1) == (y == "low")
    assert found["metric"] == "accuracy"
    assert found["models"][0] == {"name": "this model", "score": right[held].mean()}
    kept = np.setdiff1d(np.arange(80), held)
    frequent = max(set(y[kept]), key=list(y[kept]).count)
    scores = {one["name"]: one["score"] for one in found["models"]}
    assert scores["the most frequent class"] == (y[held] == frequent).mean()
    assert list(scores)[2:] == ["logistic regression", "gradient boosting"]


@pytest.mark.slow  # writes reports
def test_baselines_are_cross_validated_on_rows_of_unknown_use() -> None:
    model, (x, y), history = trained()
    subject = read_subject(model, (x, y), None)
    found: Any = measure_baselines(subject, None)
    scores = {one["name"]: one["score"] for one in found["models"]}
    said = model(x).detach().numpy()
    assert (found["rows"], found["held_out"]) == (80, False)
    assert scores["this model"] == pytest.approx(r2_score(y.numpy(), said), rel=1e-12)
    order = np.random.default_rng(0).permutation(80)
    said = np.empty(80)
    for fold in range(5):
        part, kept = order[fold::5], np.setdiff1d(np.arange(80), order[fold::5])
        said[part] = LinearRegression().fit(x[kept], y[kept]).predict(x[part])
    assert scores["a linear model"] == pytest.approx(r2_score(y.numpy(), said), rel=1e-9)
    assert scores["the mean"] < -1e-6  # 0 where it has seen the rows
    others = read_subject(model, (x.flip(0), y.flip(0)), None)  # as many, in another order
    unheld = dataclasses.replace(history, held_out=torch.empty(0, dtype=torch.long))
    assert not cast(Any, measure_baselines(others, history))["held_out"]
    assert measure_baselines(subject, unheld) == found


def test_there_are_no_baselines_where_nothing_can_be_learned() -> None:
    model, (x, y), history = trained()
    assert measure_baselines(read_subject(model, x, None), history) is None
    assert measure_baselines(read_subject(model, (x[:9], y[:9]), None), history) is None
    assert measure_baselines(read_subject(model, (x, 0 * y), None), None) is None
    classifier, (x, y), _ = trained(classes=True)
    rare = np.where(np.arange(80) == 5, "high", "low")  # in one fold, and learned by none then
    assert measure_baselines(read_subject(classifier, (x, rare), None), None) is None


def test_directions_are_rank_correlations() -> None:
    x = torch.stack([torch.arange(9.0), torch.arange(9.0), torch.ones(9)], 1)
    values = torch.stack([x[:, 0] ** 3, -x[:, 1], x[:, 2]], 1)
    found = Attribution(
        values=values,
        output=values.sum(1),
        reference=torch.zeros(9),
        baseline="",
        method="shapley",
        features=("a", "b", "c"),
        target="y",
        x=x,
    )
    assert directions(found) == {"a": pytest.approx(1.0), "b": pytest.approx(-1.0), "c": None}
    slopes = dataclasses.replace(found, reference=torch.full((9,), torch.nan))
    assert set(directions(slopes).values()) == {None}


@pytest.mark.slow  # writes reports
def test_findings_say_what_the_numbers_are(content_of: Build) -> None:
    model, data, history = trained()
    content = content_of(model, data, history=history)
    quality, drivers, formula = content["findings"]
    assert quality.startswith("On the 80 rows of arrays the model explains")
    assert "On the 16 rows held out of training, R² is" in quality
    assert "for a linear model and" in quality
    first = content["importance"]["features"][0]
    assert first["name"] == "x1"
    assert drivers.startswith("x1 matters most for y: it changes the output by")
    assert "and a higher value raises it. Then come x2 (" in drivers
    assert "a higher value lowers it)" in drivers
    assert formula == "No formula was requested."


@pytest.mark.slow  # analyzes for a report
def test_findings_do_not_claim_what_is_not_known(content_of: Build) -> None:
    model = network([2, 1])
    rows = torch.rand(20, 2, generator=seeded(), dtype=torch.float64)
    quality, _, _ = content_of(model, rows)["findings"]
    assert quality.endswith("is not known: the data have no targets.")
    quality, _, _ = content_of(model, (rows, model(rows).detach()))["findings"]
    assert quality.endswith(
        "If the model was trained on these rows, it predicts new rows less well."
    )
    fitted, (x, y), history = trained()
    quality, _, _ = content_of(fitted, (x.flip(0), y.flip(0)), history=history)["findings"]
    told = r"Training ended with R² [\d.]+ on 16 held-out rows\. Simple models reach R² \S+ "
    told += r"\(the mean\), 1\.00 \(a linear model\) and [\d.]+ \(gradient boosting\) on rows not "
    told += "used to train them"
    assert re.search(rf"{told}\.$", quality)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    _, drivers, _ = content_of(model, rows)["findings"]
    assert drivers == "No feature changes the output on these rows."


@pytest.mark.parametrize("target", [lambda y: -y, lambda y: torch.full_like(y, 3.0)])
def test_what_moves_a_model_is_not_said_of_a_target_it_does_not_predict(
    content_of: Build, target: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    model = network([2, 1])
    rows = torch.rand(20, 2, generator=seeded(), dtype=torch.float64)
    _, drivers, _ = content_of(model, (rows, target(model(rows).detach())))["findings"]
    assert re.match(r"x\d changes the output most, by \S+ on average", drivers)
    assert "matters" not in drivers
    assert drivers.endswith(". This says nothing about y, because the model does not predict it.")


@pytest.mark.slow  # writes reports
def test_a_classifier_and_a_formula_have_their_words(content_of: Build) -> None:
    model, data, _ = trained(classes=True)
    content = content_of(model, data)
    assert "the accuracy is" in content["findings"][0]
    receipt = {"relative_rmse": 0.005}
    for trust, words in (
        (True, ", and can be used in its place"),
        (False, ", too much to be used"),
    ):
        content["formula"] = {"complexity": 12, "receipt": receipt, "trustworthy": trust}
        text = write_findings(content)[2]
        assert text.startswith("A formula of 12 nodes differs from the model by 0.5% of")
        assert words in text


@pytest.mark.slow  # writes reports
def test_columns_of_a_table_have_no_direction(content_of: Build) -> None:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"size": generator.normal(size=60), "kind": ["a", "b", "c"] * 20})
    table = kanlens.read_table(frame.assign(y=frame["size"]), target="y")
    model = kanlens.KAN([4, 1], generator=seeded()).double()
    kanlens.fit(model, table, steps=2, progress=False, generator=seeded())
    content = content_of(model, table)
    columns = {one["name"]: one["direction"] for one in content["importance"]["columns"]}
    assert columns["kind"] is None
    assert abs(columns["size"]) == pytest.approx(1, abs=0.2)


@pytest.mark.slow  # writes a report
def test_a_column_of_two_texts_has_the_name_of_the_second(content_of: Build) -> None:
    frame = pd.DataFrame({"size": np.arange(60.0), "sex": ["f", "m"] * 30})
    table = kanlens.read_table(
        frame.assign(y=30.0 * (frame["sex"] == "m") + frame["size"] % 7), target="y"
    )
    model = kanlens.fit_default(table, hidden=(), progress=False, generator=seeded()).model
    content = content_of(model, table)
    assert content["findings"][1].startswith("sex matters most for y: it changes the output by")
    assert "), and m raises it." in content["findings"][1]
