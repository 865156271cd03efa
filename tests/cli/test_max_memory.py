"""--max-memory: every command that reads DATA has it, and works within it."""

import re

import pytest
import typer

from kanlens import _resources as resources
from kanlens.cli import main
from kanlens.cli._command import app, load_commands

load_commands()
COMMANDS = typer.main.get_command(app).commands
WITH_DATA = sorted(
    name for name, one in COMMANDS.items() if any(part.name == "data" for part in one.params)
)


def words(name, *options):
    """A call of a command with a file, which is not there, for each argument that it must have."""
    needed = [part for part in COMMANDS[name].params if part.required]
    given = []
    for part in needed:
        flag = [] if part.param_type_name == "argument" else [max(part.opts, key=len)]
        given += [*flag, f"no-{part.name}.csv"]
    return [name, *given, *options]


def test_the_option_belongs_to_commands_with_data():
    found = {name for name, one in COMMANDS.items() if _has_option(one)}
    assert found == set(WITH_DATA)
    assert {"attribute", "compare", "predict", "prune", "report", "train"} <= found


def _has_option(command):
    return any("--max-memory" in part.opts for part in command.params)


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_wrong_value_ends_in_one_line(name, capsys):
    text = "1MB"
    code = main(words(name, "--max-memory", text))
    out, err = capsys.readouterr()
    said = " ".join(err.split())
    expected = f"kanlens: {name}: expected --max-memory of at least 64 MiB, got {text!r}. For"
    assert (code, out) == (1, "")
    assert said.startswith(expected), said
    assert said.count("kanlens: ") == 1


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_right_value_is_in_force_while_the_command_runs(name, capsys, monkeypatch):
    seen = []
    terminal = "kanlens.cli._command.Terminal"
    monkeypatch.setattr(terminal, lambda *_, **__: seen.append(resources.allowed_memory()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(words(name, "--max-memory", "64MiB"))
    assert seen == [2**26]
    assert resources.allowed_memory() != 2**26


def test_without_a_value_it_is_usage(capsys):
    assert main(words("attribute", "--max-memory")) == 2
    assert re.search(r"requires an argument", capsys.readouterr().err)
