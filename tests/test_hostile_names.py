"""Names and cells that hold control characters are escaped wherever they are shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens._display import escaped
from kanlens.cli import main
from kanlens.errors import DataError, InvalidValueError
from kanlens.reporting._notebook import to_html

RED, NUL, TITLE, BACK = "a\x1b[31mred", "b\x00nul", "c\x1b]0;t\x07", "d\u202ertl"
CELL = "x\x1b[2J"
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202e]")
PRINT = """
import sys
from kanlens.cli._signals import run
sys.argv = ["kanlens", "info"]
run(lambda: lambda: print("emoji \\U0001f600, half \\ud800, angstrom \\u00c5") or 0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data.csv and a model of it, all of whose names are hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(-1, 1, (60, 2)), columns=[RED, NUL])
    frame[TITLE] = draw.choice([CELL, "y\x00", "<b>"], 60)
    frame[BACK] = frame[RED] ** 2 + frame[NUL]
    frame.to_csv(folder / "data.csv", index=False)
    table = kanlens.read_table(folder / "data.csv", target=BACK)
    seed = torch.Generator().manual_seed(0)
    model = kanlens.KAN([5, 1], generator=seed).double()
    kanlens.fit(model, table, steps=3, progress=False, generator=seed)
    kanlens.save(model, folder / "m.safetensors")
    return folder


def test_control_characters_are_escaped_and_no_others():
    text = "tab\t, newline\n, nbsp\u00a0, thin\u2009, joined \U0001f469\u200d\U0001f52c, \\x1b, '"
    assert escaped(text) == text
    every = "".join(map(chr, [*range(9), *range(11, 32), *range(127, 160), 0x202A, 0x2066, 0xD800]))
    assert escaped(every) == every.encode("unicode_escape").decode()
    assert escaped(escaped(every)) == escaped(every)


def test_errors_are_one_line_without_control_characters(folder):
    error = DataError("call", f"a name\n\t{RED}", NUL, "Change it")
    assert str(error) == "call: expected a name\\n\\ta\\x1b[31mred, got b\\x00nul. Change it."
    model = kanlens.load(folder / "m.safetensors")
    with pytest.raises(InvalidValueError) as refused:
        kanlens.certify(model, {RED + "\x9b": (0, 1)})
    assert not OBEYED.search(str(refused.value))


@pytest.mark.parametrize("command", ["info", "importance"])
def test_tables_and_lines_of_commands_are_escaped(folder, command, capfd):
    data = [f"{folder}/data.csv"] if command == "importance" else []
    assert main([command, f"{folder}/m.safetensors", *data]) == 0
    shown = capfd.readouterr()
    assert not OBEYED.search(shown.out + shown.err)
    assert all(escaped(name) in shown.out for name in (RED, NUL, TITLE, BACK))


def test_file_names_are_escaped(folder, tmp_path, capfd):
    path = tmp_path / "o\x1b[1m.csv"
    words = ["predict", f"{folder}/m.safetensors", f"{folder}/data.csv", "-o", str(path)]
    assert main(words) == 0
    assert main(["info", f"{tmp_path}/n\x1b[1m"]) == 1
    shown = capfd.readouterr()
    assert path.is_file()
    assert not OBEYED.search(shown.out + shown.err)
    assert "o\\x1b[1m.csv" in shown.err
    assert "n\\x1b[1m" in shown.err


@pytest.mark.slow  # every public function once
def test_results_and_notebooks_are_escaped(folder):
    model = kanlens.load(folder / "m.safetensors")
    table = kanlens.read_table(folder / "data.csv", target=BACK)
    found = kanlens.attribute(model, table.x, background=table.x)
    for text in (repr(model), repr(found), to_html(found), to_html(model)):
        assert not OBEYED.search(text)


@pytest.mark.slow  # many models
def test_pictures_are_escaped(folder, tmp_path):
    model = kanlens.load(folder / "m.safetensors")
    table = kanlens.read_table(folder / "data.csv", target=BACK)
    front = kanlens.frontier(table, max_edges=6, progress=False)
    pictures = (
        kanlens.plot.network(model),
        kanlens.plot.terms(model, table.x),
        kanlens.plot.terms(front.model(), table.x),
        kanlens.plot.frontier(front, references={RED: 0.5, NUL: 0.6}),
    )
    for picture in pictures:
        kanlens.plot.save(picture, tmp_path / "n.svg")
        assert not OBEYED.search((tmp_path / "n.svg").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", r"emoji \U0001f600, half \ud800, angstrom \xc5"),
        ("utf-8", "emoji \U0001f600, half \\ud800, angstrom \u00c5"),
    ],
)
def test_signs_that_a_terminal_has_no_bytes_for_are_escaped(encoding, expected):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", PRINT]
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert done.stdout.decode().rstrip() == expected
