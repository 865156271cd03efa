"""Shared options of commands and their parsers; torch is not imported, so --help is fast."""

from __future__ import annotations

import ast
import csv
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeAlias

import typer

from kanlens.errors import InvalidValueError

Texts: TypeAlias = Mapping[str, str | None]  # of the options of a group
EVERYWHERE: dict[str, Any] = {"rich_help_panel": "Options of every command"}
SEEDS: dict[str, Any] = {"min": 0, "max": 2**63 - 1}  # valid for every generator
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
        help="Memory limit, such as 1GB.  [default: a quarter of the free memory]",
        rich_help_panel="Options of commands that read DATA",
    ),
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no messages.", **EVERYWHERE)
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout.", **EVERYWHERE)
]

CHOICES = {  # allowed values, by argument
    "decimal": (",", "."),
    "extrapolation": ("constant", "linear", "zero"),
    "loss": (
        *("absolute_error", "cox", "gamma", "huber", "log_loss", "poisson", "quantile"),
        *("squared_error", "tweedie"),
    ),
    "impute": ("mean", "median", "most_frequent"),
    "model_selection": ("best", "accuracy", "score"),
    "optimizer": ("lbfgs", "adam", "adamw"),
    "score": ("l1", "raw_l1", "std", "damage", "backward"),
    "task": ("classification", "regression"),
    "to": ("onnx", "torch", "numpy", "c", "sql", "latex", "sympy", "excel"),
}
FLAGS = {  # flags of options not named like their argument
    "column": ["--target"],
    "options": ["--set"],
    "others": ["--compare", "--other"],
    "output": ["-o", "--output"],
    "settings": ["--set"],
    "show": ["--open"],
}
PANELS = {  # headings in the help, by argument
    name: panel
    for panel, names in {
        "Columns": "features drop categorical groups exposure event impute na decimal",
        "Network": "hidden grid_size spline_order extrapolation",
        "Training": "loss quantile power optimizer steps learning_rate batch_size validation "
        "patience holdout holdout_last resume",
        "Several processes": "restarts scheduler workers",
        "Growth": "max_edges interactions increasing decreasing convex concave positive negative "
        "periodic",
        "Penalty": "penalty strength entropy_weight proximal",
    }.items()
    for name in names.split()
}
SHAPES = "increasing", "decreasing", "convex", "concave", "positive", "negative", "periodic"
GROUPS = {  # options that are one argument of a command, all of them texts
    "columns": ("features", "drop", "categorical", "impute", "na", "decimal"),
    "shapes": SHAPES,
    "losses": ("loss", "quantile", "power", "exposure", "event"),
}
MINIMA = {"finetune": 0, "restarts": 1, "workers": 1}  # of numbers, by argument
HELP = {  # of options of several commands, by argument
    "background": "Table of background rows.  [default: those stored in the model, else rows "
    "of DATA]",
    "categorical": "Columns whose numbers are codes, comma-separated.",
    "column": "Column of the target; several, comma-separated.  [default: the target of "
    "training, else the column named like the output]",
    "data": "A table: .csv, .tsv, .xlsx or .parquet.",
    "decimal": "Decimal separator.  [default: a comma if numbers can be read in no other way]",
    "drop": "Columns to leave out, comma-separated.",
    "event": "For the loss cox: column that is 0 where the time is censored.",
    "exposure": "Column of exposures, such as times in which counts arose; predictions are for 1.",
    "extrapolation": "Beyond the training data: constant clips features to their range, "
    "linear continues linearly, zero lets splines decay to zero.",
    "features": "Columns to use, comma-separated.",
    "grid_size": "Intervals of each edge's grid.",
    "groups": "Column that marks rows to hold out together, not used as a feature.",
    "hidden": "Nodes of each hidden layer, comma-separated; 3:2 for three sums and two products; 0 "
    "for none.",
    "impute": "Fill missing cells with this.  [default: a missing value is a category of its own]",
    "loss": "Loss; poisson, gamma and tweedie have a log link.  [default: log_loss for classes, "
    "else squared_error]",
    "max_background": "Largest number of background rows, evenly spread.",
    "max_rows": "Largest number of rows, evenly spread over the table.",
    "method": "Attribution method; 'kanlens methods' lists them.",
    "model": "A kanlens model.",
    "na": "Cells that mean a missing value, comma-separated: ?,-999.",
    **{
        shape: f"Columns of {shape} effect, at all values of the other columns." for shape in SHAPES
    },
    "options": "Option of the method, as name=value; may be given several times.",
    "output": "Model to write.",
    "output_name": "Output to explain, by name or index.  [default: the only one, or the class "
    "that is predicted for most rows]",
    "penalty": "Norm that makes edges small: activation_l1, activation_l2, curvature, raw_l1 or "
    "weight_l1; several as raw_l1=1,curvature=0.1.",
    "power": "Power of tweedie, from 1 to 2.  [default: 1.5]",
    "quantile": "For the loss quantile: share of targets below the output; several as 0.1,0.9.  "
    "[default: 0.5]",
    "restarts": "Number of random starts; the best result is kept.",
    "scheduler": "Address of a Dask scheduler whose workers to use.",
    "spline_order": "Degree of the polynomial pieces, 3 for cubic splines.",
    "target": "Column to predict; several, comma-separated, double quotes allow commas in names.",
    "workers": "Number of Dask processes to start on this machine.",
    "task": "Kind of model.  [default: by the target's values]",
}


def options_of_group(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    """Return the options of a group, default None; for another parameter, itself alone."""
    if parameter.name not in GROUPS:
        return [parameter]
    option = parameter.replace(annotation=str | None, default=None)
    return [option.replace(name=name) for name in GROUPS[parameter.name]]


def described(parameter: inspect.Parameter, texts: Mapping[str, str]) -> inspect.Parameter:
    """Return a parameter of a command with its help, flags and choices."""
    name, default = parameter.name, parameter.default
    text = texts.get(name, HELP.get(name, "")).replace("[", r"\[")  # for rich, it starts markup
    kind, choices = parameter.annotation, CHOICES.get(name, ())
    if choices:
        kind = Literal[choices] | None if default is None else Literal[choices]
    if parameter.kind is parameter.KEYWORD_ONLY:
        flags = [f"--{name.replace('_', '-')}"] if default is False else []
        information = typer.Option(
            *FLAGS.get(name, flags),
            help=text,
            min=MINIMA.get(name),
            metavar=" | ".join(choices) or None,
            show_default=default is not False,
            rich_help_panel=PANELS.get(name),
        )
    else:
        metavar = name.upper() if default is parameter.empty else f"[{name.upper()}]"
        information = typer.Argument(metavar=metavar, help=text)
    return parameter.replace(annotation=Annotated[kind, information])


def set_options(
    call: str, texts: list[str] | None, holds: Callable[[str], bool], expected: str, advice: str
) -> dict[str, Any]:
    """Return options from name=value; values are Python literals, or else text."""
    options: dict[str, Any] = {}
    for item in texts or []:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier() or not holds(name):
            raise InvalidValueError(call, f"--set name=value with {expected}", repr(item), advice)
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    return options


def output_index(text: str | None) -> int | str | None:
    """Return the index or the name of an output."""
    return int(text) if text is not None and text.isdecimal() else text


def split_names(text: str | None) -> list[str]:
    """Return the names of a comma-separated list; quotes allow commas."""
    parts = next(csv.reader([text or ""], skipinitialspace=True), [])
    names = [part.strip() for part in parts if part.strip()]
    if text is not None and not names:
        advice = "Leave the option out, or name some"
        raise InvalidValueError("kanlens", "names separated by commas", repr(text), advice)
    return names


def factor(penalty: str | None, strength: float | None) -> float:
    """Return the strength of a penalty; refuse a penalty without one."""
    if penalty is not None and strength is None:
        advice = "Add --strength, for example 0.01"
        raise InvalidValueError("train", "a strength for the penalty", "none", advice)
    return strength or 0.0


@contextmanager
def refusing(option: str, text: str, why: str) -> Iterator[None]:
    """Report a ValueError of the block as an invalid option, with its text."""
    try:
        yield
    except ValueError:
        raise typer.BadParameter(f"{text!r} {why}", param_hint=option) from None


def norms(text: str | None) -> str | dict[str, float] | None:
    """Parse a norm, or several with their weights."""
    if text is None or "=" not in text:
        return text
    pairs = [part.partition("=") for part in split_names(text)]
    with refusing("--penalty", text, "is not a list like activation_l1=1,curvature=0.001"):
        return {name.strip(): float(weight) for name, _, weight in pairs}


def read_strengths(text: str) -> int | list[float]:
    """Parse a number of strengths, or a list of them."""
    with refusing("--strengths", text, "is neither a number nor a list like 0,0.01,0.1"):
        return int(text) if text.isdecimal() else [float(part) for part in split_names(text)]


def read_interactions(text: str | None) -> int | list[tuple[str, str]] | None:
    """Parse a number of products, or pairs of columns."""
    if text is None:
        return None
    with refusing("--interactions", text, "is neither a number nor a list like age:dose,age:mass"):
        if ":" not in text:
            return int(text)
        pairs = [tuple(name.strip() for name in part.split(":")) for part in split_names(text)]
        return [(first, second) for first, second in pairs]


def small_network(max_edges: str | None, interactions: str | None, shapes: Texts) -> dict[str, Any]:
    """Return the options of a small network; `shapes` maps shapes to their columns."""
    words = dict[str, str]()
    for shape, text in shapes.items():
        words |= {name: f"{words.get(name, '')} {shape}".strip() for name in split_names(text)}
    options = {
        "max_edges": edge_limit(max_edges),
        "interactions": read_interactions(interactions),
        "constraints": words or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def number(option: str, text: str | None) -> float | list[float] | None:
    """Return the number of an option, or several."""
    if text is None:
        return None
    with refusing(option, text, "is not a number"):
        return [float(part) for part in text.split(",")] if "," in text else float(text)


def edge_limit(text: str | None) -> int | Literal["few"] | None:
    """Return a number of edges, or "few"."""
    if text is None or text == "few":
        return "few" if text else None
    with refusing("--max-edges", text, "is neither a whole number nor few"):
        return int(text)


def hidden_nodes(text: str) -> list[int | tuple[int, int]]:
    """Return the nodes of the hidden layers, as `KAN` takes them."""
    nodes: list[int | tuple[int, int]] = []
    with refusing("--hidden", text, "is not a list of whole numbers like 5,3:2"):
        for part in split_names(text):
            sums, colon, products = part.partition(":")
            nodes.append((int(sums), int(products)) if colon else int(sums))
    return [] if nodes == [0] else nodes
