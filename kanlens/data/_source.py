"""Sources: tables that need not fit in memory, read as blocks of rows."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kanlens._atomic_files import Pathlike, ending_of
from kanlens._checks import check_choice, check_count
from kanlens._display import Displayed
from kanlens._files import GROUP, PARQUET_SUFFIXES
from kanlens._lazy import pd
from kanlens._resources import allowed_memory
from kanlens._runtime import progress_bar
from kanlens.data._cell_parsing import LEAVE_OUT, Array, Column
from kanlens.data._column_types import Impute
from kanlens.data._columns import ColumnRoles, choose_columns
from kanlens.data._profile import DISTINCT, ColumnProfile
from kanlens.data._row_readers import RowReader, blocks, open_rows
from kanlens.data._schema import Feature, Schema
from kanlens.data._table_reader import encode_table
from kanlens.data._tables import Table
from kanlens.errors import DataError, InvalidValueError, KanlensWarning, rewording

CELL = 40  # bytes of a cell while a table is read: text more, numbers less
NUMBER = 32  # bytes of each additional number of a row, with intermediate results
TEXT = 4  # bytes of memory for a byte of a text file


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Source(Displayed):
    """Rows of a table that need not fit in memory, read as tables.

    Attributes
    ----------
    schema : Schema
        Names, units and kinds of the columns, and the task.
    reader : RowReader
        Reads the rows; its `name` is that of the file or folder.
    extremes : tuple of int
        Indices of rows with the minimum or the maximum of a column, if known.
    target : tuple of str
        Columns of the target, if they differ from those of the schema.
    call : str
        The public call, for error messages.

    Examples
    --------
    >>> import pandas as pd
    >>> source = scan_table(pd.DataFrame({"a": range(10), "y": range(10)}), target="y")
    >>> [table.rows for table in source.batches(4)]
    [4, 4, 2]
    """

    schema: Schema
    reader: RowReader
    extremes: tuple[int, ...] = ()
    target: tuple[str, ...] = ()
    call: str = "scan_table"

    def _line(self) -> str:
        return f"{self.rows:,} rows of {len(self.schema.features)} features in {self.reader.name}"

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.reader.rows

    def __len__(self) -> int:
        return self.reader.rows

    @property
    def source(self) -> str:
        """Name of the file or folder, as in `Table.source`."""
        return self.reader.name

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of features and targets; all columns if a feature's column is missing."""
        columns = self.reader.columns
        wanted = [f.column if f.column in columns else f.name for f in self.schema.features]
        if not set(wanted) <= set(columns):
            return tuple(columns)
        return tuple(dict.fromkeys([*wanted, *(self.target or self.schema.targets_among(columns))]))

    def held(self, numbers: int = 0) -> int:
        """Return the number of rows that fit in half of the memory allowed.

        `numbers` counts the additional numbers held for each row.
        """
        width = len(self.columns) + len(self.schema.features)
        return min(self.rows, max(2, allowed_memory() // 2 // (CELL * width + NUMBER * numbers)))

    def read(self, start: int, stop: int) -> Table:
        """Return the rows from `start` up to `stop`."""
        return self._encoded(self.reader.read(start, stop, self.columns), range(start, stop))

    def _encoded(self, frame: pd.DataFrame, numbers: Sequence[int] | Array) -> Table:
        """Return a frame of rows as a table."""

        def place(row: int) -> str:
            return self.reader.place(int(numbers[row]))

        return encode_table(frame, self.source, self.schema, self.call, place, self.target or None)

    def batches(self, rows: int = GROUP) -> Iterator[Table]:
        """Yield all rows in order, in batches.

        Parameters
        ----------
        rows : int
            Rows of each table; the last may have fewer.

        Yields
        ------
        Table

        Raises
        ------
        InvalidValueError
            If `rows` is not positive.
        """
        check_count("Source.batches", "rows", rows)
        return (self.read(start, stop) for start, stop in blocks(self.rows, rows))

    def take(self, indices: Sequence[int] | Array) -> Table:
        """Return the rows at increasing `indices`.

        Raises
        ------
        InvalidValueError
            If they do not increase, or are outside the table.
        """
        rows = np.asarray(indices, dtype=np.int64)
        if not (len(rows) and rows[0] >= 0 and rows[-1] < self.rows and (np.diff(rows) > 0).all()):
            expected = f"increasing row numbers below {self.rows}"
            advice = "Sort them, each once"
            raise InvalidValueError("Source.take", expected, str(rows[:8].tolist()), advice)
        parts = []
        for start, stop in blocks(self.rows, GROUP):
            here = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)] - start
            if len(here):
                parts.append(self.reader.read(start, stop, self.columns).iloc[here])
        return self._encoded(pd.concat(parts, ignore_index=True), rows)

    def sample(self, rows: int, *, extremes: bool = False) -> Table:
        """Return a number of evenly spread rows, or all rows if there are fewer.

        Parameters
        ----------
        rows : int
            Number of rows.
        extremes : bool
            Whether the rows with the minimum and the maximum of each column are added.
        """
        check_count("Source.sample", "rows", rows)
        return self.take(self.spread(rows, extremes=extremes))

    def spread(self, rows: int, *, extremes: bool = False) -> Array:
        """Return the positions of the rows of `sample`."""
        count = min(rows, self.rows)
        picks = np.linspace(0, self.rows - 1, count).round().astype(np.int64)
        return np.union1d(picks, self.extremes).astype(np.int64) if extremes else picks

    def table(self, *, call: str, numbers: int = 0) -> Table:
        """Return the rows that fit in memory; warn if these are not all."""
        held = self.held(numbers)
        if held == self.rows:
            return self.read(0, held)
        expected = f"rows that fit into {allowed_memory() / 1e9:.2g} GB"
        got = f"{self.rows:,} in {self.source!r}; {held:,} of them, evenly spread, are used"
        advice = "Allow more with max_memory, or take a sample"
        warnings.warn(KanlensWarning(call, expected, got, advice), stacklevel=4)
        return self.sample(held)


def is_large(path: Pathlike, *, call: str) -> bool:
    """Return whether a path is a folder, or a file larger than memory."""
    place = Path(path)
    if place.is_dir():
        return True
    if not place.is_file() or not place.stat().st_size:
        return False
    if ending_of(place) not in PARQUET_SUFFIXES:
        return TEXT * place.stat().st_size > allowed_memory() // 2
    reader = open_rows(place, call=call)
    return CELL * reader.rows * len(reader.columns) > allowed_memory() // 2


def scan_table(source: object, *, progress: bool | None = None, **roles: Any) -> Source:
    """Find the types of the columns of a table without holding it in memory.

    One pass over the columns finds their kinds and categories as `read_table` does. In a column
    with more than 2,000 distinct numbers, the median for imputation is approximate (within 0.2 % of
    its rank), most_frequent is refused, and without `impute` missing numbers become the mean.

    Parameters
    ----------
    source : path, DataFrame, DataLoader or iterable
        A Parquet file or folder of them (partitioned ones with ``name=value`` folders), which are
        read in place; or a text table, or batches: frames, x (rows, in), or pairs (x, y) with
        columns x1, x2, ... and y, which are written to a temporary file once.
    progress : bool, optional
        Show a bar on stderr. Default: when it is a terminal.
    **roles
        ``target``, ``task``, ``features``, ``drop``, ``categorical``, ``impute``, ``units``, ``na``
        and ``decimal`` of `read_table`.

    Returns
    -------
    Source
        Its batches equal the tables that `read_table` returns for the same rows.

    Raises
    ------
    DataError, MissingFileError, FileFormatError, InvalidValueError
        As `read_table`, except that missing or infinite cells raise only when rows are read; and if
        files of a folder or batches have different columns.
    DTypeError
        If `source` is none of these.

    Examples
    --------
    >>> import pandas as pd
    >>> source = scan_table(pd.DataFrame({"kind": list("abca"), "y": [1, 3, 5, 7]}), target="y")
    >>> source
    Source: 4 rows of 3 features in DataFrame
    >>> source.read(1, 3).x.tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    for name in roles:
        check_choice("scan_table", "argument", name, ColumnRoles.__dataclass_fields__)
    column_roles = ColumnRoles(**roles)
    with rewording("scan_table"):
        reader = open_rows(source, call="scan_table", decimal=column_roles.format.decimal)
        return _scan(column_roles, reader, progress)


def _scan(roles: ColumnRoles, reader: RowReader, progress: bool | None) -> Source:
    """Return a source, after one pass over its columns."""
    if not reader.rows:
        got = f"a table without rows, {reader.name!r}"
        raise DataError("scan_table", "at least one row", got, "Add the data")
    fields = roles.target, roles.features, roles.drop
    targets, features = choose_columns(reader.columns, *fields, call="read_table")
    used = [*targets, *features]
    ranked = roles.impute == "median"
    profiles = {name: ColumnProfile(ranked=ranked, format=roles.format) for name in used}
    with progress_bar("columns", reader.rows, shown=progress) as advance:
        for start, stop in blocks(reader.rows, GROUP):
            frame = reader.read(start, stop, used)
            for name, profile in profiles.items():
                profile.add(frame[name], start)
            advance(stop - start)

    def column(name: str, *, coded: bool, target: bool) -> Column:
        about: dict[str, Any] = {"call": "scan_table", "coded": coded, "target": target}
        cells = profiles[name].column(name, reader.place, **about)
        classes = coded or cells.inferred == "categorical"
        if profiles[name].overflow and (classes or (target and roles.task == "classification")):
            expected, got = f"at most {DISTINCT} categories", f"more in column {name!r}"
            raise DataError("scan_table", expected, got, "Merge some of them", LEAVE_OUT, drop=name)
        return cells

    schema = roles.find_schema(column, reader.columns, call="scan_table")
    imputed = [_with_typical(feature, roles.impute, profiles) for feature in schema.features]
    schema = dataclasses.replace(schema, features=tuple(imputed))
    ends = {row for p in profiles.values() if p.count for row in (p.lowest[1], p.highest[1])}
    return Source(schema=schema, reader=reader, extremes=tuple(sorted(ends)))


def _with_typical(
    feature: Feature, impute: Impute | None, profiles: dict[str, ColumnProfile]
) -> Feature:
    """Return a feature with the value that replaces missing numbers."""
    if feature.category is not None or feature.kind not in ("numeric", "binary"):
        return feature
    profile = profiles[feature.column]
    statistic: Impute = impute or ("mean" if profile.overflow else "median")
    statistic = "most_frequent" if feature.kind == "binary" else statistic
    value = profile.typical(statistic, feature.column, "scan_table")
    if impute is None:
        return dataclasses.replace(feature, typical=value)
    return dataclasses.replace(feature, imputation=value)


def scan_features(
    source: object, schema: Schema, *, call: str, target: Sequence[str] | None = None
) -> Source:
    """Return a source of rows for a trained model; its first row is read to check columns."""
    reader = open_rows(source, call=call, decimal=schema.format.decimal)
    if not reader.rows:
        got = f"a table without rows, {reader.name!r}"
        raise DataError(call, "at least one row", got, "Add the data")
    rows = Source(schema=schema, reader=reader, target=tuple(target or ()), call=call)
    rows.read(0, 1)
    return rows
