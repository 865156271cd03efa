"""The command discover."""

import json

import numpy as np
import pandas as pd
import pytest

from kanlens.cli import main


@pytest.fixture
def table(tmp_path):
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.uniform(1, 3, (150, 2)), columns=["mass", "speed"])
    frame["energy"] = frame["mass"] * frame["speed"] ** 2 / 2
    frame["colour"] = draw.choice(["red", "green", "blue"], 150)
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    return path


def test_discover_prints_formula_and_receipt(table, capsys):
    words = ["discover", str(table), "--target", "energy", "--features", "mass,speed"]
    assert main([*words, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert "energy = mass*speed**2/2" in out
    assert "R2 1.000000" in out
    assert err == ""


def test_columns_that_are_called_like_numbers_stand_in_backticks(table, capsys):
    pd.read_csv(table).rename(columns={"mass": "E", "speed": "pi"}).to_csv(table, index=False)
    words = ["discover", str(table), "--target", "energy", "--features", "E,pi"]
    assert main([*words, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("energy = `E`*`pi`**2/2")
    assert lines[at + 1] == "Names in backticks are columns: `E`, `pi`."
    assert lines[at + 2] == "Checked on the 45 rows used to choose it."


def test_discover_as_json(table, capsys):
    words = ["discover", str(table), "--target", "energy", "--features", "mass,speed"]
    assert main([*words, "--json", "--quiet", "--seed", "1"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["stopped_because"] == "an exact formula was found"
    rows = data["equations"]
    (formulas,) = rows.values()
    assert any(row["sympy_format"] == "mass*speed**2/2" for row in formulas)


def test_discover_leaves_out_words_and_dates(table, capsys):
    frame = pd.read_csv(table)
    frame.insert(0, "day", pd.date_range("2020-01-01", periods=len(frame)).astype(str))
    frame.to_csv(table, index=False)
    for features in ([], ["--features", "mass,speed,day,colour"]):
        assert main(["discover", str(table), "--target", "energy", *features]) == 0
        out, err = capsys.readouterr()
        assert "energy = mass*speed**2/2" in out
        assert "got text or dates in 'day', 'colour'. They are left out." in err


def test_discover_needs_columns_of_numbers(table, capsys):
    words = ["discover", str(table), "--target", "energy", "--features"]
    assert main([*words, "colour"]) == 1
    assert "expected columns of numbers, got text or dates in 'colour'." in capsys.readouterr().err
    assert main([*words, "mass,nothing"]) == 1
    assert "'nothing'" in capsys.readouterr().err


def test_discover_needs_a_target(table, capsys):
    assert main(["discover", str(table)]) == 2
    assert main(["discover", str(table), "--target", "nothing"]) == 1
    capsys.readouterr()
