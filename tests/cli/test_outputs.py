"""Outputs and seeds are refused before a command reads or creates anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from kanlens.cli import main

COMMANDS = {
    "train": ["train", "data.csv", "--target", "y"],
    "sparsity-path": ["sparsity-path", "data.csv", "--target", "y"],
    "frontier": ["frontier", "data.csv", "--target", "y"],
    "imitate": ["imitate", "model.onnx", "data.csv"],
    "predict": ["predict", "model", "data.csv"],
    "import": ["import", "model"],
    "prune": ["prune", "model", "data.csv", "--budget", "0.1"],
    "edit": ["edit", "model", "edits.toml", "data.csv"],
    "symbolize": ["symbolize", "model", "data.csv"],
    "plot": ["plot", "model"],
    "report": ["report", "model", "data.csv"],
    "attribute": ["attribute", "model", "data.csv"],
    "importance": ["importance", "model", "data.csv"],
    "compare": ["compare", "model", "data.csv"],
    "certify": ["certify", "model"],
}
SUFFIX = {"plot": ".svg", "report": ".html", "predict": ".csv"}
SEEDED = {**COMMANDS, "demo": ["demo"], "discover": ["discover", "d.csv", "--target", "y"]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    return tmp_path


def refused(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must end at once, in one line, and leave nothing behind."""
    assert main(words) == 1
    assert [path.name for path in folder.iterdir()] == ["file"]
    [line] = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_folders_and_files_as_folders_are_refused_at_once(command, folder, capsys):
    for output in (".", str(folder), "/"):
        line = refused([*COMMANDS[command], "-o", output], folder, capsys)
        expected = "a file to write, got a folder"
        if command == "attribute":  # which writes parts to one
            expected = "an empty folder, or that of a run to continue, got other files"
        assert line.startswith(f"kanlens: {command}: expected {expected}")
    inside = f"file/out{SUFFIX.get(command, '')}"
    line = refused([*COMMANDS[command], "-o", inside], folder, capsys)
    assert line.startswith(f"kanlens: {command}: expected a file to write, got ")


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"certify", "compare"}))
def test_endings_that_the_writer_does_not_know_are_refused_at_once(command, folder, capsys):
    line = refused([*COMMANDS[command], "-o", "new/out.xyz"], folder, capsys)
    assert line.startswith(f"kanlens: {command}: expected a file name that ends in ")


def test_every_output_of_a_command_is_looked_at(folder, capsys):
    line = refused([*COMMANDS["prune"], "--table", "removed.xyz"], folder, capsys)
    assert "ends in .csv" in line
    line = refused([*COMMANDS["prune"], "--figure", "removed.csv"], folder, capsys)
    assert "ends in .pdf, .png, .svg" in line
    line = refused(["demo", "-o", "file"], folder, capsys)
    assert line.startswith("kanlens: demo: expected a file to write")


@pytest.mark.parametrize("seed", ["99999999999999999999", "-1", "abc"])
@pytest.mark.parametrize("command", SEEDED)
def test_seeds_that_are_none_are_wrong_usage(command, seed, folder, capsys):
    assert main([*SEEDED[command], "--seed", seed]) == 2
    assert "Invalid value for '--seed'" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["file"]
