"""Arguments and options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

ModelPath: TypeAlias = Annotated[Path, typer.Argument(metavar="MODEL", help="A kanlens model.")]
DataPath: TypeAlias = Annotated[
    Path, typer.Argument(metavar="DATA", help="A table: .csv, .tsv or .parquet.")
]
Seed: TypeAlias = Annotated[
    int | None, typer.Option("--seed", help="Makes the run repeatable.", show_default=False)
]
NoSeed: TypeAlias = Annotated[
    int | None,
    typer.Option("--seed", help="Accepted everywhere; this command draws nothing.", hidden=True),
]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print no words.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Target: TypeAlias = Annotated[
    str | None,
    typer.Option("--output-name", help="Output to look at, by name or index."),
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


def split_names(text: str | None) -> list[str]:
    """Return the names in a comma-separated list.

    Examples
    --------
    >>> split_names("a, b")
    ['a', 'b']
    """
    return [part.strip() for part in text.split(",") if part.strip()] if text else []
