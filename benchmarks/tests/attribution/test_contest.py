"""The part ``planted``: what a row says, that it resumes, and its picture."""

from __future__ import annotations

import dataclasses
import json

import matplotlib as mpl
import pandas as pd
import pytest

from benchmarks.attribution import contest, experiments
from benchmarks.attribution.contest import PLANTED, RANDOM, run_method
from benchmarks.attribution.experiments import ATTRIBUTION
from benchmarks.attribution.pictures import PICTURES
from benchmarks.attribution.sample import draw_sample
from benchmarks.commands import main
from benchmarks.harness import Setup
from kanlens.attribution.problem import LocalValues
from kanlens.attribution.registry import METHODS
from kanlens.plotting.style import save

SMOKE, FILE = Setup(smoke=True), "attribution-planted"


def replaced(monkeypatch, name, function):
    """Put another function behind a method of the table."""
    method = dataclasses.replace(METHODS[name], function=function)
    monkeypatch.setitem(METHODS, name, method)


def row(case, method):
    (found,) = PLANTED.rows(SMOKE, (case, method))[FILE]
    assert set(found) <= set(PLANTED.columns(FILE))
    return found


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
    assert set(frame.loc[frame["scope"] == "global", "method"]) == {"sobol_total"}
    json.loads(result.to_json())
    again = ATTRIBUTION.run(SMOKE, tmp_path, parts=["planted"], progress=False)
    assert again.measured == 0
    assert len(again.tables[FILE]) == len(frame)
    local, overall = result.summaries.values()
    assert local.set_index("method").loc["shapley", "worst_of_what_it_claims"] < 1e-8
    assert overall.loc[0, "worst_sobol_rank"] > 0.5


def test_every_method_meets_every_network():
    keys = PLANTED.plan(Setup()).keys
    assert len(keys) == len(set(keys)) == len(contest.CASES) * (len({*METHODS, RANDOM}))


def test_a_broken_method_is_seen(monkeypatch):
    """One that swaps features and still adds up, and one that explains half."""
    right = METHODS["shapley"].function

    def swapped(problem):
        parts = right(problem)
        return dataclasses.replace(parts, values=parts.values.flip(1))

    assert row("bilinear", "shapley")["shapley_error"] < 1e-12
    replaced(monkeypatch, "shapley", swapped)
    broken = row("bilinear", "shapley")
    assert broken["shapley_error"] > 0.5
    assert broken["leakage"] > 0.2
    assert broken["gap"] < 1e-9
    replaced(monkeypatch, "shapley", lambda problem: halved(right(problem)))
    assert row("bilinear", "shapley")["gap"] == pytest.approx(0.5)


def halved(parts):
    return dataclasses.replace(parts, values=parts.values / 2)


def test_refusals_and_failures_are_rows_with_their_reason(monkeypatch):
    refused = row("exp_sin", "additive")
    assert refused["status"] == "refused"
    assert "sum of functions of single features" in refused["reason"]

    def failing(problem):
        raise ZeroDivisionError("by nothing")

    replaced(monkeypatch, "secant", failing)
    failed = row("exp_sin", "secant")
    assert (failed["status"], failed["reason"]) == ("failed", "ZeroDivisionError: by nothing")
    assert "shapley_error" not in failed


def test_values_that_are_no_numbers_are_refused(monkeypatch):
    right = METHODS["secant"].function

    def missing(problem):
        parts = right(problem)
        return dataclasses.replace(parts, values=parts.values / 0)

    replaced(monkeypatch, "secant", missing)
    found = row("exp_sin", "secant")
    assert found["status"] == "refused"
    assert "NaN or infinity" in found["reason"]


def test_values_of_hidden_nodes_are_not_scored(monkeypatch):
    def hidden(problem):
        values = problem.x[:, :1]
        return LocalValues(values=values, reference=0.0, baseline="none", features=("h1_1",))

    replaced(monkeypatch, "secant", hidden)
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


def test_summary_counts_what_was_not_scored():
    rows = [row("bilinear", name) for name in ("secant", "additive")]
    tables = PLANTED.summary(pd.DataFrame(rows, columns=PLANTED.columns(FILE), dtype=object))
    (left,) = (table for title, table in tables.items() if title.endswith("not scored"))
    assert left.loc[0, "method"] == "additive"
    assert left.loc[0, "networks"] == 1


def test_the_picture_is_drawn_from_the_table_alone(tmp_path):
    keys = [("bilinear", "shapley"), ("exp_sin", "shapley"), ("exp_sin", "additive")]
    keys += [("exp_sin", "captum_integrated_gradients"), ("exp_sin", "gradient")]
    keys += [("exp_sin", "sobol_total")]
    rows = [row(*key) for key in keys]
    path = tmp_path / "attribution-planted.csv"
    pd.DataFrame(rows, columns=PLANTED.columns(FILE)).to_csv(path, index=False)
    before = dict(mpl.rcParams)
    picture = PICTURES["attribution-planted"]
    figure = picture.draw({picture.needs[0]: pd.read_csv(path)})
    heat, along = figure.axes[0], figure.axes[3]
    names = [label.get_text() for label in heat.get_yticklabels()]
    assert names == ["shapley", "captum_integrated_gradients"]
    assert [label.get_text() for label in along.get_yticklabels()] == names[1:]
    assert [text.get_text() for text in heat.texts].count("–") == 1  # noqa: RUF001
    save(figure, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert dict(mpl.rcParams) == before


def test_the_command_prints_json(tmp_path, capsys, monkeypatch):
    plan = contest.Units(keys=(("bilinear", "secant"),))
    small = dataclasses.replace(PLANTED, plan=lambda setup: plan)
    benchmark = dataclasses.replace(ATTRIBUTION, experiments=(small,))
    monkeypatch.setattr(experiments, "ATTRIBUTION", benchmark)
    monkeypatch.chdir(tmp_path)
    assert main(["attribution", "--smoke", "--json", "-o", "out"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"] == 1
    assert (tmp_path / "out" / "attribution-planted.csv").exists()
