"""Reading of tables: CSV, Parquet, workbooks and DataFrames."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kanlens._files import line_number, read_frame
from kanlens._lazy import pd
from kanlens.data._cell_parsing import Place, missing_cells, row_text
from kanlens.data._column_types import Impute, has_decimal_comma
from kanlens.data._columns import ColumnRoles, as_names, read_targets, refuse_unknown
from kanlens.data._schema import Schema, Task
from kanlens.data._tables import Label, Table
from kanlens.errors import DataError, DTypeError, KanlensWarning


def read_table(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    target: Label | Sequence[Label] | None = None,
    task: Task | None = None,
    features: Label | Sequence[Label] | None = None,
    drop: Label | Sequence[Label] = (),
    categorical: Label | Sequence[Label] = (),
    impute: Impute | None = None,
    units: Mapping[Any, str] | None = None,
    na: Label | Sequence[Label] = (),
    decimal: str | None = None,
    groups: Label | None = None,
) -> Table:
    """Read a table to train on, and find the types of its columns.

    Truth values, 0 and 1, and columns of two texts become one binary feature; for texts the
    second in sorted order is 1. Columns of more texts become one feature per text, dates their
    year, month, weekday (0 is Monday), hour and days since 1970-01-01 as far as these vary;
    ``schema.groups`` has the features of each column. Numbers may have thousands separators and a
    currency or percent sign, or letters as in "12 kg", which are the unit if all cells have them.
    Texts that differ only in case are one category if one spelling has at least twice the cells of
    all others, and otherwise separate categories, with a warning.

    Cells that are empty, blank or (in text files) one of pandas' words for missing are missing. A
    column with missing cells has one more feature, 1 where the cell is missing; missing numbers are
    read as the median. Rows without a target are left out, as are columns that identify rows (row
    numbers, a different text in each row) unless `features` names them, both with a warning.

    A column label that is not text (a number, a date) becomes text.

    Parameters
    ----------
    source : str, path or DataFrame
        A ``.csv``, ``.tsv``, ``.txt`` (each also ``.gz``), ``.parquet`` or ``.xlsx`` file (its
        first sheet), or a frame.
    target : label or sequence of labels, optional
        Column to predict; several columns make a regression with as many outputs.
    task : {"regression", "classification"}, optional
        By default classification when the target is text, booleans, of pandas' category type, or
        has two distinct whole numbers. More than two classes that are coded as numbers need
        ``task="classification"``.
    features : label or sequence of labels, optional
        Columns to use, in this order; by default all but the target and `drop`.
    drop : label or sequence of labels
        Columns to leave out.
    categorical : label or sequence of labels
        Columns whose numbers are codes of categories.
    impute : {"median", "mean", "most_frequent"}, optional
        Replaces missing feature cells instead of marking them: numbers by this statistic of their
        column, binary and categorical cells by the most frequent one. The values are kept in the
        schema, for frames read later.
    units : mapping, optional
        Unit of each column that has one.
    na : label or sequence of labels
        Cells that stand for a missing one, as ``("?", -999)``.
    decimal : {".", ","}, optional
        The decimal sign. By default a comma if columns have numbers that can be read in no other
        way.
    groups : label, optional
        Column whose equal cells mark rows that belong together, such as those of one person. It is
        not a feature, and such rows are held out together.

    Returns
    -------
    Table

    Raises
    ------
    DataError
        For a missing column, an unreadable or infinite cell (with its row), a table without rows or
        without a usable column.
    MissingFileError, FileFormatError
        If the file is missing, empty, truncated or of another kind.
    InvalidValueError
        If `task`, `impute` or `decimal` is not one of the choices.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"size": [1.5, 2, 3, 5], "kind": list("abca"), "y": [1, 3, 5, 7]})
    >>> table = read_table(frame, target="y", units={"size": "mm"})
    >>> table.feature_names
    ('size', 'kind=a', 'kind=b', 'kind=c')
    >>> table.x.shape, table.y.shape, table.schema.task
    (torch.Size([4, 4]), torch.Size([4, 1]), 'regression')
    """
    roles = ColumnRoles(
        target=target,
        task=task,
        features=features,
        drop=[*as_names(drop), *as_names(groups)],
        categorical=categorical,
        impute=impute,
        units=units,
        na=na,
        decimal=decimal,
    )
    return read_columns(source, roles, call="read_table", groups=groups)


def read_columns(source: object, roles: ColumnRoles, *, call: str, groups: object = None) -> Table:
    """Read a table to train on; errors name the public call `call`."""
    frame, name, place = _open(source, call, roles.format.decimal)
    if roles.decimal is None and has_decimal_comma(frame):
        again, name, place = _open(source, call, ",")
        floats = frame.columns[[kind.kind == "f" for kind in frame.dtypes]]
        if all(kind.kind in "iuf" for kind in again[floats].dtypes):  # else points are decimals too
            roles, frame = dataclasses.replace(roles, decimal=","), again
    refuse_unknown("groups", as_names(groups), list(frame.columns), call=call)
    if set(as_names(groups)) & {*as_names(roles.target), *as_names(roles.features)}:
        expected = "to be a column other than target and features"
        raise DataError(call, expected, repr(groups), "Name it once", argument="groups")
    frame, place = _with_targets(frame, roles, place)
    schema = roles.read_schema(frame, place, call=call)
    table = encode_table(frame, name, schema, call, place)
    label = None if groups is None else str(groups)
    return dataclasses.replace(table, roles=roles, groups=label)


def _with_targets(
    frame: pd.DataFrame, roles: ColumnRoles, place: Place
) -> tuple[pd.DataFrame, Place]:
    """Leave out rows whose target is missing, with a warning."""
    columns = list(frame.columns)
    names = [name for name in as_names(roles.target) if columns.count(name) == 1]
    present = np.ones(len(frame), dtype=bool)
    for name in names:
        present &= ~missing_cells(frame[name], roles.format.missing)
    count = int((~present).sum())
    if not count or count == len(frame):  # without any, the target is refused
        return frame, place
    got = f"{count:,} of {len(frame):,} without (first in {place(int(present.argmin()))})"
    expected, advice = f"a target {', '.join(names)} in every row", "These rows are left out"
    warnings.warn(KanlensWarning("read_table", expected, got, advice), stacklevel=3)
    rows = np.flatnonzero(present)
    return frame[present], lambda row: place(int(rows[row]))


def read_features(
    source: str | os.PathLike[str] | pd.DataFrame,
    schema: Schema,
    *,
    call: str,
    target: Sequence[str] | None = None,
) -> Table:
    """Read a table for a trained model, by the names in its schema.

    Targets are the columns `target`, by default those the model was trained on, else those named
    like its outputs; `y` is None unless all their cells are there.
    """
    frame, name, place = _open(source, call, schema.format.decimal)
    return encode_table(frame, name, schema, call, place, target)


def _open(source: object, call: str, decimal: str) -> tuple[pd.DataFrame, str, Place]:
    """Return the frame, its name, and the function that names its rows."""
    place: Place = row_text
    if isinstance(source, pd.DataFrame):
        frame, name = source.copy(), "DataFrame"
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        frame = read_frame(path, call=call, decimal=decimal)
        name, place = path.name, partial(row_in_file, path)
    else:
        raise DTypeError(call, "a path or a DataFrame", type(source).__name__, "Pass one of these")
    if not len(frame):
        raise DataError(call, "at least one row", f"a table without rows, {name!r}", "Add the data")
    check_levels(frame, call)
    frame.columns = [str(label) for label in frame.columns.get_level_values(0)]
    return frame.reset_index(drop=True), name, place


def check_levels(frame: pd.DataFrame, call: str) -> None:
    """Refuse columns with a MultiIndex."""
    if frame.columns.nlevels > 1:
        got = f"a MultiIndex of {frame.columns.nlevels} levels"
        advice = "Join the levels of each column to one name"
        raise DataError(call, "columns with one level", got, advice)


def row_in_file(path: Path, row: int) -> str:
    """Return the name of a row of a file, with its line in a text file."""
    line = line_number(path, row)
    return row_text(row) if line is None else f"{row_text(row)} (line {line})"


def encode_table(
    frame: pd.DataFrame,
    name: str,
    schema: Schema,
    call: str,
    place: Place,
    target: Sequence[str] | None = None,
) -> Table:
    """Return a frame as the table of a schema."""
    x = torch.from_numpy(schema.encode(frame, call=call, place=place))
    targets = read_targets(frame, schema, target, call=call, place=place)
    y = None if targets is None else torch.from_numpy(targets)
    return Table(x=x, y=y, schema=schema, source=name, frame=frame)
