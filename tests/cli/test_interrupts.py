"""Ctrl-C in a command: what there is by then is kept, and the exit code says so."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import kanlens
from kanlens.cli import main
from kanlens.training._training_loop import TrainingRun


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (60, 2)), columns=["a", "b"])
    frame["y"] = frame["a"] ** 2
    frame.to_csv(tmp_path / "data.csv", index=False)
    options = ["--target", "y", "--hidden", "2", "--steps", "6", "--seed", "0"]
    return ["train", f"{tmp_path}/data.csv", *options]


def interrupt(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Have Ctrl-C come in the middle of a step."""
    whole = TrainingRun._one_step

    def cut(run: TrainingRun, move_grids: bool) -> None:
        if run.step == step:
            raise KeyboardInterrupt
        whole(run, move_grids)

    monkeypatch.setattr(TrainingRun, "_one_step", cut)


@pytest.mark.slow  # runs commands
def test_training_keeps_the_model_and_goes_on(tmp_path, words, monkeypatch, capsys):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert main([*words, "-o", str(whole)]) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        assert main([*words, "-o", str(parts)]) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert "interrupted" in said
    assert "--resume continues from 'parts.safetensors.checkpoint'" in said
    assert kanlens.load(parts).statistics is not None
    assert main([*words, "-o", str(parts), "--resume"]) == 0
    assert not parts.with_name("parts.safetensors.checkpoint").exists()
    wanted, found = kanlens.load(whole).state_dict(), kanlens.load(parts).state_dict()
    for name, tensor in wanted.items():
        assert_close(found[name], tensor, rtol=0, atol=0)


def test_a_command_without_a_result_says_so(tmp_path, words, monkeypatch, capsys):
    def stopped(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kanlens.save", stopped, raising=False)
    assert main([*words, "-o", str(tmp_path / "model.safetensors")]) == 130
    assert "interrupted; no file is left half written" in capsys.readouterr().err


class Cut:
    """A function in whose last call Ctrl-C comes."""

    def __init__(self, function: Any, calls: int) -> None:
        self.function, self.left = function, calls

    def __call__(self, *given: Any, **options: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return self.function(*given, **options)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    kan = kanlens.KAN([2, 3, 1], generator=torch.Generator().manual_seed(0))
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(1))
    frame = pd.DataFrame(x.numpy(), columns=list(kan.feature_names))
    frame.to_csv(tmp_path / "data.csv", index=False)
    return kanlens.save(kan, tmp_path / "m.safetensors")


CASES = [
    (["prune", "--budget", "9"], "p.safetensors", "pruning._removal.reached", 4),
    (["compare", "--methods", "shapley,secant"], "c.csv", "attribution._method_runs.attribute", 2),
    (["certify"], "c.json", "certificates._certify.explore", 1),
]


@pytest.mark.parametrize(("words", "output", "place", "calls"), CASES[1:])
def test_partial_results_are_written_whole(
    tmp_path, model, monkeypatch, capsys, words, output, place, calls
):
    module, _, name = place.rpartition(".")
    owner = importlib.import_module(f"kanlens.{module}")
    monkeypatch.setattr(owner, name, Cut(getattr(owner, name), calls))
    command, *options = words
    path = tmp_path / output
    assert main([command, str(model), f"{tmp_path}/data.csv", *options, "-o", str(path)]) == 130
    said = capsys.readouterr().err
    assert f"kanlens: {command}: interrupted. " in said
    assert f"wrote {path}" in " ".join(said.split("\n"))
    assert path.stat().st_size


@pytest.mark.parametrize(("words", "output", "place", "calls"), CASES)
def test_a_partial_result_replaces_no_older_file(
    tmp_path, model, monkeypatch, capsys, words, output, place, calls
):
    path = tmp_path / output
    path.write_text("older")
    (tmp_path / f"{path.stem}.partial{path.suffix}").write_text("older, too")
    module, _, name = place.rpartition(".")
    owner = importlib.import_module(f"kanlens.{module}")
    monkeypatch.setattr(owner, name, Cut(getattr(owner, name), calls))
    command, *options = words
    options = [*options, "--json", "-o", str(path)]
    assert main([command, str(model), f"{tmp_path}/data.csv", *options]) == 130
    shown = capsys.readouterr()
    partial = tmp_path / f"{path.stem}.partial2{path.suffix}"
    assert path.read_text() == "older"
    assert partial.stat().st_size
    said = shown.err.splitlines()
    assert f"{path} is unchanged; the partial result goes to another file" in said
    assert any(line.startswith(f"wrote {partial} (") for line in said)
    if command == "prune":
        assert json.loads(shown.out)["model"] == str(partial)


@pytest.mark.slow  # runs commands
def test_a_model_that_training_left_unfinished_replaces_no_older_one(
    tmp_path, words, monkeypatch, capsys
):
    path = tmp_path / "m.safetensors"
    assert main([*words, "-o", str(path)]) == 0
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        assert main([*words, "-o", str(path)]) == 130
    assert path.read_bytes() == before
    assert kanlens.load(tmp_path / "m.partial.safetensors").edges_alive
    assert main([*words, "-o", str(path), "--resume"]) == 0
    assert path.read_bytes() == before  # the same run, whole
    assert "is unchanged" in capsys.readouterr().err


def test_a_report_that_was_interrupted_leaves_nothing(tmp_path, model, monkeypatch, capsys):
    monkeypatch.setattr("kanlens.reporting._report.analyze", Cut(None, 1))
    path = tmp_path / "r.html"
    assert main(["report", str(model), f"{tmp_path}/data.csv", "-q", "-o", str(path)]) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("kanlens: report: interrupted. Nothing")
    assert not path.exists()
