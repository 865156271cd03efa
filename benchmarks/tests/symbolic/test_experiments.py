"""The benchmark as a whole: its promises about edges hold, and it resumes."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from benchmarks.harness import Setup
from benchmarks.symbolic import identification, speed
from benchmarks.symbolic.experiments import SYMBOLIC
from benchmarks.symbolic.identification import FIRST_SEED, IDENTIFICATION, TARGETS
from benchmarks.symbolic.speed import SPEED, make_example

SMOKE = Setup(smoke=True)


@pytest.mark.slow  # draws and reads many formulas
def test_smoke_runs_speed_and_identification(tmp_path):
    result = SYMBOLIC.run(SMOKE, tmp_path, parts=["speed", "identification"], progress=False)
    assert set(result.tables) == {"symbolic-speed", "symbolic-identification"}
    assert [path.name for path in result.files] == [
        "symbolic-speed.csv",
        "symbolic-identification.csv",
        "symbolic-identification.png",
    ]
    assert result.measured == 2
    found = result.tables["symbolic-identification"]
    shares = list(result.summaries.values())[1].iloc[0]
    assert 0.9 <= shares["first"] <= shares["first_three"] <= 1
    assert (shares["edges"], shares["target"]) == (32, TARGETS[5, 0.0])
    assert len(found) == 32
    assert found["first"].sum() >= 0.9 * found["edges"].sum()
    assert float(result.tables["symbolic-speed"]["seconds"].iloc[0]) > 0
    again = SYMBOLIC.run(SMOKE, tmp_path, parts=["speed", "identification"], progress=False)
    assert again.measured == 0
    assert len(again.tables["symbolic-identification"]) == 32


@pytest.mark.slow
@pytest.mark.parametrize(("grid_size", "noise"), [(5, 0.01), (20, 0.0)])
def test_identification_keeps_its_promise_on_one_seed(grid_size, noise):
    rows = pd.DataFrame(IDENTIFICATION.run(Setup(), (grid_size, noise, FIRST_SEED)))
    assert rows["edges"].sum() == 32 * identification.MEMBERS
    slack = 0.04 if noise else 0.0  # 128 edges; the benchmark itself takes 640
    assert rows["first"].sum() / rows["edges"].sum() >= TARGETS[grid_size, noise] - slack


@pytest.mark.slow  # runs an experiment
def test_identification_has_teeth(monkeypatch):
    """Names at random are not found right."""

    def shuffled(model, x):
        frame = true(model, x)
        order = torch.randperm(len(frame), generator=torch.Generator().manual_seed(0))
        return frame.assign(function=frame["function"].to_numpy()[order.numpy()])

    true = identification.suggest
    monkeypatch.setattr(identification, "suggest", shuffled)
    rows = pd.DataFrame(IDENTIFICATION.run(SMOKE, (20, 0.0, FIRST_SEED)))
    assert rows["first"].sum() < 8
    assert any(text for text in rows["mistaken_for"])


@pytest.mark.parametrize("edges", [1, 3, 100])
def test_examples_have_so_many_edges(edges):
    model, x = make_example(edges, 40, torch.Generator().manual_seed(0))
    assert sum(int((layer.mask != 0).sum()) for layer in model.layers) == edges
    assert model(x).shape == (40, model.layers[-1].out_features)


def test_speed_says_what_it_leaves_out(monkeypatch):
    monkeypatch.setattr(speed, "missing", lambda name: "not installed")
    plan = SPEED.plan(Setup())
    assert plan.skipped == {"pykan": "not installed"}
    assert {key[0] for key in plan.keys} == {"kanlens"}


def test_speed_compares_with_pykan_per_edge():
    rows = [
        {"who": "kanlens", "edges": 3, "rows": 1000, "threads": 1, "functions": 32,
         "seconds": 0.06, "low": 0.05, "high": 0.07, "seconds_per_edge": 0.02},
        {"who": "pykan", "edges": 3, "rows": 1000, "threads": 1, "functions": None,
         "seconds": 30.0, "low": 30.0, "high": 30.0, "seconds_per_edge": 10.0},
    ]  # fmt: skip
    table = next(iter(SPEED.summary(pd.DataFrame(rows)).values()))
    assert table["times_pykan"].tolist() == [500.0, 1.0]


@pytest.mark.slow
def test_suggestion_stays_quick():
    """Twenty seconds for 100 edges are ten times what two idle cores take."""
    examples = [make_example(100, 1000, torch.Generator().manual_seed(k)) for k in range(2)]
    assert speed._own(examples)[0] < 20
