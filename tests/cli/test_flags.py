"""Errors that a command shows name options the command has."""

from __future__ import annotations

import ast
import importlib
import re
from functools import partial
from pathlib import Path

import pytest
import typer

import kanlens
from kanlens import errors
from kanlens.attribution import METHODS
from kanlens.cli import _command as application
from kanlens.cli import main
from kanlens.cli._command import options_of, written
from kanlens.errors import DataError
from kanlens.io.importers._settings import SETTINGS

ROOT = Path(kanlens.__file__).parent
for _name in application.COMMANDS:
    importlib.import_module(f"kanlens.cli._{_name}")
KINDS = {name for name, one in vars(errors).items() if hasattr(one, "reason")}
COMMANDS = typer.main.get_command(application.app).commands


def names_of(command):
    names = {option.name for option in COMMANDS[command].params}
    extra = {name for method in METHODS.values() for name in method.options}
    return names | (extra if "options" in names else set(SETTINGS if "settings" in names else ()))


def shown(command, error):
    error.write = partial(written, options_of(COMMANDS[command]))
    return str(error)


def errors_raised():
    """Yield every construction of an error in the package: its file and line, and the node."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.id if isinstance(called, ast.Name) else ""
            last = called.attr if isinstance(called, ast.Attribute) else name
            if name in KINDS or last in ("refuse", "warn"):
                yield f"{path.name}:{node.lineno}", node


# Arguments that only Python has, in errors that no command ends with, and its own names.
FOR_PYTHON = {"scale", "checkpoint", "strategy", "import_model", "DataFrame"}


@pytest.mark.slow  # runs whole commands
def test_every_argument_that_an_error_names_is_an_option_of_some_command():
    known = set.union(*(names_of(name) for name in COMMANDS))
    named = {
        part.arg: place
        for place, node in errors_raised()
        for part in node.keywords
        if part.arg not in (None, "argument", "stacklevel")
    }
    assert {"impute", "task", "method", "algorithm", "finetune", "proximal"} <= set(named)
    assert set(named) - known == FOR_PYTHON, named


def spelled(source):
    """List arguments with values that texts in a source spell out as Python does."""
    return [
        part.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant | ast.JoinedStr)
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
        if ADVICE.search(part.value)
    ]


ADVICE = re.compile(r"\b(?:[Pp]ass|[Uu]se|[Ll]eave out|[Tt]rain with|[Cc]hoose) [a-z_]+=[^(]")


@pytest.mark.slow  # runs whole commands
def test_no_advice_spells_an_argument_out():
    assert spelled("advice = 'Drop such rows, or pass impute=...'")
    assert not spelled("advice = 'Drop such rows, or pass {impute}'")
    bad = {path.name: spelled(path.read_text()) for path in ROOT.rglob("*.py")}
    assert not {name: texts for name, texts in bad.items() if texts}


def error(*fields, **named):
    return DataError("fit", "a", "b", *fields, **named)


@pytest.mark.parametrize(
    ("command", "error", "advice"),
    [
        ("train", error("Drop rows", "pass {impute}", impute="median"), "or pass --impute median."),
        ("discover", error("Drop rows", "pass {impute}", impute="median"), "got b. Drop rows."),
        ("discover", error("Pass {impute}", impute="median"), "got b. Pass impute='median'."),
        ("train", error("Leave it out with {drop}", drop="Unnamed: 0"), "--drop 'Unnamed: 0'."),
        ("train", error("Go on", "leave out {resume}", resume=...), "or leave out --resume."),
        ("train", error("Pass {scale}", "go on", scale=True), "got b. Go on."),
        ("report", error("Pass {formula}", formula=False), "got b. Pass --no-formula."),
        ("train", error("Convert it", "pass a {DataFrame}", DataFrame=None), "b. Convert it."),
        ("info", error("Read it with {import_model}", import_model=None), "'kanlens import'."),
        ("train", error("Did you mean 'a'?"), "got b. Did you mean 'a'?"),
        (
            "prune",
            error("Pass {threshold} or {budget}", threshold=0.05, budget=0.02),
            "Pass --threshold 0.05 or --budget 0.02.",
        ),
        (
            "attribute",
            error("Use {algorithm} on less", "{method}", algorithm="auto", method="shapley"),
            "Use --set algorithm=auto on less, or --method shapley.",
        ),
        (
            "compare",
            error("Choose one of those", "call importance with {method}", method="x"),
            "got b. Choose one of those.",
        ),
        ("train", error("Change it", argument="steps"), "expected --steps a, got b. Change it."),
        ("attribute", error("Name it", argument="target"), "--output-name a, got b. Name it."),
        ("train", error("Name it", argument="weight"), "fit: expected weight a, got b. Name it."),
    ],
)
def test_errors_are_written_with_the_options_of_the_command(command, error, advice):
    assert shown(command, error).endswith(advice)


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
    assert not re.search(r" [a-z_]+=", re.sub(r"--set \S+", "", said)), said
    assert not set(re.findall(r": expected (\w+) (?:to|of at|from) ", said)) & names_of(words[0])


@pytest.mark.slow  # trains networks
@pytest.mark.filterwarnings("always")
def test_a_warning_names_flags_too(workshop, tmp_path, capsys):
    words = ["train", f"{workshop}/data.csv", "--target", "area", "--task", "classification"]
    assert main([*words, "--steps", "0", "--hidden", "0", "-o", f"{tmp_path}/m.safetensors"]) == 0
    said = capsys.readouterr().err
    assert "If it is a quantity, use --task regression.\n" in said
