"""Tables that commands read beside a model: rows, their target, and rows to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kanlens.checks import check_count, message
from kanlens.cli.options import split_names
from kanlens.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from kanlens.cli.terminal import Terminal
    from kanlens.data.schema import Schema
    from kanlens.data.tables import Table
    from kanlens.model.network import KAN

BACKGROUND = 100  # rows taken from a table where the model keeps none, as many as training keeps


def read_rows(
    data: Path,
    kan: KAN,
    target: str | None,
    terminal: Terminal,
    *,
    without: str = "none is needed",
) -> Table:
    """Read a table beside a model; say which column is the target and what lies outside.

    The target, several with commas, is looked for where it is None; `without` is said to follow
    when there is none.
    """
    from kanlens.data.tables import read_features

    given = split_names(target)
    table = read_features(data, kan.schema, call=terminal.call, target=given or None)
    say_target(table, kan.schema, given, terminal, without)
    say_outside(kan, table, terminal)
    return table


def say_outside(kan: KAN, table: Table, terminal: Terminal) -> None:
    """Say how many rows lie outside the training data, and in which features."""
    from kanlens.training.prediction import outside_words

    words = outside_words(kan, table.x)
    if words:
        terminal.say(f"{table.source}: {words}")


def say_target(
    table: Table, schema: Schema, given: list[str], terminal: Terminal, without: str
) -> None:
    """Say which column of a table is the target of a model; `without` is said if there is none."""
    from kanlens.data.cell_parsing import listed

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
    from kanlens.data.cell_parsing import listed
    from kanlens.data.tables import read_features

    if path is None:
        return None
    call = f"{terminal.call}: test"
    table = read_features(path, kan.schema, call=call, target=split_names(target) or None)
    if table.y is None:
        expected = (
            f"column {listed(kan.schema.target_columns or kan.output_names)}, all cells known"
        )
        got = f"none in {path.name!r}"
        raise DataError(message(call, expected, got, "Name the target with --target"))
    return table


def background_rows(
    path: Path | None, kan: KAN, table: Table, most: int | None, terminal: Terminal
) -> Tensor:
    """Return rows to compare with: of a table, else what the model kept, else of the data.

    The last is said aloud.
    """
    from kanlens.data.tables import read_features

    if path is not None:
        given = read_features(path, kan.schema, call=f"{terminal.call}: background")
        say_outside(kan, given, terminal)
        rows = given.x
    elif kan.background is not None:
        rows = kan.background
    else:
        rows = spread(table.x, "max_background", BACKGROUND, terminal)
        source = f"{len(rows)} rows of {table.source}"
        terminal.say(f"no background: the model keeps no rows; {source} stand in (--background)")
    return spread(rows, "max_background", most, terminal)


def spread(x: Tensor, name: str, most: int | None, terminal: Terminal) -> Tensor:
    """Return at most `most` rows, evenly spread over the table; all when None."""
    import torch

    if most is None:
        return x
    check_count(terminal.call, name, most)
    return x[torch.linspace(0, len(x) - 1, min(most, len(x))).round().long()]
