"""Errors that a command shows name options the command has."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer

import kanlens
from kanlens.attribution import METHODS
from kanlens.cli import application, main
from kanlens.cli.application import CHECKED, NAMED, in_flags
from kanlens.io.importers.settings import SETTINGS

ROOT = Path(kanlens.__file__).parent
for _name in application.COMMANDS:
    importlib.import_module(f"kanlens.cli.{_name}")
COMMANDS = typer.main.get_command(application.app).commands


def options_of(command):
    names = {option.name for option in COMMANDS[command].params}
    extra = {name for method in METHODS.values() for name in method.options}
    return names | (extra if "options" in names else set(SETTINGS if "settings" in names else ()))


def messages():
    """Return every text of an error in the package: file, line and the constant parts."""
    for path in sorted(ROOT.rglob("*.py")):
        if "plotting" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assign | ast.Call):
                wanted = isinstance(node, ast.Assign) or ast.unparse(node.func) == "message"
                for part in ast.walk(node) if wanted else ():
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield f"{path.name}:{part.lineno}", part.value


def test_an_argument_left_open_ends_no_sentence():
    text = "fit: expected a, got b. Resume with the same, or leave out resume=... to start anew."
    wanted = "Resume with the same, or leave out --resume to start anew."
    assert in_flags(text, COMMANDS["train"]).endswith(wanted)


def test_names_in_advice_can_be_pasted():
    text = "read_table: expected a name, got none. Leave it out with drop='Unnamed: 0'."
    assert in_flags(text, COMMANDS["train"]).endswith("Leave it out with --drop 'Unnamed: 0'.")


# Arguments that only Python has, in errors that no command ends with.
FOR_PYTHON = {"scale", "checkpoint"}


def test_every_argument_that_a_message_advises_is_an_option_of_some_command():
    known = set.union(*(options_of(name) for name in COMMANDS))
    advice = re.compile(r"\b(?:Pass|Use|use|Leave|leave it|leave out|Train with|or pass) ")
    named = {
        found[1]: place
        for place, text in messages()
        if advice.search(text)
        for found in NAMED.finditer(text)
    }
    assert {"impute", "task", "method", "algorithm", "finetune", "proximal"} <= set(named)
    assert set(named) - known == FOR_PYTHON, named


@pytest.mark.parametrize(
    ("command", "text", "shown"),
    [
        (
            "train",
            "fit: expected steps to be a whole number of at least 0, got -1. Change it.",
            "fit: expected --steps to be a whole number of at least 0, got -1. Change it.",
        ),
        (
            "train",
            "fit: expected a finite loss to start from, got a loss of inf. Pass scale=True, or "
            "start from another model.",
            "fit: expected a finite loss to start from, got a loss of inf. Start from another "
            "model.",
        ),
        (
            "train",
            "read_table: expected no missing cells, got 1. Drop such rows, or pass "
            "impute='median'.",
            "read_table: expected no missing cells, got 1. Drop such rows, or pass --impute "
            "median.",
        ),
        (
            "discover",
            "read_table: expected no missing cells, got 1. Drop such rows, or pass "
            "impute='median'.",
            "read_table: expected no missing cells, got 1. Drop such rows.",
        ),
        (
            "prune",
            "prune: expected one of threshold and budget, got both. Pass threshold=0.05 or "
            "budget=0.02, for example.",
            "prune: expected one of threshold and budget, got both. Pass --threshold 0.05 or "
            "--budget 0.02, for example.",
        ),
        (
            "attribute",
            "attribute: expected a game, got products. Use algorithm='auto' on a smaller model, "
            "or method='shapley'.",
            "attribute: expected a game, got products. Use --set algorithm=auto on a smaller "
            "model, or --method shapley.",
        ),
        (
            "attribute",
            "attribute: expected target to be one of the 2 outputs ('u', 'v'), got None. Name it.",
            "attribute: expected --output-name to be one of the 2 outputs ('u', 'v'), got None. "
            "Name it.",
        ),
        (
            "report",
            "report: expected a formula, got none. Pass formula=False.",
            "report: expected a formula, got none. Pass --no-formula.",
        ),
        (
            "info",
            "load: expected a .safetensors file, got a PyTorch file. Read it with import_model.",
            "load: expected a .safetensors file, got a PyTorch file. Read it with 'kanlens "
            "import'.",
        ),
        (
            "train",
            "train: expected a column 'outcom', got columns 'a'. Did you mean 'outcome'?",
            "train: expected a column 'outcom', got columns 'a'. Did you mean 'outcome'?",
        ),
        (
            "compare",
            "compare: expected methods, got 'x'. Choose one of those, or call importance with "
            "method='x'.",
            "compare: expected methods, got 'x'. Choose one of those.",
        ),
    ],
)
def test_messages_are_turned_into_the_words_of_the_command(command, text, shown):
    assert in_flags(text, COMMANDS[command]) == shown


@pytest.mark.parametrize(
    "words",
    [
        ["attribute", "MODEL", "DATA", "--method", "gradient_x_input", "--max-rows", "-1"],
        ["attribute", "MODEL", "DATA", "--set", "algorithm=no", "--max-rows", "2"],
        ["attribute", "MODEL", "DATA", "--method", "additive"],
        ["certify", "MODEL", "DATA", "--tolerance", "-1"],
        ["compare", "MODEL", "DATA", "--methods", "weight_l1"],
        ["discover", "DATA", "--target", "area", "--time-limit", "-1"],
        ["importance", "MODEL", "DATA", "--output-name", "volume"],
        ["prune", "MODEL", "DATA"],
        ["prune", "MODEL", "DATA", "--budget", "-1"],
        ["report", "MODEL", "DATA", "--max-rows", "1"],
        ["symbolize", "MODEL", "DATA", "--r2-min", "2"],
        ["train", "DATA", "--target", "area", "--strength", "0.1"],
        ["train", "DATA", "--target", "area", "--steps", "-1"],
        ["train", "DATA", "--target", "area", "--proximal"],
        ["train", "GAPS", "--target", "area"],
    ],
)
def test_an_error_names_flags_that_the_command_has(workshop, tmp_path, capsys, words):
    gaps = (workshop / "data.csv").read_text().splitlines()
    gaps[1] = "," + gaps[1].split(",", 1)[1]
    (tmp_path / "gaps.csv").write_text("\n".join(gaps))
    paths = {"MODEL": workshop / "model.safetensors", "DATA": workshop / "data.csv"}
    paths["GAPS"] = tmp_path / "gaps.csv"
    outputs = {"attribute": ["-o", "a.csv"], "prune": ["-o", "m.st"], "train": ["-o", "m.st"]}
    given = [str(paths.get(word, word)) for word in words]
    given += [str(tmp_path / word) if "." in word else word for word in outputs.get(words[0], [])]
    assert main(given) == 1
    said = capsys.readouterr().err
    shown = set(re.findall(r"--[a-z][a-z0-9-]*", said))
    flags = {flag for option in COMMANDS[words[0]].params for flag in option.opts}
    flags |= {flag for option in COMMANDS[words[0]].params for flag in option.secondary_opts}
    assert shown <= flags, said
    named = {found[1] for found in NAMED.finditer(re.sub(r"--set \S+", "", said))}
    assert not named, said
    assert not (set(CHECKED.findall(said)) & options_of(words[0])), said


@pytest.mark.filterwarnings("always")
def test_a_warning_names_flags_too(workshop, tmp_path, capsys):
    words = ["train", f"{workshop}/data.csv", "--target", "area", "--task", "classification"]
    assert main([*words, "--steps", "0", "--hidden", "0", "-o", f"{tmp_path}/m.safetensors"]) == 0
    said = capsys.readouterr().err
    assert "If it is a quantity, use --task regression.\n" in said
