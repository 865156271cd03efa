"""The command discover."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from kanlens.checks import message
from kanlens.cli.application import app
from kanlens.cli.options import DataPath, Json, Quiet, Seed, split_names
from kanlens.cli.terminal import Terminal, seeded
from kanlens.errors import DataError

if TYPE_CHECKING:
    from kanlens.data.tables import Table

_SHOWN = 100  # characters of a formula in the table


@app.command()
def discover(
    data: DataPath,
    *,
    target: Annotated[str, typer.Option("--target", help="Column to find a formula for.")],
    features: Annotated[
        str | None, typer.Option(help="Columns to use, with commas.  [default: all others]")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(help="Seconds after which the best so far is shown.")
    ] = 60.0,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find a formula for a column of a table, with a receipt that says how far it holds."""
    import pandas as pd

    import kanlens
    from kanlens.symbolic.wording import legend, written

    terminal = Terminal(quiet=quiet, as_json=as_json)
    chosen = split_names(features) or None
    table = kanlens.read_table(data, target=target, features=chosen, task="regression")
    _refuse_categories(table)
    if table.y is None:
        raise DataError(message("discover", "a target", "none", "Name it with --target"))
    result = kanlens.discover(
        table.x,
        pd.Series(table.y[:, 0].numpy(), name=target),
        table.feature_names,
        time_limit=time_limit,
        generator=None if seed is None else seeded(seed),
        progress=terminal.progress,
    )
    equations = result.equations_.drop(columns=["sympy_format", "output"])
    equations["equation"] = equations["equation"].map(_shortened)
    terminal.frame("equations", equations)
    terminal.text(f"{written(target)} = {result.text()}")
    if named := legend(result.feature_names):
        terminal.text(named)
    terminal.text(result.receipt.summary())
    terminal.say(f"{result.seconds:.1f} s: {result.stopped_because}")
    facts = {"stopped_because": result.stopped_because, "seconds": result.seconds}
    terminal.emit({"target": target, **facts, **json.loads(result.to_json())})


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _refuse_categories(table: Table) -> None:
    """Refuse columns of words, which no formula is written in."""
    words = [f.name for f in table.schema.features if f.kind == "categorical"]
    if words:
        got = f"words in {', '.join(map(repr, words[:3]))}"
        advice = "Name the columns of numbers with --features"
        raise DataError(message("discover", "columns of numbers", got, advice))
