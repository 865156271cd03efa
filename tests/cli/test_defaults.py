"""A file kanlens.toml sets options of commands; what it names must be there."""

from __future__ import annotations

import pytest

from kanlens.cli import main
from tests.cli.test_commands import answer


@pytest.fixture
def folder(workshop, tmp_path, monkeypatch):
    (tmp_path / "data.csv").write_bytes((workshop / "data.csv").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults_hold_until_an_option_says_otherwise(folder, capsys):
    text = '[train]\nsteps = 2\nhidden = "3"\ntarget = "area"\ngrid-size = 4\n'
    (folder / "kanlens.toml").write_text(text)
    facts = answer(capsys, "train", "data.csv", "-o", "m.safetensors")
    assert (facts["steps"], facts["widths"]) == (2, [3, 3, 1])
    facts = answer(capsys, "train", "data.csv", "-o", "m.safetensors", "--hidden", "4")
    assert (facts["steps"], facts["widths"]) == (2, [3, 4, 1])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[train]\nstep = 2\n", "expected options of train, got step. Did you mean 'steps'?"),
        ("[trian]\n", "expected a section for a command, got [trian]. Did you mean 'train'?"),
        ("steps = 2\n", "expected a section for a command, got [steps]. Known are "),
        ("[train\n", "expected TOML, got "),
    ],
)
def test_what_the_file_says_wrongly_is_one_line(folder, capsys, text, line):
    (folder / "kanlens.toml").write_text(text)
    assert main(["methods"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"kanlens: kanlens.toml: {line}")
