"""Exposures, offsets and events of rows, and the targets that account for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_choice
from kanlens._lazy import pd
from kanlens.data._schema import Output
from kanlens.data._source import Source
from kanlens.data._table_reader import read_features
from kanlens.data._tables import Table
from kanlens.errors import InvalidValueError
from kanlens.model._losses import Loss, check_targets
from kanlens.model._network import KAN, PerRow

Data: TypeAlias = "Table | Source | tuple[Any, Any]"
ADJUSTED = {"exposure": "{} per {}", "offset": "{} less {}", "event": "hazard of {1}"}
MAX_LOG = 100.0  # largest absolute offset with a log link


def split_column(data: Any, values: PerRow, name: str) -> tuple[Any, Any]:
    """Return the data without the column that `values` names, and its values (batch,)."""
    if isinstance(data, Table):
        if not isinstance(values, str):
            return data, values
        check_choice("fit", name, values, data.frame.columns)
        names = [feature.name for feature in data.schema.features if feature.column != values]
        return data.keep(names), data.frame[values]
    if values is not None and isinstance(data, Source):
        expected, advice = f"{name} of rows that fit in memory", "Increase max_memory"
        raise InvalidValueError("fit", expected, f"{data.rows:,} rows", advice)
    if isinstance(values, str) and hasattr(data[0], "columns"):
        check_choice("fit", name, values, data[0].columns)
        return (data[0].drop(columns=values), data[1]), data[0][values]
    return data, values


def adjusted(
    data: Data, sample_weight: PerRow, loss: Loss, per_row: Mapping[str, PerRow]
) -> tuple[Any, PerRow]:
    """Return data with targets, and weights, that account for exposures, offsets and events.

    Targets divided by exposures, with a power of the exposures as weights, have the likelihood of
    the targets. The output of a table is renamed, so that raw targets are not mistaken for these.
    """
    if isinstance(data, Table) and data.y is not None and data.schema.task == "classification":
        check_targets(replace(data.schema, loss=loss.name), data.y, call="fit")
    per_row = {name: own for name, own in per_row.items() if own is not None}
    columns = [(name, own) for name, own in per_row.items() if isinstance(own, str)]
    if isinstance(data, Table) and columns and len(columns) == len(per_row):
        targets = [("target", name) for name in data.schema.target_columns]
        data = replace(data, schema=replace(data.schema, per_row=(*targets, *columns)))
    for name, own in per_row.items():
        pair, values = split_column(data, own, name)
        pair, sample_weight = _adjusted(pair, sample_weight, loss, name, values)
        if isinstance(pair, Table):
            column = own if isinstance(own, str) else name
            pair = replace(pair, schema=pair.schema.renamed(ADJUSTED[name], column))
        data = pair
    return repeated(data, loss.levels), sample_weight


def with_targets(model: KAN, table: Table) -> tuple[Table, PerRow]:
    """Return a table with the targets a model was trained on, and weights of rows.

    The columns of the measured targets, and of their exposures, offsets or events, are read again.
    """
    pairs, frame = model.schema.per_row, table.frame
    if not pairs or not {column for _, column in pairs} <= set(frame.columns):
        return table, None
    measured = [column for name, column in pairs if name == "target"]
    values: dict[str, Any] = {name: frame[column] for name, column in pairs if name != "target"}
    raw = read_features(frame, model.schema, call="fit", target=measured)
    (_, y), weights = adjusted((raw.x, raw.y), None, model.loss, values)
    return replace(table, y=y), weights


def repeated(data: Data, levels: Sequence[float]) -> Any:
    """Return data with the target repeated for each of several quantiles."""
    if not levels:
        return data
    if isinstance(data, Source):
        fields = f"{data.rows:,} rows", "Increase max_memory"
        raise InvalidValueError("fit", "rows that fit in memory for several quantiles", *fields)
    y = data.y if isinstance(data, Table) else data[1]
    if y is None:
        return data
    targets = _numbers(y).reshape(len(y), -1)
    if bool((targets[:, 1:] != targets[:, :1]).any()):
        expected, got = "one target for several quantiles", f"{targets.shape[1]}"
        raise InvalidValueError("fit", expected, got, "Train a model for each target")
    if np.ndim(y) == 2 and targets.shape[1] == len(levels):  # repeated before
        return data
    targets = targets[:, :1].repeat(1, len(levels))
    if not isinstance(data, Table):
        return data[0], targets
    name = data.schema.output_names[0]
    outputs = tuple(Output(name=f"{name} quantile {level:g}") for level in levels)
    return replace(data, y=targets, schema=replace(data.schema, outputs=outputs))


def _numbers(values: PerRow) -> Tensor:
    """Return the cells as a float64 vector, with NaN for cells that are not numbers."""
    cells = pd.to_numeric(np.asarray(values).ravel(), errors="coerce")
    return torch.from_numpy(np.array(cells, dtype=float))


def _adjusted(
    data: Table | tuple[Any, Any], sample_weight: PerRow, loss: Loss, name: str, values: PerRow
) -> tuple[Any, PerRow]:
    """Return data and weights that account for exposures, offsets or events (`name`)."""
    y = data.y if isinstance(data, Table) else data[1]
    if y is None:  # which is refused later
        return data, sample_weight
    targets, numbers = _numbers(y).reshape(len(y), -1), _numbers(values)[:, None]
    sound = len(numbers) == len(targets) and bool(numbers.isfinite().all())
    most = MAX_LOG if loss.log else 1e100
    kind, right = {
        "exposure": ("positive numbers", numbers > 0),
        "event": ("numbers 0 or 1", (numbers == 0) | (numbers == 1)),
        "offset": (f"numbers from {-most:g} to {most:g}", numbers.abs() <= most),
    }[name]
    if not sound or not bool(right.all()):
        got, advice = "some others", "Pass only such values"
        if isinstance(values, str):
            got, advice = repr(values), "Pass the values of that column, and data without it"
        elif len(numbers) != len(targets):
            got, advice = (
                f"{len(numbers)} numbers",
                "Pass one for each row, or a column of the table",
            )
        raise InvalidValueError("fit", f"to be {len(targets)} {kind}", got, advice, argument=name)
    targets, factor = loss.adjusted(name, targets, numbers)
    if factor is not None:
        own = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, dtype=float)
        sample_weight = factor[:, 0].numpy() * own if own.shape == (len(y),) else own
    pair = replace(data, y=targets) if isinstance(data, Table) else (data[0], targets)
    return pair, sample_weight
