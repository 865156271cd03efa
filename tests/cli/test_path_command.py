"""The command sparsity-path, and layers with products from the shell."""

from __future__ import annotations

import pandas as pd
import pytest

import kanlens
from kanlens.cli import main
from tests.cli.test_commands import answer


@pytest.mark.slow  # takes a while
def test_a_path_writes_the_best_model_and_a_row_per_strength(workshop, tmp_path, capsys):
    words = ["sparsity-path", workshop / "data.csv", "--target", "area", "--hidden", "0"]
    words += ["--strengths", "0,0.001,0.5", "--steps", "4", "--seed", "0"]
    found = answer(capsys, *words, "-o", tmp_path / "m.safetensors")
    table = pd.read_csv(tmp_path / "m.path.csv")
    assert table["strength"].tolist() == [0.0, 0.001, 0.5]
    best = table[table["best"]]
    assert len(best) == 1 and best["strength"].item() == found["strength"]
    assert table["edges_above"].iloc[-1] < table["edges_above"].iloc[0]
    assert kanlens.load(tmp_path / "m.safetensors").edges_alive == found["edges_alive"]
    assert [step["strength"] for step in found["steps"]] == table["strength"].tolist()


def test_strengths_out_of_order_are_refused_in_one_line(workshop, tmp_path, capsys):
    words = ["sparsity-path", f"{workshop}/data.csv", "--target", "area"]
    assert main([*words, "--strengths", "0.1,0", "-o", f"{tmp_path}/m.safetensors"]) == 1
    assert "sparsity_path: expected strictly increasing strengths" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_products_are_asked_for_by_their_number(workshop, tmp_path, capsys):
    words = ["train", workshop / "data.csv", "--target", "area", "--hidden", "1:2,2"]
    found = answer(capsys, *words, "--steps", "1", "-o", tmp_path / "m.safetensors")
    assert found["widths"] == [3, 3, 2, 1]
    (nodes, *_) = kanlens.load(tmp_path / "m.safetensors").nodes
    assert nodes.grouping.arities == (2, 2) and len(nodes.owner) == 5
