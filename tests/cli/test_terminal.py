"""Tables in narrow terminals."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.cells import cell_len
from rich.console import Console

from kanlens.cli import main
from kanlens.cli._console import Terminal
from tests.cli.test_flags import COMMANDS

NUMBERS = ["8.636e-16", "0.09245", "1.584e-07", "0.9783"]
TABLE = {
    "method": ["captum shapley value sampling"],
    **{f"relative_gap {k}": [float(text)] for k, text in enumerate(NUMBERS)},
    "equation": ["1.5*exp(0.5*x1) - 3.25*sin(x2)*cos(x3) + 7.0*x4"],
}


@pytest.mark.parametrize("width", [80, 160])
def test_no_number_of_a_table_is_broken_and_long_texts_end(width):
    where = io.StringIO()
    made = Terminal("t")
    made.data = Console(file=where, width=width, force_terminal=True, color_system=None)
    made.frame("title", pd.DataFrame(TABLE), cut="equation")
    text = where.getvalue()
    assert max(map(cell_len, text.splitlines())) <= width
    assert set(NUMBERS) <= set(text.split())
    assert text.count("\u2026") == (width == 80)


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
