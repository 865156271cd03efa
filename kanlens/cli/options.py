"""Arguments and options that commands share."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from kanlens.checks import message
from kanlens.errors import InvalidValueError

if TYPE_CHECKING:
    from torch import Tensor

    from kanlens.cli.terminal import Terminal
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


def output_index(text: str | None) -> int | str | None:
    """Return an output as commands take it: an index when it is a whole number, else a name.

    Examples
    --------
    >>> output_index("2"), output_index("price")
    (2, 'price')
    """
    return int(text) if text is not None and text.isdecimal() else text


def asked_output(terminal: Terminal, kan: KAN, text: str | None, x: Tensor, *, call: str) -> int:
    """Return the index of the output to explain; say which it is where nobody named one."""
    from kanlens.attribution.problem import explained_output

    index, names = explained_output(kan, output_index(text), x, call=call), kan.output_names
    if text is None and len(names) > 1:
        said = f"about {names[index]}, the class that is predicted for most rows"
        terminal.say(f"{said}; --output-name takes another of {', '.join(names)}")
    return index


def split_names(text: str | None) -> list[str]:
    """Return the names in a comma-separated list; one that holds a comma stands in double quotes.

    Examples
    --------
    >>> split_names('a, b, "c,d"')
    ['a', 'b', 'c,d']
    """
    parts = next(csv.reader([text or ""], skipinitialspace=True), [])
    names = [part.strip() for part in parts if part.strip()]
    if text is not None and not names:
        advice = "Leave the option out, or name some"
        raise InvalidValueError(message("kanlens", "names with commas", repr(text), advice))
    return names
