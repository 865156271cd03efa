"""The benchmark as a whole: it runs without data, resumes, and draws from its files."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from benchmarks.campaign import units
from benchmarks.commands import main
from benchmarks.sparsity import running
from benchmarks.sparsity.experiment import Experiment, Plan, Setup
from benchmarks.sparsity.pictures import PICTURES
from benchmarks.sparsity.running import EXPERIMENTS, read_tables, run
from benchmarks.sparsity.summaries import summaries
from kanlens.errors import InvalidValueError


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    return folder, run(Setup(seeds=(0,), smoke=True), folder, progress=False)


@pytest.mark.slow  # every experiment once
def test_smoke_runs_everything_without_data(smoke):
    folder, result = smoke
    assert set(result.tables) == {t for each in EXPERIMENTS.values() for t in each.columns}
    assert result.skipped == {}
    assert {path.suffix for path in result.files} == {".csv", ".png"}
    assert all(path.exists() for path in result.files)
    assert result.measured > 5
    json.loads(result.to_json())
    assert len(result.to_frame())
    again = run(Setup(seeds=(0,), smoke=True), folder, progress=False)
    assert again.measured == 0


@pytest.mark.slow  # with the one before
def test_every_picture_is_drawn_from_files_alone(smoke):
    folder, _ = smoke
    tables = read_tables(folder)
    assert len(summaries(tables)) >= len(EXPERIMENTS)
    for picture in PICTURES.values():
        figure = picture.draw({name: tables[name] for name in picture.needs})
        assert all(ax.has_data() for ax in figure.axes)
        assert picture.caption.endswith(".")


def counting(log, keys=((1, 0), (2, 0))):
    """Return an experiment that writes down what it runs, and breaks at 3."""

    def work(setup, key):
        log.append(key)
        if key[0] == 3:
            raise RuntimeError("broken")
        return {
            "first": [{"n": key[0], "seed": 0, "value": 0.5}],
            "second": [{"n": key[0], "seed": 0}],
        }

    return Experiment(
        name="counting",
        question="What is run?",
        columns={"first": ("n", "seed", "value"), "second": ("n", "seed")},
        keys=("n", "seed"),
        plan=lambda setup: Plan(keys=keys, skipped={"this": "no reason"}),
        run=work,
    )


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    log = []
    broken = counting(log, keys=((1, 0), (3, 0), (2, 0)))
    monkeypatch.setattr(running, "EXPERIMENTS", {"counting": broken})
    with pytest.raises(RuntimeError, match="broken"):
        run(Setup(), tmp_path, jobs=1, progress=False)
    assert log == [(1, 0), (3, 0)]
    monkeypatch.setattr(running, "EXPERIMENTS", {"counting": counting(log)})
    result = run(Setup(), tmp_path, jobs=1, progress=False)
    assert log == [(1, 0), (3, 0), (2, 0)]
    assert (result.measured, result.skipped) == (1, {"counting: this": "no reason"})
    assert result.tables["first"]["n"].tolist() == [1, 2]


def test_a_unit_whose_first_table_is_missing_is_run_again(tmp_path, monkeypatch):
    log = []
    monkeypatch.setattr(running, "EXPERIMENTS", {"counting": counting(log)})
    pd.DataFrame({"n": [1], "seed": [0]}).to_csv(tmp_path / "second.csv", index=False)
    run(Setup(), tmp_path, jobs=1, progress=False)
    assert (1, 0) in log
    assert len(read_tables(tmp_path)["second"]) == 2


@pytest.mark.slow  # starts two processes
def test_units_run_in_processes_of_their_own(tmp_path):
    setup = Setup(seeds=(0, 1), smoke=True)
    keys = [("composed", "lbfgs", seed) for seed in setup.seeds]
    found = dict(units(EXPERIMENTS["scaler"], setup, keys, 2))
    assert set(found) == set(keys)
    here = EXPERIMENTS["scaler"].run(setup, keys[0])["sparsity-scaler"]
    there = found[keys[0]]["sparsity-scaler"]
    assert [row["test"] for row in here] == pytest.approx([row["test"] for row in there], rel=1e-3)


def test_an_unknown_experiment_is_refused(tmp_path):
    with pytest.raises(InvalidValueError, match=r"Did you mean 'grids'\?"):
        run(Setup(), tmp_path, experiments=["grid"])


def test_the_command_prints_json_and_says_what_it_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "EXPERIMENTS", {"counting": counting([])})
    monkeypatch.chdir(tmp_path)
    assert main(["sparsity", "--json", "-o", "out", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["measured"] == 2
    assert "left out counting: this: no reason" in err
    assert (tmp_path / "out" / "first.csv").exists()
