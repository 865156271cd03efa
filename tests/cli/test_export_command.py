"""The command export: the file, what is printed, and what is refused."""

from __future__ import annotations

import json

import torch

import kanlens
from kanlens.cli import main
from kanlens.exporters._text_files import load_module


def test_it_writes_what_the_model_computes_and_says_how_close(flat, tmp_path, capsys):
    path = tmp_path / "model.py"
    assert main(["export", str(flat), "--to", "numpy", "-o", str(path), "--json"]) == 0
    said, words = capsys.readouterr()
    facts = json.loads(said)
    assert (facts["format"], facts["file"]) == ("numpy", str(path))
    assert facts["largest_error"] < 1e-10
    assert facts["rows_compared"] > 90
    assert f"wrote {path}" in words
    x = torch.zeros(2, 3, dtype=torch.float64)
    wanted = kanlens.load(flat)(x).detach()
    torch.testing.assert_close(torch.tensor(load_module(path).predict(x.numpy())), wanted)


def test_options_of_sql(flat, tmp_path):
    path = tmp_path / "model.sql"
    words = ["--table", "plots", "--keep", "id,width", "--quiet"]
    assert main(["export", str(flat), "-o", str(path), *words]) == 0
    assert 'SELECT "id", "width", ' in path.read_text()
    assert 'FROM "plots"' in path.read_text()


def test_intervals_are_those_of_predict(flat, tmp_path):
    x = torch.rand(60, 3, dtype=torch.float64)
    model = kanlens.load(flat)
    path = kanlens.save(kanlens.calibrate(model, (x, model(x).detach() + x[:, :1])), tmp_path / "m")
    file = tmp_path / "model.py"
    assert main(["export", str(path), "--interval", "0.9", "-o", str(file), "--quiet"]) == 0
    expected = torch.tensor(kanlens.predict(model, x, interval=0.9).to_numpy())
    torch.testing.assert_close(torch.tensor(load_module(file).predict(x.numpy())), expected)


def test_what_it_cannot_write_is_told_in_one_line(flat, tmp_path, capsys):
    assert main(["export", str(flat), "-o", str(tmp_path / "model.tex")]) == 1
    said = capsys.readouterr().err
    assert "expected a model without splines, got 3 splines" in said
    assert main(["export", str(flat), "--explain", "-o", str(tmp_path / "model.py")]) == 1
    assert "Leave out --explain." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
