"""The command edit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import kanlens
from kanlens.cli import main
from tests.cli.test_commands import answer

EDITS = """
[[edit]]
do = "monotone"
term = "dose"
direction = "increasing"

[[edit]]
do = "set"
edge = [0, 0, "age"]
values = [[0.0, 1.0], [0.5, 0.0], [1.0, 1.0]]

[[edit]]
do = "refit"
keep = ["age"]
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Return the paths of a model, edits, data, and an output."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(0, 1, (80, 2)), columns=["dose", "age"])
    frame["price"] = frame["dose"] - frame["age"] + draw.normal(0, 0.1, 80)
    frame.to_csv(tmp_path / "data.csv", index=False)
    generator = torch.Generator().manual_seed(0)
    names = {"feature_names": ["dose", "age"], "output_names": ["price"]}
    model = kanlens.KAN([2, 1], spline_order=1, grid_range=(0, 1), generator=generator, **names)
    kanlens.save(model.double(), tmp_path / "model.safetensors")
    (tmp_path / "edits.toml").write_text(EDITS)
    names = ("model.safetensors", "edits.toml", "data.csv", "edited.safetensors")
    return [str(tmp_path / name) for name in names]


def test_a_file_of_edits_is_carried_out(files, capsys):
    *inputs, path = files
    facts = answer(capsys, "edit", *inputs, "-o", path, "--by", "age")
    assert [step["action"].partition("(")[0] for step in facts["edits"]] == [
        "monotone",
        "set",
        "refit",
    ]
    assert facts["loss_after"] < facts["loss_before"] and len(facts["groups"]) == 4
    model = kanlens.load(path)
    assert len(model.edits) == 3
    phi = model.layers[0].edge(0, 1)
    assert phi(np.array([0.0, 0.25, 0.5])).tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert answer(capsys, "info", path)["edits"] == [step.line for step in model.edits]


def test_tables_are_shown(files, capsys):
    *inputs, path = files
    assert main(["edit", *inputs, "-o", path, "-q"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "monotone('increasing')" in shown and "loss after" in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[edit]\n", "edit: expected TOML in 'edits.toml', got "),
        ("a = 1\n", "edit: expected [[edit]] tables in 'edits.toml', got none"),
        (
            '[[edit]]\ndo = "smoth"\nterm = "age"',
            "edit 1 of edits.toml: expected do to be one",
        ),
        ('[[edit]]\ndo = "smooth"\nterm = "aeg"', "got 'aeg'. Did you mean 'age'?"),
        (
            '[[edit]]\ndo = "smooth"\nterm = "age"\nsrength = 2',
            "keyword argument 'srength'",
        ),
        ('[[edit]]\ndo = "smooth"\nterm = "age"\nstrength = "a"', "got 'a'. Pass a number above 0"),
        (
            '[[edit]]\ndo = "set"\nterm = "age"',
            "expected arguments of set, got",
        ),
        ('[[edit]]\ndo = "zero"\nedge = [0]', "expected arguments of zero, got "),
        ('[[edit]]\ndo = "zero"', "Name an edge: edit.edge(layer, out, in_)"),
        ("", "the empty file"),
    ],
)
def test_errors_name_the_entry(files, text, expected, capsys):
    Path(files[1]).write_text(text)
    assert main(["edit", *files[:3], "-o", files[3]]) == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if "kanlens: edit" in line]
    assert expected in line
    assert not Path(files[3]).exists()
