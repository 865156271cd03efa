"""Random access to rows of tables; text is first written to temporary Parquet files."""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from kanlens._atomic_files import Pathlike, ending_of, reason
from kanlens._files import (
    GROUP,
    PARQUET_SUFFIXES,
    TEXT_SUFFIXES,
    WORKBOOK_SUFFIXES,
    read_frame,
    read_text_in_parts,
    text_columns,
    write_frames,
)
from kanlens._lazy import pa, pd
from kanlens._runtime import unfinished
from kanlens.data._cell_parsing import listed, row_text
from kanlens.data._schema import default_schema
from kanlens.data._table_reader import check_levels, row_in_file
from kanlens.errors import DataError, DTypeError, FileFormatError, MissingFileError

OPEN = 200  # columns of row groups that are partly read; each takes about a megabyte


@dataclass(eq=False)
class FrameReader:
    """The rows of a frame."""

    frame: pd.DataFrame
    name: str = "DataFrame"

    def __post_init__(self) -> None:
        self.rows, self.columns = len(self.frame), [str(label) for label in self.frame.columns]

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pd.DataFrame:
        """Return some columns of the rows from `start` up to `stop`."""
        picks = [self.columns.index(name) for name in columns]
        return self.frame.iloc[start:stop, picks].set_axis(list(columns), axis=1)

    def place(self, row: int) -> str:
        """Return the name of a row."""
        return row_text(row)


class ParquetReader:
    """The rows of Parquet files, in the order of their names.

    `origin` is the text file that they were made of, for line numbers in errors. `_stopped` holds,
    by columns and position, the rest of a batch and the iterator of later ones, so that a read that
    continues another does not start the row group again.
    """

    def __init__(self, path: Pathlike, *, call: str, origin: Path | None = None) -> None:
        import pyarrow.dataset as ds

        self.path, self.call, self.origin = Path(path), call, origin
        self._schemas: dict[tuple[str, ...], pa.Schema] = {}
        self._stopped: dict[Any, tuple[Any, Any]] = {}
        self.name = (origin or self.path).name
        if not (names := _files(self.path)):
            got, advice = f"none in {str(path)!r}", "Write the table as Parquet"
            raise DataError(call, "a folder of Parquet files", got, advice)
        try:
            frugal = ds.ParquetFragmentScanOptions(use_buffered_stream=True, pre_buffer=False)
            kind = ds.ParquetFileFormat(default_fragment_scan_options=frugal)
            base = str(path) if self.path.is_dir() else None
            data = ds.dataset(names, format=kind, partitioning="hive", partition_base_dir=base)
            fragments: list[Any] = list(data.get_fragments())
            self.files = [(fragment, fragment.physical_schema) for fragment in fragments]
            counts = [[group.num_rows for group in file.row_groups] for file in fragments]
        except FileNotFoundError as error:
            got = f"none at {str(path)!r}"
            raise MissingFileError(call, "a file or folder", got, "Check the path") from error
        except (pa.lib.ArrowException, OSError, ValueError) as error:
            got = f"{reason(error)} in {self.path.name!r}"
            advice = "Check that it can be read and is whole, or write it again"
            raise FileFormatError(call, "Parquet files", got, advice) from error
        groups = [(f, g, n) for f, sizes in enumerate(counts) for g, n in enumerate(sizes) if n]
        self.groups = [(f, g) for f, g, _ in groups]
        self.starts = np.cumsum([0, *(n for _, _, n in groups)])
        index = (data.schema.pandas_metadata or {}).get("index_columns", [])  # that pandas stored
        self.rows, names = int(self.starts[-1]), data.schema.names
        self.columns = [name for name in names if name not in index]
        self.partitions = set(names) - {n for _, s in self.files for n in s.names}

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pd.DataFrame:
        """Return some columns of the rows from `start` up to `stop`."""
        start, stop = max(start, 0), min(stop, self.rows)
        schema, parts = self._schema(tuple(columns)), list[pa.Table]()
        rest, batches = self._stopped.pop((*columns, start), (None, None))
        if batches is None:
            first = int(np.searchsorted(self.starts, start, side="right")) - 1
            groups = [(self.files[file][0], group) for file, group in self.groups[first:]]
            batches = _batches(groups, schema, start - int(self.starts[first]), self.call)
        while start < stop:
            batch = next(batches) if rest is None else rest
            here = batch.slice(0, stop - start)
            parts.append(pa.Table.from_batches([here], schema))
            start += len(here)
            rest = batch.slice(len(here)) if len(here) < len(batch) else None
        if start < self.rows and start not in self.starts:
            self._stopped[(*columns, start)] = rest, batches
            if len(schema) * len(self._stopped) > OPEN:
                self._stopped.pop(next(iter(self._stopped)))
        table = pa.concat_tables([schema.empty_table(), *parts])
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
        return frame

    def _schema(self, columns: tuple[str, ...]) -> pa.Schema:
        """Return the types of columns; refuse files whose columns differ in type."""
        if columns in self._schemas:
            return self._schemas[columns]
        wanted = [name for name in columns if name not in self.partitions]
        schemas = [self.files[0][1].empty_table().select(wanted).schema]
        for fragment, schema in self.files[1:]:
            lost = next((name for name in wanted if name not in schema.names), None)
            try:
                if lost is None:
                    schemas.append(pa.schema([schema.field(name) for name in wanted]))
                    pa.unify_schemas(schemas[:1] + schemas[-1:], promote_options="permissive")
                    continue
                got = f"no column {lost!r}"
            except (pa.lib.ArrowException, TypeError) as error:
                got = f"other types ({reason(error)})"
            name = Path(fragment.path).name
            advice = "Write these columns to every file, or leave the column out"
            expected = f"the columns {listed(wanted)} with the same types in every file"
            raise DataError(self.call, expected, f"{got} in {name!r}", advice)
        unified = pa.unify_schemas(schemas, promote_options="permissive")
        fields = {field.name: field.remove_metadata() for field in unified}
        fields |= {name: pa.field(name, pa.string()) for name in self.partitions}
        self._schemas[columns] = pa.schema([fields[name] for name in columns])
        return self._schemas[columns]

    def place(self, row: int) -> str:
        """Return the name of a row."""
        if self.origin is not None:
            return row_in_file(self.origin, row)
        if len(self.files) == 1:
            return row_text(row)
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        file = self.groups[index][0]
        begin = next(i for i, (other, _) in enumerate(self.groups) if other == file)
        within = row - int(self.starts[begin])
        return f"{row_text(within)} of {Path(self.files[file][0].path).name}"


def _batches(
    groups: list[tuple[Any, int]], schema: pa.Schema, skipped: int, call: str
) -> Iterator[Any]:
    """Yield the rows of row groups in batches, without the first `skipped` overall."""
    size = {"batch_size": GROUP // 4 + 1, "batch_readahead": 0, "use_threads": False}
    for fragment, group in groups:
        try:
            for batch in fragment.subset(row_group_ids=[group]).to_batches(schema=schema, **size):
                if skipped < len(batch):
                    yield batch.slice(skipped).select(schema.names)
                skipped = max(0, skipped - len(batch))
        except (pa.lib.ArrowException, OSError) as error:
            got = f"{reason(error)} in {Path(fragment.path).name!r}"
            raise FileFormatError(call, "a readable file", got, "Write that file again") from error
    raise FileFormatError(call, "as many rows as scanned", "fewer", "Scan the table again")


RowReader: TypeAlias = FrameReader | ParquetReader


def _files(path: Path) -> list[str]:
    """Return a file, or the visible Parquet files of a folder."""
    if not path.is_dir():
        return [str(path)]
    files = [file for file in path.rglob("*") if ending_of(file) in PARQUET_SUFFIXES]
    hidden = [any(part[0] in "_." for part in file.relative_to(path).parts) for file in files]
    return sorted(str(file) for file, out in zip(files, hidden, strict=True) if not out)


def open_rows(source: object, *, call: str, decimal: str = ".") -> RowReader:
    """Return a reader of a file or folder, a frame, or batches, as from a DataLoader."""
    if isinstance(source, pd.DataFrame):
        check_levels(source, call)
        return FrameReader(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if ending_of(path) in TEXT_SUFFIXES and not path.is_dir():
            return _written(partial(_text_parts, path, call, decimal), call, origin=path)
        if ending_of(path) in WORKBOOK_SUFFIXES:
            return FrameReader(read_frame(path, call=call), path.name)
        if not path.is_dir() and ending_of(path) not in PARQUET_SUFFIXES and path.exists():
            expected = "a table: .csv, .tsv, .parquet, .xlsx, or a folder of Parquet files"
            advice = "Convert it, or pass a DataFrame"
            raise FileFormatError(call, expected, repr(path.name), advice)
        return ParquetReader(path, call=call)
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes, dict)):
        return _written(lambda: map(partial(_frame_of, call=call), source), call)
    got = type(source).__name__
    raise DTypeError(call, "a path, a DataFrame, or batches of rows", got, "Pass one of these")


def _written(parts: Any, call: str, origin: Path | None = None) -> ParquetReader:
    """Write the frames that `parts()` yields to a temporary Parquet file; return its reader."""
    handle, name = tempfile.mkstemp(prefix="kanlens-", suffix=".parquet")
    os.close(handle)
    path = Path(name)
    unfinished.add(path)  # removed also when a command is killed
    try:
        if not write_frames(map(_general, parts()), path, call=call):
            raise DataError(call, "at least one row", "none", "Add the data")
        reader = ParquetReader(path, call=call, origin=origin)
    except BaseException:
        _removed(path)
        raise
    if origin is None:
        reader.name = "batches"
    weakref.finalize(reader, _removed, path)
    return reader


def _removed(path: Path) -> None:
    path.unlink(missing_ok=True)
    unfinished.discard(path)


def _general(part: pd.DataFrame) -> pd.DataFrame:
    """Return columns in types general enough for the cells of later parts."""
    types: dict[Any, Any] = {}
    for name, cells in part.items():
        if cells.dtype.kind in "iu":
            types[name] = "float64"
        elif isinstance(cells.dtype, pd.CategoricalDtype) or bool(cells.isna().all()):
            types[name] = "float64" if cells.dtype.kind == "f" else "string"
    return part.astype(types)


def _text_parts(path: Path, call: str, decimal: str) -> Iterator[pd.DataFrame]:
    """Yield parts of a text file, after a pass that finds the types of columns."""
    kinds: dict[str, set[str]] = {name: set() for name in text_columns(path, call=call)}
    for part in read_text_in_parts(path, GROUP, call=call, decimal=decimal):
        for name, types in kinds.items():
            cells = part[name]
            if cells.dtype.kind not in "iuf":
                types.add("bool" if cells.dtype.kind == "b" else "str")
            elif not bool(cells.isna().all()):
                types.add("float64")
    dtype = {
        n: "str" if len(types) > 1 else min(types, default="float64") for n, types in kinds.items()
    }
    return read_text_in_parts(path, GROUP, call=call, decimal=decimal, dtype=dtype)


def _frame_of(batch: Any, *, call: str) -> pd.DataFrame:
    """Return a batch as a frame with columns x1, x2, ... and y, or y1, y2, ..."""
    import torch

    if isinstance(batch, pd.DataFrame):
        return batch
    pair = isinstance(batch, (tuple, list)) and len(batch) in (1, 2)
    expected = "batches of x (rows, in), or (x, y)"
    try:
        arrays = batch if pair else [batch]
        parts = [torch.as_tensor(array).detach().cpu().numpy() for array in arrays]
    except (TypeError, ValueError, RuntimeError) as error:
        got = type(batch).__name__
        raise DTypeError(call, expected, got, "Yield tensors or DataFrames") from error
    if parts[0].ndim != 2 or any(len(part) != len(parts[0]) for part in parts):
        got = ", ".join(str(part.shape) for part in parts)
        raise DataError(call, expected, f"shapes {got}", "Stack rows into batches")
    ys = [part.reshape(len(part), -1) for part in parts[1:]]
    names = default_schema(parts[0].shape[1], ys[0].shape[1] if ys else 1)
    frame = pd.DataFrame(parts[0], columns=list(names.feature_names))
    for y in ys:
        frame[list(names.output_names)] = y
    return frame


def blocks(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the start and stop of blocks of rows."""
    return itertools.pairwise([*range(0, rows, size), rows])
