"""Tables that no model can be trained or judged on end `train` with one line and no file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kanlens.cli import main
from kanlens.cli._model_data import check_learnable
from kanlens.data._source import scan_table
from kanlens.errors import DataError

FEW = "kanlens: train: expected at least 10 rows to train on, got {}. Pass more rows."
SAME = (
    "kanlens: {}: expected rows to train on with different values of 'y', got 3 in all rows. "
    "Choose another target."
)
HELD_OUT = "kanlens: train: expected at least 2 rows held out, got 1. Raise --holdout."
UNJUDGED = (
    "kanlens: train: expected held-out rows with different targets, got 1 equal ones. "
    "Pass more rows, or another share with --validation."
)
TRAIN = ["train", "--target", "y", "--seed", "0", "--steps", "2"]
DEFAULT = ["train", "--target", "y", "--seed", "0"]


def table(rows: int, folder: Path, *, constant: bool = False) -> Path:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (rows, 2)), columns=["a", "b"])
    frame["y"] = 3.0 if constant else frame["a"] ** 2
    path = folder / "data.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("rows", "words", "expected"),
    [
        *((rows, words, FEW.format(rows)) for rows in (2, 5, 9) for words in (TRAIN, DEFAULT)),
        (12, [*TRAIN, "--holdout", "0.5"], FEW.format(6)),
        (60, [*DEFAULT, "--holdout", "0.0001"], HELD_OUT),
        (60, [*TRAIN, "--validation", "0.02"], UNJUDGED),
    ],
)
def test_too_few_rows_are_refused(tmp_path, capfd, rows, words, expected):
    data = table(rows, tmp_path)
    assert main([*words, str(data), "-o", f"{tmp_path}/m.safetensors"]) == 1
    assert capfd.readouterr().err.splitlines()[-1] == expected
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


@pytest.mark.parametrize(
    "words",
    [TRAIN, DEFAULT, ["sparsity-path", "--target", "y"], ["frontier", "--target", "y"]],
)
def test_a_constant_target_is_refused(tmp_path, capfd, words):
    data = table(40, tmp_path, constant=True)
    assert main([*words, str(data), "-o", f"{tmp_path}/m.safetensors"]) == 1
    assert capfd.readouterr().err.splitlines() == [SAME.format(words[0])]
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_rows_held_out_differ_in_their_target(tmp_path):
    frame = pd.DataFrame({"a": range(40), "y": [1.0] * 38 + [2.0, 3.0]})
    whole = scan_table(frame, target="y", progress=False)
    check_learnable(whole, "train")
    text = (
        "train: expected rows held out with different values of 'y', got 1 in all rows. Raise "
        "--holdout."
    )
    with pytest.raises(DataError) as refused:
        check_learnable(whole.read(0, 20), "train", "rows held out", least=2)
    assert str(refused.value) == text


def test_a_source_of_one_target_is_refused_by_its_extremes():
    source = scan_table(pd.DataFrame({"a": range(40), "y": 3.0}), target="y", progress=False)
    with pytest.raises(DataError, match="with different values of 'y', got 3 in all rows"):
        check_learnable(source, "train")
