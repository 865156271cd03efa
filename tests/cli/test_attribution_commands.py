"""importance, and the options of attribute and compare."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.cli import main
from tests.cli.test_commands import answer


@pytest.mark.slow  # runs commands
def test_importance_ranks_the_features_of_every_output(workshop, tmp_path, capsys):
    out = tmp_path / "importance.csv"
    model, data = workshop / "model.safetensors", workshop / "data.csv"
    facts = answer(capsys, "importance", model, data, "--seed", "1", "-o", out)
    table = pd.DataFrame(facts["importance"])
    assert sorted(table["feature"]) == ["height", "noise", "width"]
    assert table["importance"].is_monotonic_decreasing
    assert bool((table["low"] <= table["importance"]).all())
    assert pd.read_csv(out)["feature"].tolist() == table["feature"].tolist()
    again = answer(capsys, "importance", model, data, "--seed", "1")
    assert again["importance"] == facts["importance"]


@pytest.mark.slow  # runs commands
def test_a_reference_class_has_a_line_in_place_of_zeros(tmp_path, capsys):
    draws = np.random.default_rng(0)
    frame = pd.DataFrame({"x1": draws.normal(size=60), "grade": ["low", "mid", "mid"] * 20})
    frame["grade"] = np.where(frame["x1"] > 1, "high", frame["grade"])
    frame.to_csv(tmp_path / "data.csv", index=False)
    model = kanlens.KAN([1, 3], generator=torch.Generator().manual_seed(0))
    model.schema = kanlens.read_table(frame, target="grade").schema
    model.layers[0].mask[2] = 0
    words = [f"{kanlens.save(model, tmp_path / 'm.safetensors')}", f"{tmp_path}/data.csv"]
    assert main(["importance", *words]) == 0
    out, err = (" ".join(text.split()) for text in capsys.readouterr())
    assert "importance for grade=high (log-odds against class mid)" in out
    assert "importance for grade=mid" not in out
    assert "grade=mid is the reference class: other classes are relative to it." in err
    assert main(["importance", *words, "--output-name", "grade=mid"]) == 0
    assert "importance for grade=mid" in capsys.readouterr().out
    assert main(["attribute", *words, "-o", f"{tmp_path}/a.csv"]) == 0
    text = " ".join(capsys.readouterr().err.split())
    assert "class other than mid, the reference, that is predicted for most rows" in text


@pytest.mark.slow  # runs commands
def test_options_of_a_method_are_passed_on(workshop, capsys):
    words = [workshop / "model.safetensors", workshop / "data.csv", "--method", "sobol_first"]
    few = answer(capsys, "importance", *words, "--set", "n_samples=8", "--seed", "0")
    many = answer(capsys, "importance", *words, "--seed", "0")
    assert few["importance"] != many["importance"]


@pytest.mark.parametrize("given", ["n_samples", "=3", "method=secant", "2x=1"])
def test_options_must_be_named(workshop, capsys, given):
    words = ["attribute", f"{workshop}/model.safetensors", f"{workshop}/data.csv", "--set", given]
    assert main(words) == 1
    expected = "attribute: expected --set name=value with an option of the method"
    assert expected in capsys.readouterr().err


def test_unknown_options_are_refused(workshop, capsys):
    words = ["importance", f"{workshop}/model.safetensors", f"{workshop}/data.csv"]
    assert main([*words, "--set", "steps=3"]) == 1
    assert "importance: expected options of method 'shapley'" in capsys.readouterr().err


def test_compare_shows_arrows_and_verdicts(workshop, capsys):
    words = ["compare", f"{workshop}/model.safetensors", f"{workshop}/data.csv", "--max-rows", "5"]
    assert main([*words, "--methods", "secant", "--metrics", "relative_gap,gini"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("output: area\n")
    assert "relative gap ↓" in shown
    assert "random" in shown
    assert "off the Shapley values" in shown or "exact:" in shown or "complete" in shown


def test_why_compare_leaves_a_method_out_names_flags(workshop, capsys, monkeypatch):
    monkeypatch.setattr("kanlens.attribution._compare.comparable", lambda: ["secant", "additive"])
    words = ["compare", f"{workshop}/model.safetensors", f"{workshop}/data.csv", "--max-rows", "3"]
    assert main([*words, "--methods", "all", "--metrics", "relative_gap"]) == 0
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("additive was left out: attribute: expected ")
    assert line.endswith(". Use --methods shapley.")


@pytest.mark.parametrize("command", ["attribute", "importance", "compare", "certify"])
def test_where_nothing_can_be_written_is_said_before_the_work(
    workshop, capsys, monkeypatch, command
):
    def never(*_, **__):
        raise AssertionError("the work has begun")

    monkeypatch.setattr(kanlens, command, never)
    words = [command, f"{workshop}/model.safetensors", f"{workshop}/data.csv", "-o"]
    assert main([*words, f"{workshop}/data.csv/inside.csv"]) == 1
    assert f"{command}: expected a file to write" in capsys.readouterr().err


def test_errors_in_the_background_name_the_command(workshop, capsys):
    words = ["attribute", f"{workshop}/model.safetensors", f"{workshop}/data.csv"]
    assert main([*words, "--background", "nowhere.csv"]) == 1
    assert "attribute: background: expected a file" in capsys.readouterr().err


def test_the_output_and_its_unit_are_named(workshop, tmp_path, capsys):
    model, data = workshop / "model.safetensors", workshop / "data.csv"
    facts = answer(capsys, "attribute", model, data, "-o", tmp_path / "a.csv", "--max-rows", "3")
    assert facts["target"] == "area"


def test_a_narrow_terminal_gets_whole_numbers(workshop, capsys, monkeypatch):
    monkeypatch.setattr("kanlens.cli._console.PIPED_WIDTH", 80)
    words = ["compare", f"{workshop}/model.safetensors", f"{workshop}/data.csv", "--max-rows", "3"]
    assert main([*words, "--methods", "secant,captum_feature_ablation"]) == 0
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 80
    secant = next(line.split() for line in shown.splitlines() if line.startswith(" secant"))
    assert len(secant) == 7
    assert all(float(number) >= 0 for number in secant[1:3])
