"""The whole way: functions are counted, commands are run and told."""

import json

import pandas as pd
import pytest
import torch

import kanlens
from benchmarks.harness import Setup
from benchmarks.workflow import housing
from benchmarks.workflow.experiments import WORKFLOW
from benchmarks.workflow.functions import LIMITS, calls, entered
from kanlens.cli import main
from kanlens.model import kernels


def test_functions_of_the_package_are_counted_once_and_others_never():
    model = kanlens.KAN([2, 1])
    x = torch.zeros(1, 2)
    assert entered(lambda: torch.nn.functional.silu(x)) == set()
    model(x)
    once, twice = entered(lambda: model(x)), entered(lambda: [model(x), model(x)])
    assert once == twice
    assert {"forward"} <= {code.co_name for code in once}


@pytest.mark.slow  # trains networks
def test_the_whole_way_on_a_small_table(tmp_path, monkeypatch, capsys):
    table = tmp_path / "data" / "tabular" / "california_housing.csv"
    table.parent.mkdir(parents=True)
    x = torch.rand(120, 2, generator=torch.Generator().manual_seed(0))
    frame = pd.DataFrame(x.numpy(), columns=["rooms", "age"])
    frame.assign(median_house_value=frame.rooms**2 + frame.age).to_csv(table, index=False)

    def answer(command, folder):
        monkeypatch.chdir(folder)
        assert main([*command.split(), "--json", "--quiet"]) == 0
        return json.loads(capsys.readouterr().out)

    monkeypatch.setattr(housing, "answer", answer)
    setup = Setup(smoke=True, data=tmp_path / "data")
    found = WORKFLOW.run(setup, tmp_path, parts=["functions", "housing"], progress=False)
    steps = found.tables["workflow-steps"]
    assert list(steps.step) == ["train", "prune"]
    assert steps.result.str.match(r"test R2 -?\d\.\d{3}, \d+ ").all()
    assert list(found.tables["workflow-functions"].call) == ["model(x)"]
    assert not found.skipped


def test_without_data_the_table_is_left_out(tmp_path):
    found = WORKFLOW.run(Setup(smoke=True), tmp_path, parts=["housing"], progress=False)
    assert list(found.skipped) == ["housing: california_housing"]


@pytest.mark.slow  # measures in every way once
def test_calls_stay_within_their_limits(tmp_path):
    for name, call in calls(tmp_path).items():
        if name not in ("symbolize", "report"):  # the benchmark itself counts those
            with kernels.use("sparse"):
                call()
                assert 0 < len(entered(call)) <= LIMITS[name], name
