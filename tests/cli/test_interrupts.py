"""Ctrl-C in a command: what there is by then is kept, and the exit code says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch.testing import assert_close

import kanlens
from kanlens.cli import main
from kanlens.training.run import TrainingRun


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


def test_training_keeps_the_model_and_goes_on(tmp_path, words, monkeypatch, capsys):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert main([*words, "-o", str(whole)]) == 0
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        assert main([*words, "-o", str(parts)]) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert "an interrupt" in said
    assert "--resume goes on from 'parts.safetensors.checkpoint'" in said
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
    assert "interrupted; what was written so far stays" in capsys.readouterr().err
