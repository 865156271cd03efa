"""The files for clusters: they parse, and the commands in them have the options they are given."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from kanlens.cli._command import app, load_commands

FOLDER = Path(__file__).parents[1] / "tutorials" / "cluster"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix != ".md")


def commands(text: str) -> list[list[str]]:
    """Return the words of every kanlens command of a script, or of a list of arguments."""
    text = re.sub(r"#.*", "", text.replace("\\\n", " ")).replace("-m kanlens", "\nkanlens")
    lines = [line.split() for line in text.splitlines()]
    return [line for line in lines if line[:1] == ["kanlens"] and len(line) > 1]


def unknown(words: list[str]) -> list[str]:
    load_commands()
    known = typer.main.get_command(app).commands[words[1]].params
    options = {option for one in known for option in [*one.opts, *one.secondary_opts]}
    asked = [word.partition("=")[0] for word in words[2:] if word.startswith("-")]
    return [option for option in asked if option not in options]


def words_in(path: Path) -> list[list[str]]:
    if path.suffix != ".yaml":
        return commands(path.read_text())
    parts = list(yaml.safe_load_all(path.read_text()))
    job = next(part for part in parts if part["kind"] == "Job")
    container = job["spec"]["template"]["spec"]["containers"][0]
    return commands(" ".join(container["command"]))


def test_an_option_that_does_not_exist_is_found():
    assert unknown(["kanlens", "train", "d.csv", "--target", "y", "--retries=3"]) == ["--retries"]
    assert commands("srun torchrun -m kanlens train a \\\n --seed 0 # x\nkanlens info m") == [
        ["kanlens", "train", "a", "--seed", "0"],
        ["kanlens", "info", "m"],
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_parse_and_their_options_exist(path):
    if path.suffix == ".sbatch":
        subprocess.run(["bash", "-n", str(path)], check=True)
    if path.suffix == ".py":
        ast.parse(path.read_text())
        return
    found = words_in(path)
    assert found
    assert [unknown(words) for words in found] == [[]] * len(found)


def test_every_file_is_described():
    text = (FOLDER / "README.md").read_text()
    assert {path.name for path in FILES} == set(re.findall(r"\]\((.*?)\)", text))
