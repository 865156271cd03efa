"""Arguments and options that commands share, and what is made of them: names, nodes, tables."""

from __future__ import annotations

import ast
import csv
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import torch
import typer

import kanlens
from kanlens.attribution.problem import explained_output
from kanlens.checks import check_count
from kanlens.cli.terminal import Terminal
from kanlens.data.cell_parsing import listed
from kanlens.data.schema import Schema
from kanlens.data.source import Source, is_large, scan_features, scan_table
from kanlens.data.table_reader import read_features, read_table
from kanlens.data.tables import Table
from kanlens.errors import DataError, InvalidValueError
from kanlens.model.network import KAN
from kanlens.model.statistics import deviations
from kanlens.training.objective import outside_words
from kanlens.training.result import FitResult

BACKGROUND = 100  # rows taken from a table where the model keeps none, as many as training keeps
LEAST_ROWS = 10  # that a model is trained on
FIRST = 1000  # rows by which targets are looked for where there are more than memory holds
EVERYWHERE: dict[str, Any] = {"rich_help_panel": "Options of every command"}
SEEDS: dict[str, Any] = {"min": 0, "max": 2**63 - 1}  # what every generator takes
Seed: TypeAlias = Annotated[
    int | None, typer.Option("--seed", help="Seed of random draws.", **SEEDS, **EVERYWHERE)
]
NoSeed: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--seed", help="Accepted everywhere; this command draws nothing.", hidden=True, **SEEDS
    ),
]
MaxMemory: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="Memory that the work may take, as 1GB.  [default: a quarter of what is free]",
        rich_help_panel="Options of commands that read DATA",
    ),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no words.", **EVERYWHERE)
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout.", **EVERYWHERE)
]

CHOICES = {  # of options that take one of a few words, by argument
    "decimal": (",", "."),
    "extrapolation": ("constant", "linear", "zero"),
    "impute": ("mean", "median", "most_frequent"),
    "model_selection": ("best", "accuracy", "score"),
    "optimizer": ("lbfgs", "adam", "adamw"),
    "score": ("l1", "raw_l1", "std", "damage", "backward"),
    "task": ("classification", "regression"),
    "to": ("onnx", "torch", "numpy", "c", "sql", "latex", "sympy", "excel"),
}
FLAGS = {  # of options that are not called as their argument
    "column": ["--target"],
    "options": ["--set"],
    "others": ["--compare", "--other"],
    "output": ["-o", "--output"],
    "settings": ["--set"],
    "show": ["--open"],
}
PANELS = {  # of help, by argument
    **dict.fromkeys(("features", "drop", "categorical", "groups"), "Columns"),
    **dict.fromkeys(("impute", "na", "decimal"), "Columns"),
    **dict.fromkeys(("hidden", "grid_size", "spline_order", "extrapolation"), "Network"),
    **dict.fromkeys(("optimizer", "steps", "learning_rate", "batch_size"), "Training"),
    **dict.fromkeys(("validation", "patience", "holdout", "holdout_last", "resume"), "Training"),
    **dict.fromkeys(("restarts", "scheduler", "workers"), "Several processes"),
    **dict.fromkeys(("penalty", "strength", "entropy_weight", "proximal"), "Penalty"),
}
LEAST = {"finetune": 0, "restarts": 1, "workers": 1}  # of numbers refused before any work
WORDS = {  # on what several commands take, by argument
    "background": "Table of rows to compare with.  [default: those the model keeps, else rows of "
    "DATA]",
    "categorical": "Columns whose numbers are codes, with commas.",
    "column": "Column that holds the target; several with commas.  [default: the one trained on, "
    "else the one named like the output]",
    "data": "A table: .csv, .tsv, .xlsx or .parquet.",
    "decimal": "The decimal sign.  [default: a comma where numbers can be read only so]",
    "drop": "Columns to leave out, with commas.",
    "extrapolation": "Beyond the training data: constant holds a feature at the end of its range, "
    "linear goes on straight, zero lets the splines run out.",
    "features": "Columns to use, with commas.",
    "grid_size": "Intervals of each edge's grid.",
    "groups": "Column that marks rows to hold out together, not used as a feature.",
    "hidden": "Nodes of each hidden layer, with commas; 3:2 for three sums and two products; 0 for "
    "none.",
    "impute": "Fill missing cells with this.  [default: they are a level of their own]",
    "max_background": "Background rows, spread over those there are.",
    "max_rows": "Rows to use, spread over the table.",
    "method": "See 'kanlens methods'.",
    "model": "A kanlens model.",
    "na": "Cells that stand for a missing one, with commas: ?,-999.",
    "options": "Option of the method, as name=value; may be given several times.",
    "output": "Model to write.",
    "output_name": "Output to look at, by name or index.  [default: the only one, or the class "
    "that is predicted for most rows]",
    "penalty": "Norm that makes edges small: activation_l1, activation_l2, curvature, raw_l1 or "
    "weight_l1; several as raw_l1=1,curvature=0.1.",
    "restarts": "How often to begin, each time with other draws; the best is kept.",
    "scheduler": "Address of a Dask scheduler, whose workers do the work.",
    "spline_order": "Degree of the pieces.",
    "target": "Column to predict; several with commas.",
    "workers": "Processes of Dask to start here, which do the work.",
    "task": "What to learn.  [default: what the target's values suggest]",
}


def described(one: inspect.Parameter, said: Mapping[str, str]) -> inspect.Parameter:
    """Return a parameter of a command with its help; one with a place in it is an argument."""
    text = said.get(one.name, WORDS.get(one.name, ""))
    text = text.replace("[", r"\[")  # for rich, brackets hold markup
    kind, words = one.annotation, CHOICES.get(one.name, ())
    if words:
        kind = Literal[words] | None if one.default is None else Literal[words]
    if one.kind is one.KEYWORD_ONLY:
        flags = [f"--{one.name.replace('_', '-')}"] if one.default is False else []
        information = typer.Option(
            *FLAGS.get(one.name, flags),
            help=text,
            min=LEAST.get(one.name),
            metavar=" | ".join(words) or None,
            show_default=one.default is not False,
            rich_help_panel=PANELS.get(one.name),
        )
    else:
        name = one.name.upper() if one.default is one.empty else f"[{one.name.upper()}]"
        information = typer.Argument(metavar=name, help=text)
    return one.replace(annotation=Annotated[kind, information])


def set_options(
    call: str, given: list[str] | None, holds: Callable[[str], bool], what: str, advice: str
) -> dict[str, Any]:
    """Return options from name=value; values are read as Python does, else text."""
    found: dict[str, Any] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier() or not holds(name):
            raise InvalidValueError(call, f"--set name=value with {what}", repr(item), advice)
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def output_index(text: str | None) -> int | str | None:
    """Return an output as commands take it: an index when it is a whole number, else a name."""
    return int(text) if text is not None and text.isdecimal() else text


def asked_output(terminal: Terminal, kan: KAN, text: str | None, x: torch.Tensor) -> int:
    """Return the index of the output to explain; say which it is where nobody named one."""
    index = explained_output(kan, output_index(text), x, call=terminal.call)
    names = kan.output_names
    if text is None and len(names) > 1:
        said = f"about {names[index]}, the class that is predicted for most rows"
        terminal.say(f"{said}; --output-name takes another of {', '.join(names)}")
    return index


def split_names(text: str | None) -> list[str]:
    """Return the names in a comma-separated list; one that holds a comma is in double quotes."""
    parts = next(csv.reader([text or ""], skipinitialspace=True), [])
    names = [part.strip() for part in parts if part.strip()]
    if text is not None and not names:
        advice = "Leave the option out, or name some"
        raise InvalidValueError("kanlens", "names with commas", repr(text), advice)
    return names


def open_columns(
    data: Path,
    target: list[str],
    columns: Mapping[str, str | None],
    groups: str | None = None,
    **options: Any,
) -> Table | Source:
    """Open a table to train on, a source if memory does not hold it; columns are lists of names."""
    names: dict[str, Any] = {what: split_names(text) or () for what, text in columns.items()}
    names["features"] = names.get("features") or None
    if not is_large(data, call="read_table"):
        return read_table(data, target=target, groups=groups, **names, **options)
    if groups is not None:
        expected, advice = "a table that memory holds for groups", "Allow more with --max-memory"
        raise InvalidValueError("read_table", expected, repr(data.name), advice)
    found = scan_table(data, target=target, **names, **options)
    return found.read(0, found.rows) if found.held() == found.rows else found


def check_learnable(
    rows: Table | Source, call: str, what: str = "rows to train on", least: int = LEAST_ROWS
) -> None:
    """Refuse rows that cannot judge a model: too few, or with the same target throughout."""
    advice = "Pass more rows" if least == LEAST_ROWS else "Raise --holdout"
    if rows.rows < least:
        raise DataError(call, f"at least {least} {what}", str(rows.rows), advice)
    if isinstance(rows, Source):  # whose rows of extreme targets show whether any differ
        rows = rows.take(rows.extremes or (0,))
    y = rows.y
    if rows.schema.task == "regression" and y is not None and not bool(deviations(y).any()):
        columns = listed(rows.schema.target_columns or rows.schema.output_names)
        advice = "Choose another target" if least == LEAST_ROWS else advice
        got = f"{y[0, 0].item():.6g} in each of them"
        raise DataError(call, f"{what} that differ in {columns}", got, advice)


def check_judged(result: FitResult, checkpoint: Path, call: str) -> None:
    """Refuse a model that the rows held out from its training do not judge."""
    if not math.isfinite(result.metric):
        checkpoint.unlink(missing_ok=True)
        expected, got = "rows held out whose targets differ", f"{len(result.held_out)} that do not"
        raise DataError(call, expected, got, "Pass more rows, or another share with --validation")


def open_given(
    data: Path, kan: KAN, *, call: str, target: Sequence[str] | None = None
) -> Table | Source:
    """Return a table for a model, as a source when work on it would take more than memory."""
    if not is_large(data, call=call):
        return read_features(data, kan.schema, call=call, target=target)
    source, numbers = scan_features(data, kan.schema, call=call, target=target), sum(kan.widths)
    return source.read(0, source.rows) if source.held(numbers) == source.rows else source


def held(rows: Table | Source, call: str, kan: KAN | None = None) -> Table:
    """Return a table for work with a model; of one that is larger than memory, what that holds."""
    if isinstance(rows, Table):
        return rows
    return rows.table(call=call, numbers=0 if kan is None else sum(kan.widths))


def new_model(table: Table | Source, hidden: list[Any], grid_size: int, **options: Any) -> KAN:
    """Return an untrained network for a table, in double precision; options as for `KAN`."""
    widths = [len(table.schema.features), *hidden, len(table.schema.outputs)]
    return kanlens.KAN(widths, grid_size=grid_size, **options).double()


def factor(penalty: str | None, strength: float | None) -> float:
    """Return the factor of a penalty; refuse a penalty that was given none."""
    if penalty is not None and strength is None:
        advice = "Add --strength, for example 0.01"
        raise InvalidValueError("train", "a strength for the penalty", "none", advice)
    return strength or 0.0


@contextmanager
def refusing(option: str, text: str, why: str) -> Iterator[None]:
    """Refuse the text of an option where it cannot be read in the block."""
    try:
        yield
    except ValueError:
        raise typer.BadParameter(f"{text!r} {why}", param_hint=option) from None


def norms(text: str | None) -> str | dict[str, float] | None:
    """Return a norm, or several with their weights."""
    if text is None or "=" not in text:
        return text
    pairs = [part.partition("=") for part in split_names(text)]
    with refusing("--penalty", text, "is no list like activation_l1=1,curvature=0.001"):
        return {name.strip(): float(weight) for name, _, weight in pairs}


def read_strengths(text: str) -> int | list[float]:
    """Return a number of strengths, or the strengths."""
    with refusing("--strengths", text, "is neither a number nor a list like 0,0.01,0.1"):
        return int(text) if text.isdecimal() else [float(part) for part in split_names(text)]


def hidden_nodes(text: str) -> list[int | tuple[int, int]]:
    """Return the nodes of the hidden layers, as `KAN` takes them."""
    nodes: list[int | tuple[int, int]] = []
    with refusing("--hidden", text, "is no list of whole numbers like 5,3:2"):
        for part in split_names(text):
            sums, colon, products = part.partition(":")
            nodes.append((int(sums), int(products)) if colon else int(sums))
    return [] if nodes == [0] else nodes


def read_rows(
    data: Path, kan: KAN, target: str | None, terminal: Terminal, *, without: str = "none is needed"
) -> Table:
    """Read a table beside a model, as `open_rows`; of one larger than memory, what that holds."""
    rows = open_rows(data, kan, target, terminal, without=without)
    return held(rows, terminal.call, kan)


def open_rows(
    data: Path, kan: KAN, target: str | None, terminal: Terminal, *, without: str = "none is needed"
) -> Table | Source:
    """Open a table beside a model; say which column is the target, and what lies outside."""
    given = split_names(target)
    rows = open_given(data, kan, call=terminal.call, target=given or None)
    table = rows if isinstance(rows, Table) else rows.read(0, FIRST)
    say_target(table, kan.schema, given, terminal, without)
    if rows is table:
        say_outside(kan, table, terminal)
    return rows


def say_outside(kan: KAN, table: Table, terminal: Terminal) -> None:
    """Say how many rows lie outside the training data, and in which features."""
    words = outside_words(kan, table.x)
    if words:
        terminal.say(f"{table.source}: {words}")


def say_target(
    table: Table, schema: Schema, given: list[str], terminal: Terminal, without: str
) -> None:
    """Say which column of a table is the target of a model; `without` is said if there is none."""
    found = given or schema.targets_among(list(table.frame.columns))
    names = found or schema.target_columns or schema.output_names
    wanted = f"column{'s' * (len(names) > 1)} {listed(names)}"
    if table.y is not None:
        terminal.say(f"target: {wanted} of {table.source}")
        return
    lack = "has missing cells or text in" if found else "has no"
    terminal.say(f"no target: {table.source} {lack} {wanted} (see --target); {without}")


def read_test(path: Path | None, kan: KAN, target: str | None, terminal: Terminal) -> Table | None:
    """Read a table to judge a model on, None without one; refuse one without the target."""
    if path is None:
        return None
    call = f"{terminal.call}: test"
    table = held(open_given(path, kan, call=call, target=split_names(target) or None), call, kan)
    if table.y is None:
        names = kan.schema.target_columns or kan.output_names
        expected = f"column {listed(names)}, all cells known"
        raise DataError(call, expected, f"none in {path.name!r}", "Name the target with --target")
    return table


def background_rows(
    path: Path | None, kan: KAN, table: Table, most: int | None, terminal: Terminal
) -> torch.Tensor:
    """Return rows to compare with: of a table, the model's, or (said aloud) those of the data."""
    if path is not None:
        call = f"{terminal.call}: background"
        given = held(open_given(path, kan, call=call), call, kan)
        say_outside(kan, given, terminal)
        rows = given.x
    elif kan.background is not None:
        rows = kan.background
    else:
        rows = spread(table.x, "max_background", BACKGROUND, terminal)
        source = f"{len(rows)} rows of {table.source}"
        terminal.say(f"no background: the model keeps no rows; {source} stand in (--background)")
    return spread(rows, "max_background", most, terminal)


def spread(x: torch.Tensor, name: str, most: int | None, terminal: Terminal) -> torch.Tensor:
    """Return at most `most` rows, evenly spread over the table; all when None."""
    if most is None:
        return x
    check_count(terminal.call, name, most)
    return x[torch.linspace(0, len(x) - 1, min(most, len(x))).round().long()]
