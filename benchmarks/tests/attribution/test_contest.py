"""The part ``planted``: its rows, that it resumes, and its picture."""

from __future__ import annotations

import dataclasses
import json

import matplotlib as mpl
import pandas as pd
import pytest

from benchmarks.attribution import contest
from benchmarks.attribution.contest import LOCAL, PLANTED, RANDOM, run_method
from benchmarks.attribution.experiments import ATTRIBUTION
from benchmarks.attribution.pictures import PICTURES
from benchmarks.attribution.scoring import draw_sample
from benchmarks.harness import Setup
from kanlens.attribution._attribute import METHODS
from kanlens.attribution._problem import LocalValues

SMOKE, FILE = Setup(smoke=True), "attribution-planted"


@pytest.fixture
def replaced(monkeypatch):
    """Put another function behind a method of the table, made from the right one."""

    def replace(name, change):
        method = METHODS[name]
        function = method.function
        monkeypatch.setitem(
            METHODS, name, dataclasses.replace(method, function=lambda p: change(function(p)))
        )

    return replace


def row(case, method):
    (found,) = PLANTED.rows(SMOKE, (case, method))[FILE]
    assert set(found) <= set(PLANTED.columns(FILE))
    return found


@pytest.mark.slow  # measures in every way once
def test_smoke_runs_and_resumes(tmp_path):
    result = ATTRIBUTION.run(SMOKE, tmp_path, parts=["planted"], progress=False)
    assert [path.name for path in result.files] == [f"{FILE}.csv", f"{FILE}.png"]
    frame = result.tables[FILE]
    assert result.measured == len(frame) == len(PLANTED.plan(SMOKE).keys)
    assert set(frame["status"]) == {"scored"}
    exact = frame[frame["method"] == "shapley"]["shapley_error"].astype(float)
    floor = frame[frame["method"] == RANDOM]["shapley_error"].astype(float)
    assert exact.max() < 1e-8 < 0.3 < floor.min()
    assert frame["spline_error"].astype(float).max() < 2e-9
    json.dumps(result.to_dict(), allow_nan=False)
    again = ATTRIBUTION.run(SMOKE, tmp_path, parts=["planted"], progress=False)
    assert (again.measured, len(again.tables[FILE])) == (0, len(frame))
    (summary,) = result.summaries.values()
    assert summary.set_index("method").loc["shapley", "worst claimed"] < 1e-8


def test_every_local_method_meets_every_network():
    keys = PLANTED.plan(Setup()).keys
    assert len(keys) == len(set(keys)) == len(contest.CASES) * (len(LOCAL) + 1)


def test_a_broken_method_is_seen(replaced):
    """One that swaps features and still adds up, and one that explains half."""
    assert row("bilinear", "shapley")["shapley_error"] < 1e-12
    replaced("shapley", lambda parts: dataclasses.replace(parts, values=parts.values.flip(1)))
    broken = row("bilinear", "shapley")
    assert broken["shapley_error"] > 0.5
    assert broken["leakage"] > 0.2
    assert broken["gap"] < 1e-9
    replaced("shapley", lambda parts: dataclasses.replace(parts, values=parts.values / 2))
    assert row("bilinear", "shapley")["gap"] == pytest.approx(0.5)


def test_refusals_and_failures_are_rows_with_their_reason(replaced):
    refused = row("exp_sin", "additive")
    assert refused["status"] == "refused"
    assert "sum of functions of single features" in refused["reason"]
    replaced("secant", lambda parts: 1 / 0)
    failed = row("exp_sin", "secant")
    assert (failed["status"], failed["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert "shapley_error" not in failed


def test_values_that_are_no_numbers_are_refused(replaced):
    replaced("secant", lambda parts: dataclasses.replace(parts, values=parts.values / 0))
    found = row("exp_sin", "secant")
    assert found["status"] == "refused"
    assert "NaN or infinity" in found["reason"]


def test_values_of_hidden_nodes_are_not_scored(replaced):
    def hidden(parts):
        values = parts.values[:, :1]
        return LocalValues(values=values, reference=0.0, baseline="none", features=("h1_1",))

    replaced("secant", hidden)
    found = row("exp_sin", "secant")
    assert found["status"] == "no features"
    assert "shapley_error" not in found


def test_a_slow_method_is_given_fewer_rows(monkeypatch):
    monkeypatch.setattr(contest, "LIMIT", 0.0)
    found = run_method("secant", draw_sample("bilinear", 4, 5))
    assert (found["rows"], found["status"]) == (2, "scored")
    assert "fewer rows" in found["reason"]
    assert found["shapley_error"] < 1e-12


def test_random_numbers_add_up_and_are_always_the_same():
    sample = draw_sample("friedman", 4, 5)
    first, again = (run_method(RANDOM, sample) for _ in range(2))
    assert first["gap"] < 1e-12
    assert first["shapley_error"] == again["shapley_error"] > 0.3
    assert abs(first["rank_agreement"]) < 0.8


@pytest.mark.slow  # runs an experiment
def test_summary_and_picture_hold_refusals_too():
    keys = [("bilinear", "shapley"), ("exp_sin", "shapley"), ("exp_sin", "additive")]
    keys += [("exp_sin", "captum_integrated_gradients"), ("exp_sin", "gradient")]
    frame = pd.DataFrame([row(*key) for key in keys], columns=PLANTED.columns(FILE))
    (left,) = (t for title, t in PLANTED.summary(frame).items() if title.endswith("not scored"))
    assert left[["method", "networks"]].to_numpy().tolist() == [["additive", 1]]
    before = dict(mpl.rcParams)
    figure = PICTURES[FILE].draw({FILE: frame})
    heat, along = figure.axes[0], figure.axes[3]
    names = [label.get_text() for label in heat.get_yticklabels()]
    assert names == ["shapley", "captum_integrated_gradients"]
    assert [label.get_text() for label in along.get_yticklabels()] == names[1:]
    assert [text.get_text() for text in heat.texts].count("\N{EN DASH}") == 1
    assert dict(mpl.rcParams) == before
