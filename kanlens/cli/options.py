"""Arguments and options that commands share, and what is made of them."""

from __future__ import annotations

import ast
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer

from kanlens.checks import message
from kanlens.errors import InvalidValueError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kanlens.cli.terminal import Terminal
    from kanlens.data.column_types import Impute
    from kanlens.data.schema import Task
    from kanlens.data.tables import Table
    from kanlens.model.network import KAN

ModelPath: TypeAlias = Annotated[Path, typer.Argument(metavar="MODEL", help="A kanlens model.")]
DataPath: TypeAlias = Annotated[
    Path, typer.Argument(metavar="DATA", help="A table: .csv, .tsv or .parquet.")
]
SEEDS: dict[str, Any] = {"min": 0, "max": 2**63 - 1}  # what every generator takes
Seed: TypeAlias = Annotated[
    int | None,
    typer.Option("--seed", help="Makes the run repeatable.", show_default=False, **SEEDS),
]
NoSeed: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--seed", help="Accepted everywhere; this command draws nothing.", hidden=True, **SEEDS
    ),
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print no words.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Target: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--output-name",
        help="Output to look at, by name or index.  [default: the only one, or the class that is "
        "predicted for most rows]",
    ),
]
TargetColumn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="Column that holds the target; several with commas.  [default: the one trained on, "
        "else the one named like the output]",
        show_default=False,
    ),
]
Background: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--background",
        help="Table of rows to compare with.  [default: those the model keeps, else rows of DATA]",
    ),
]
TaskName: TypeAlias = Annotated[str | None, typer.Option(help="regression or classification.")]
Features: TypeAlias = Annotated[str | None, typer.Option(help="Columns to use, with commas.")]
Drop: TypeAlias = Annotated[str | None, typer.Option(help="Columns to leave out, with commas.")]
Categorical: TypeAlias = Annotated[
    str | None, typer.Option(help="Columns whose numbers are codes, with commas.")
]
Imputation: TypeAlias = Annotated[
    str | None, typer.Option(help="Fill missing cells: median, mean or most_frequent.")
]
Hidden: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Nodes of each hidden layer, with commas; 3:2 for three sums and two products; 0 for "
        "none."
    ),
]
Penalty: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Norm that makes edges small: activation_l1, activation_l2, curvature, raw_l1 or "
        "weight_l1; several as activation_l1=1,curvature=0.001."
    ),
]
Extrapolation: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Beyond the training data: constant holds a feature at the end of its range, linear "
        "goes on straight, zero lets the splines run out."
    ),
]
Targets: TypeAlias = Annotated[
    str, typer.Option("--target", help="Column to predict; several with commas.")
]
GridSize: TypeAlias = Annotated[int, typer.Option(help="Intervals of each edge's grid.")]
Order: TypeAlias = Annotated[int, typer.Option(help="Degree of the pieces.")]
ModelOutput: TypeAlias = Annotated[Path, typer.Option("-o", "--output", help="Model to write.")]
TableOutput: TypeAlias = Annotated[Path, typer.Option("-o", "--output", help="Table to write.")]
AlsoTable: TypeAlias = Annotated[
    Path | None, typer.Option("-o", "--output", help="Also write the table here.")
]
Method: TypeAlias = Annotated[str, typer.Option(help="See 'kanlens methods'.")]
MaxBackground: TypeAlias = Annotated[
    int | None, typer.Option(help="Background rows, spread over those there are.")
]
MethodOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", help="Option of the method, as name=value; may be given several times."),
]


def set_options(
    call: str, given: list[str] | None, holds: Callable[[str], bool], what: str, advice: str
) -> dict[str, Any]:
    """Return options from name=value; values are read as Python does, else text."""
    found: dict[str, Any] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier() or not holds(name):
            expected = f"--set name=value with {what}"
            raise InvalidValueError(message(call, expected, repr(item), advice))
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def output_index(text: str | None) -> int | str | None:
    """Return an output as commands take it: an index when it is a whole number, else a name."""
    return int(text) if text is not None and text.isdecimal() else text


def asked_output(terminal: Terminal, kan: KAN, text: str | None, x: Tensor) -> int:
    """Return the index of the output to explain; say which it is where nobody named one."""
    from kanlens.attribution.problem import explained_output

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
        raise InvalidValueError(message("kanlens", "names with commas", repr(text), advice))
    return names


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns of a table are for, as lists of names with commas."""

    target: str | None
    features: str | None
    drop: str | None
    categorical: str | None

    def read(
        self, data: Path, task: str | None, impute: str | None, targets: list[str] | None = None
    ) -> Table:
        """Read the table; `targets` stand in for those of the command."""
        from kanlens.data.tables import read_table

        targets = split_names(self.target) if targets is None else targets
        return read_table(
            data,
            target=targets[0] if len(targets) == 1 else targets or None,
            task=cast("Task | None", task),  # read_table checks it
            features=split_names(self.features) or None,
            drop=split_names(self.drop),
            categorical=split_names(self.categorical),
            impute=cast("Impute | None", impute),
        )


def new_model(
    table: Table,
    hidden: list[Any],
    grid_size: int,
    spline_order: int,
    extrapolation: str,
    generator: torch.Generator,
) -> KAN:
    """Return an untrained network for a table, in double precision."""
    import kanlens

    return kanlens.KAN(
        [len(table.schema.features), *hidden, len(table.schema.outputs)],
        grid_size=grid_size,
        spline_order=spline_order,
        extrapolation=extrapolation,
        generator=generator,
    ).double()


def factor(penalty: str | None, strength: float | None) -> float:
    """Return the factor of a penalty; refuse a penalty that was given none."""
    if penalty is not None and strength is None:
        advice = "Add --strength, for example 0.01"
        raise InvalidValueError(message("train", "a strength for the penalty", "none", advice))
    return strength or 0.0


def norms(text: str | None) -> str | dict[str, float] | None:
    """Return a norm, or several with their weights."""
    if text is None or "=" not in text:
        return text
    pairs = [part.partition("=") for part in split_names(text)]
    try:
        return {name.strip(): float(weight) for name, _, weight in pairs}
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list like activation_l1=1,curvature=0.001", param_hint="--penalty"
        ) from None


def hidden_nodes(text: str) -> list[int | tuple[int, int]]:
    """Return the nodes of the hidden layers, as `kanlens.KAN` takes them."""
    nodes: list[int | tuple[int, int]] = []
    try:
        for part in split_names(text):
            sums, colon, products = part.partition(":")
            nodes.append((int(sums), int(products)) if colon else int(sums))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no list of whole numbers like 5,3:2", param_hint="--hidden"
        ) from None
    return [] if nodes == [0] else nodes
