"""Reading of tables for commands: training rows, rows for a model, background rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import kanlens
from kanlens._atomic_files import ending_of
from kanlens._checks import check_count
from kanlens._files import TEXT_SUFFIXES, text_columns
from kanlens.attribution._problem import explained_output
from kanlens.cli._console import Terminal
from kanlens.cli._options import Texts, number, output_index, split_names
from kanlens.data._cell_parsing import listed
from kanlens.data._row_readers import open_rows as open_rows_of
from kanlens.data._schema import Schema, default_schema
from kanlens.data._source import Source, is_large, scan_features, scan_table
from kanlens.data._table_reader import read_features, read_table
from kanlens.data._tables import Table
from kanlens.errors import DataError, InvalidValueError
from kanlens.model._losses import loss_of
from kanlens.model._network import KAN
from kanlens.model._statistics import deviations
from kanlens.training._baselines import named_scores, poor_fit
from kanlens.training._exposures import adjusted, with_targets
from kanlens.training._fit_default import losing
from kanlens.training._objective import outside_words
from kanlens.training._options import choose_loss

BACKGROUND = 100  # rows taken from a table if the model stores none; training stores as many
MIN_ROWS = 10  # to train on
FIRST = 1000  # rows searched for targets in tables larger than memory


def reading_notes(schema: Schema) -> list[str]:
    """Return one sentence for each unusual way in which columns are read."""
    parts = list(dict.fromkeys(feature.part for feature in schema.features if feature.part))
    dates, gaps = (
        listed(list(dict.fromkeys(f.column for f in schema.features if f.kind == kind)))
        for kind in ("date", "missing")
    )
    units = [f"{f.column!r} in {f.unit}" for f in schema.features if f.unit and not f.part]
    comma = "numbers have a decimal comma" if schema.format.decimal == "," else ""
    notes = [
        f"dates become {', '.join(parts)}: {dates}" if parts else "",
        f"missing cells are a level of their own: {gaps}" if gaps else "",
        "; ".join(filter(None, [comma, *units])),
    ]
    return list(filter(None, notes))


def output_to_explain(terminal: Terminal, kan: KAN, text: str | None, x: torch.Tensor) -> int:
    """Return the output to explain; print its name if it is a default."""
    index = explained_output(kan, output_index(text), x, call=terminal.call)
    names = kan.output_names
    if text is None and len(names) > 1:
        reason = "class that is predicted for most rows" if kan.class_labels else "middle quantile"
        if kan.reference_class is not None:
            other = kan.class_labels[kan.reference_class]
            reason = f"class other than {other}, the reference, that is predicted for most rows"
        default = f"about {names[index]}, the {reason}"
        terminal.say(f"{default}; --output-name takes another of {', '.join(names)}")
    return index


def open_columns(
    data: Path,
    target: str | list[str] | None,
    columns: Texts,
    groups: str | None = None,
    task: str | None = None,
) -> Table | Source:
    """Open a table to train on, as a source if memory does not hold it."""
    options: dict[str, Any] = {name: columns[name] for name in ("impute", "decimal")}
    options["task"] = task
    texts = {key: text for key, text in columns.items() if key not in options}
    names: dict[str, Any] = {key: column_names(text, data) for key, text in texts.items()}
    names["target"] = target if isinstance(target, list) else column_names(target, data)
    names = {key: own or () for key, own in names.items()}
    names["features"] = names.get("features") or None
    if not is_large(data, call="read_table"):
        return read_table(data, groups=groups, **names, **options)
    if groups is not None:
        expected = "a table that fits in memory with --groups"
        advice = "Allow more memory with --max-memory"
        raise InvalidValueError("read_table", expected, repr(data.name), advice)
    source = scan_table(data, **names, **options)
    return source.read(0, source.rows) if source.held() == source.rows else source


def column_names(text: str | None, data: Path) -> list[str]:
    """Return the columns in a comma-separated option, or one column with commas in its name."""
    names = split_names(text)
    if len(names) < 2 or not data.exists():
        return names
    if ending_of(data) in TEXT_SUFFIXES and data.is_file():
        columns = text_columns(data, call="read_table")
    else:
        columns = open_rows_of(data, call="read_table").columns
    if text not in columns:
        return names
    if set(names) <= set(columns):
        expected, got = "a name, or names separated by commas", f"{text!r}, which is both"
        others = next(t for t in (",".join(names), ", ".join(names)) if t != text)
        advice = f"Write '\"{text}\"' for the one column, {others!r} for several"
        raise InvalidValueError("read_table", expected, got, advice)
    return [str(text)]


class LossOptions:
    """Loss options of a command, and its columns of exposures and events."""

    def __init__(self, losses: Texts) -> None:
        numbers = {name: number(f"--{name}", losses[name]) for name in ("quantile", "power")}
        self.loss: dict[str, Any] = {"loss": losses["loss"], **numbers}
        self.schema = choose_loss(default_schema(1, 1), **self.loss, call="train")
        self.columns = {name: losses[name] for name in ("exposure", "event")}
        own = loss_of(self.schema)
        self.task = None if own.linear or own.classes else "regression"  # whatever the target
        self.weights: dict[str, Any] = {}

    def adjusted(self, rows: Any) -> Any:
        """Return rows adjusted for exposures and events; store the weights of the first call."""
        if rows is None:
            return None
        rows, weights = adjusted(rows, None, loss_of(self.schema), self.columns)
        if weights is not None:
            self.weights = self.weights or {"sample_weight": weights}
        return rows

    def losing(self, build: Callable[..., KAN]) -> Callable[..., KAN]:
        """Return a function that builds networks with the loss."""
        return losing(build, self.schema)


def check_learnable(
    rows: Table | Source, call: str, what: str = "rows to train on", least: int = MIN_ROWS
) -> None:
    """Refuse too few rows, and rows whose targets are all the same."""
    advice = "Pass more rows" if least == MIN_ROWS else "Raise --holdout"
    if rows.rows < least:
        raise DataError(call, f"at least {least} {what}", str(rows.rows), advice)
    if isinstance(rows, Source):  # the rows with extremes suffice
        rows = rows.take(rows.extremes or (0,))
    y = rows.y
    if rows.schema.task == "regression" and y is not None and not bool(deviations(y).any()):
        columns = listed(rows.schema.target_columns or rows.schema.output_names)
        advice = "Choose another target" if least == MIN_ROWS else advice
        got = f"{y[0, 0].item():.6g} in all rows"
        raise DataError(call, f"{what} with different values of {columns}", got, advice)


def open_for_model(
    data: Path, kan: KAN, *, call: str, target: Sequence[str] | None = None
) -> Table | Source:
    """Return a table for a model, as a source if it exceeds memory."""
    if not is_large(data, call=call):
        return read_features(data, kan.schema, call=call, target=target)
    source, numbers = scan_features(data, kan.schema, call=call, target=target), sum(kan.widths)
    return source.read(0, source.rows) if source.held(numbers) == source.rows else source


def held(rows: Table | Source, call: str, kan: KAN | None = None) -> Table:
    """Return a table, or the rows of a source that fit in memory."""
    if isinstance(rows, Table):
        return rows
    return rows.table(call=call, numbers=0 if kan is None else sum(kan.widths))


def new_model(table: Table | Source, hidden: list[Any], grid_size: int, **options: Any) -> KAN:
    """Return an untrained float64 network for a table."""
    widths = [len(table.schema.features), *hidden, len(table.schema.outputs)]
    return kanlens.KAN(widths, grid_size=grid_size, **options).double()


def read_rows(
    data: Path, kan: KAN, target: str | None, terminal: Terminal, *, without: str = "none is needed"
) -> Table:
    """Read a table for a model like `open_rows`, as many rows as memory allows."""
    return held(open_rows(data, kan, target, terminal, without=without), terminal.call, kan)


def open_rows(
    data: Path, kan: KAN, target: str | None, terminal: Terminal, *, without: str = "none is needed"
) -> Table | Source:
    """Open a table for a model; print its target and rows out of range."""
    names = column_names(target, data)
    rows = open_for_model(data, kan, call=terminal.call, target=names or None)
    if isinstance(rows, Source):
        print_target(rows.read(0, FIRST), kan.schema, names, terminal, without)
        return rows
    table, _ = with_targets(kan, rows)
    print_target(table, kan.schema, names, terminal, without)
    print_outside(kan, table, terminal)
    return table


def print_outside(kan: KAN, table: Table, terminal: Terminal) -> None:
    """Print the number of rows outside the range of training, and their features."""
    if words := outside_words(kan, table.x):
        terminal.say(f"{table.source}: {words}")


def print_poor_fit(metric: str, scores: Mapping[str, float | None], terminal: Terminal) -> None:
    """Warn if a constant predicts held-out rows as well as a network."""
    if words := poor_fit(named_scores(metric, scores)):
        terminal.say(f"WARNING: {words}")


def print_target(
    table: Table, schema: Schema, target: list[str], terminal: Terminal, without: str
) -> None:
    """Print the target columns of a table, or `without` if it has none."""
    present = target or schema.targets_among(list(table.frame.columns))
    names = present or schema.target_columns or schema.output_names
    columns = f"column{'s' * (len(names) > 1)} {listed(names)}"
    if table.y is not None:
        terminal.say(f"target: {columns} of {table.source}")
        return
    lack = "has missing cells or text in" if present else "has no"
    terminal.say(f"no target: {table.source} {lack} {columns} (see --target); {without}")


def read_test(path: Path | None, kan: KAN, target: str | None, terminal: Terminal) -> Table | None:
    """Read a table with the target, to test a model; None without a path."""
    if path is None:
        return None
    call = f"{terminal.call}: test"
    rows = open_for_model(path, kan, call=call, target=column_names(target, path) or None)
    table = held(rows, call, kan)
    if table.y is None:
        names = kan.schema.target_columns or kan.output_names
        expected = f"column {listed(names)}, all cells known"
        raise DataError(call, expected, f"none in {path.name!r}", "Name the target with --target")
    return table


def background_rows(
    path: Path | None, kan: KAN, table: Table, most: int | None, terminal: Terminal
) -> torch.Tensor:
    """Return background rows: from `path`, else the model, else the data."""
    if path is not None:
        call = f"{terminal.call}: background"
        against = held(open_for_model(path, kan, call=call), call, kan)
        print_outside(kan, against, terminal)
        rows = against.x
    elif kan.background is not None:
        rows = kan.background
    else:
        rows = spread(table.x, "max_background", BACKGROUND, terminal)
        source = f"{len(rows)} rows of {table.source}"
        terminal.say(f"no background: the model stores no rows; {source} are used (--background)")
    return spread(rows, "max_background", most, terminal)


def spread(x: torch.Tensor, name: str, most: int | None, terminal: Terminal) -> torch.Tensor:
    """Return at most `most` rows, evenly spread over the table; all if None."""
    if most is None:
        return x
    check_count(terminal.call, name, most)
    return x[torch.linspace(0, len(x) - 1, min(most, len(x))).round().long()]
