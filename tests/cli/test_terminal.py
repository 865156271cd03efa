"""Tables in narrow terminals."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console

from kanlens.cli import main
from kanlens.cli.terminal import PAD, Terminal, blocks, broken
from tests.cli.test_flags import COMMANDS


@pytest.fixture
def frame():
    names = ["secant", "captum_shapley_value_sampling"]
    columns = {"method": names, "relative_gap ↓": [1.23456e-7, 0.25], "rank ↑": [1.0, 0.333333]}
    return pd.DataFrame({**columns, "options": [[], ["n_samples", "noise", "of", "kind"]]})


def widths(part):
    cells = [[name, *part[name]] for name in part]
    return [PAD + max(cell_len(line) for c in cell for line in c.split("\n")) for cell in cells]


def test_a_table_that_fits_is_left_alone(frame):
    assert blocks(frame, 200)[0] is frame


@pytest.mark.parametrize("width", [36, 40, 60, 80])
def test_parts_fit_and_no_number_is_broken(frame, width):
    parts = blocks(frame, width, key=16)
    assert all(sum(widths(part)) <= width for part in parts)
    found = [name for part in parts for name in part.columns[1:]]
    assert found == ["relative_\ngap ↓", "rank ↑", "options"]
    gaps = next(part["relative_\ngap ↓"] for part in parts if "relative_\ngap ↓" in part)
    assert gaps.tolist() == ["1.23e-07", "0.25"]
    for part in parts:
        assert part["method"].tolist() == ["secant", "captum_shapley_\nvalue_sampling"]


def test_options_are_not_broken(frame):
    options = blocks(frame, 36, key=16)[-1]["options"]
    assert "".join(options).count("n_samples") == 1


def test_a_piece_that_is_too_long_stays_whole():
    assert broken("a_verylongname", 4) == "a_\nverylongname"
    assert broken("", 4) == ""


def shown(width, *, terminal):
    where = io.StringIO()
    made = Terminal("t")
    made.data = made.words = Console(file=where, width=width, force_terminal=terminal)
    made.equation("y", "1.23456789*alpha + 2.3456789*beta*(1 - gamma)", "1.235*alpha + 2.3*beta")
    made.say("wrote a-file-with-a-name (3 bytes)")
    return where.getvalue()


def test_terminals_round_and_break_between_words_and_pipes_get_whole_lines():
    assert shown(30, terminal=True).splitlines() == [
        "y = 1.235*alpha + 2.3*beta",
        "wrote a-file-with-a-name (3 ",
        "bytes)",
    ]
    assert shown(30, terminal=False).splitlines() == [
        "y = 1.23456789*alpha + 2.3456789*beta*(1 - gamma)",
        "wrote a-file-with-a-name (3 bytes)",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_helps_fit_80_columns_with_nothing_cut(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert max(map(cell_len, said.splitlines())) <= 80
    assert "\u2026" not in said
