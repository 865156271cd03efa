"""The command imitate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kanlens
from kanlens.cli import main
from kanlens.imitation import _imitate
from kanlens.training._growth import GrowthPath
from tests import interrupting
from tests.cli.test_commands import answer
from tests.imitation.test_onnx_files import linear

pytest.importorskip("onnxruntime")


@pytest.fixture(autouse=True)
def fewer(monkeypatch):
    monkeypatch.setattr(_imitate, "BETWEEN", 300)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Return the paths of a model, data, and an output."""
    linear(tmp_path / "sum.onnx")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(0, 1, (200, 2)), columns=["dose", "age"])
    frame.assign(price=draw.normal(size=200)).to_csv(tmp_path / "data.csv", index=False)
    return [str(tmp_path / name) for name in ("sum.onnx", "data.csv", "small.safetensors")]


@pytest.mark.slow  # runs commands
def test_a_file_is_followed(files, capsys):
    model, data, path = files
    found = answer(capsys, "imitate", model, data, "--target", "price", "-o", path)
    assert found["teacher"] == "sum.onnx" and found["fidelity"] > 0.999
    assert found["trustworthy"] is True and found["interrupted"] is False
    assert sum(region["rows"] for region in found["worst"]) == 40
    small = kanlens.load(path)
    assert small.feature_names == ("dose", "age") and small.output_names == ("price",)
    assert small.provenance.startswith("imitates sum.onnx, R2 ")


@pytest.mark.slow  # runs commands
def test_words_are_of_the_imitation(files, capsys):
    model, data, path = files
    assert main(["imitate", model, data, "--drop", "price", "-o", path, "-q"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the imitation differs from the sum.onnx by" in shown
    assert "regions with the largest errors" in shown


@pytest.mark.slow  # runs commands
@pytest.mark.filterwarnings("always::kanlens.errors.KanlensWarning")
def test_the_time_and_interrupts_leave_a_model(files, monkeypatch, capsys):
    model, data, path = files
    options = ["--drop", "price", "-o", path, "--json"]
    assert main(["imitate", model, data, *options, "--time-limit", "0"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["interrupted"] is True
    words = "imitate: expected growth to end within --time-limit 0.0, got unfinished growth. The"
    assert words in " ".join(shown.err.split())
    monkeypatch.setattr(GrowthPath, "grow", interrupting.once(GrowthPath.grow, 1))
    assert main(["imitate", model, data, *options]) == 130
    assert "imitate: interrupted. The network has the terms so far" in capsys.readouterr().err
    assert kanlens.load(path.replace(".safe", ".partial.safe")).edges_alive


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["forest.pkl"], "an .onnx file, got 'forest.pkl'. Load it in Python, and pass the model"),
        (["sum.onnx", "--max-edges", "0"], "--max-edges to be a whole number of at least 1"),
        (["sum.onnx"], "2 columns, as the model has, got 3 ('dose', 'age', 'price')"),
        (["sum.onnx", "--features", "dose,day"], "or drop columns that it does not take"),
    ],
)
def test_errors_are_one_line(files, words, expected, capsys):
    folder = Path(files[0]).parent
    name, *options = words
    drop = ["--drop", "price"] if "--max-edges" in options else []
    if "dose,day" in options:
        dates = pd.date_range("2020-01-01", periods=200)
        pd.read_csv(files[1]).assign(day=dates).to_csv(files[1], index=False)
    (folder / "forest.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert main(["imitate", str(folder / name), files[1], "-o", files[2], *drop, *options]) == 1
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not Path(files[2]).exists()
