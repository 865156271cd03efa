"""Reading and writing of table files; no cell is evaluated, no URL is opened."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kanlens._atomic_files import Pathlike, atomic_write, check_ending, ending_of, reason
from kanlens._lazy import pa, parquet, pd
from kanlens.errors import DataError, FileFormatError, KanlensError, MissingFileError

GROUP = 2**16  # rows of a row group of Parquet
TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
WORKBOOK_SUFFIXES = (".xlsx",)  # read, not written
TABLE_SUFFIXES = TEXT_SUFFIXES + PARQUET_SUFFIXES
ENDINGS = ", ".join(TEXT_SUFFIXES[:4] + PARQUET_SUFFIXES)


def write_frames(frames: Iterable[pd.DataFrame], path: Pathlike, *, call: str) -> int:
    """Write frames one below the other, without index; return the number of rows.

    The suffix of `path` selects CSV, TSV or Parquet.
    """
    suffix = ending_of(path)
    check_ending(path, TABLE_SUFFIXES, call=call, shown=ENDINGS)
    write = _write_parquet if suffix in PARQUET_SUFFIXES else _write_text
    with atomic_write(path, call=call) as temporary:
        return write(frames, temporary, suffix, call)


def _write_parquet(frames: Iterable[pd.DataFrame], path: Path, _: str, call: str) -> int:
    """Write a Parquet file; all parts have the columns and types of the first."""
    rows, writer = 0, None
    with contextlib.ExitStack() as stack:
        for part in frames:
            schema = None if writer is None else writer.schema
            try:
                if schema is not None and list(part.columns) != schema.names:
                    raise KeyError(f"columns {list(part.columns)} after {schema.names}")
                table = pa.Table.from_pandas(part, schema=schema, preserve_index=False)
            except (pa.lib.ArrowInvalid, pa.lib.ArrowTypeError, KeyError) as error:
                expected, got = "batches with the same columns and types", reason(error)
                raise DataError(call, expected, got, "Give all batches the same ones") from error
            writer = writer or stack.enter_context(parquet.ParquetWriter(path, table.schema))
            writer.write_table(table, row_group_size=GROUP)
            rows += len(part)
    return rows


def _write_text(frames: Iterable[pd.DataFrame], path: Path, suffix: str, _: str) -> int:
    """Write a text table with the header of the first part."""
    rows = 0
    for number, part in enumerate(frames):
        part.to_csv(
            path,
            index=False,
            header=number == 0,
            mode="a",
            sep="\t" if suffix.startswith(".tsv") else ",",
            compression="gzip" if suffix.endswith(".gz") else None,
            encoding="utf-8",
            lineterminator="\n",
            quoting=csv.QUOTE_NONNUMERIC if _has_returns(part) else csv.QUOTE_MINIMAL,
        )
        rows += len(part)
    return rows


def read_frame(path: Pathlike, *, call: str, decimal: str = ".") -> pd.DataFrame:
    """Read a CSV, TSV, Parquet or Excel file (first sheet) by its suffix.

    Text is UTF-8 with one header line. The separator is a tab in ``.tsv``; in other text
    files the first of comma, semicolon, tab and bar that splits the header and the first row
    into the same number of cells, or else the comma.
    Column names are unchanged; a column without one is called ``Unnamed: 0``.
    """
    source, suffix = Path(path), ending_of(path)
    if suffix not in TABLE_SUFFIXES + WORKBOOK_SUFFIXES:
        expected = f"a file whose name ends in {ENDINGS}, {WORKBOOK_SUFFIXES[0]}"
        advice = "Convert the file", "pass a {DataFrame}"
        raise FileFormatError(call, expected, repr(str(path)), *advice, DataFrame=None)
    with readable(path, call):
        if suffix in TEXT_SUFFIXES:
            return _read_text(source, call, decimal)
        read = _read_parquet if suffix in PARQUET_SUFFIXES else _read_workbook
        return read(source, call)


@contextlib.contextmanager
def readable(path: Pathlike, call: str) -> Iterator[None]:
    """Refuse an empty file; raise errors of reading in the block as those of `call`."""
    try:
        if not Path(path).stat().st_size:
            got = f"the empty file {str(path)!r}"
            raise FileFormatError(call, "a file with content", got, "Replace it")
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        got = f"no file at {str(path)!r}"
        raise MissingFileError(call, "a file", got, "Check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, KanlensError):
            raise
        why = "a truncated one" if isinstance(error, EOFError) else reason(error)
        got = f"{why} at {str(path)!r}"
        raise FileFormatError(call, "a readable file", got, "Check the file") from error


def line_number(path: Pathlike, row: int) -> int | None:
    """Return the last line (from 1) of a data row (from 0) of a text table.

    None for other files. Blank lines are not counted as rows; quoted cells may span lines.
    """
    if ending_of(path) not in TEXT_SUFFIXES:
        return None
    source = Path(path)
    try:
        records = _records(source, _header(source)[1])
        return next((line for number, (line, _) in enumerate(records, -1) if number == row), None)
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError):
        return None


def _has_returns(frame: pd.DataFrame) -> bool:
    """Return whether a frame has carriage returns, which need quotes."""
    texts = [frame.iloc[:, i] for i, kind in enumerate(frame.dtypes) if kind.kind not in "biufMm"]
    cells = (column.astype(str).str.contains("\r", regex=False).any() for column in texts)
    return any("\r" in str(name) for name in frame.columns) or any(cells)


def _read_parquet(path: Path, call: str) -> pd.DataFrame:
    content = io.BytesIO(path.read_bytes())  # a path would let its folders become columns
    try:
        return pd.read_parquet(content, engine="pyarrow")
    except (pa.lib.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
        got = f"{reason(error)} in {path.name!r}"
        advice = "The file is truncated or not a Parquet file; write it again"
        raise FileFormatError(call, "a Parquet file", got, advice) from error


def _read_workbook(path: Path, call: str) -> pd.DataFrame:
    """Read the first sheet; cells with formulas have the values saved with them."""
    try:
        frame = pd.read_excel(path, engine="openpyxl")
    except (ValueError, TypeError, KeyError, LookupError, zipfile.BadZipFile) as error:
        got = f"{reason(error)} in {path.name!r}"
        advice = "The file is truncated or not an .xlsx file; save it again"
        raise FileFormatError(call, "a workbook", got, advice) from error
    _refuse_repeats([str(name) for name in frame.columns], path, call)
    return frame


def _read_text(path: Path, call: str, decimal: str) -> pd.DataFrame:
    with _worded(path, call) as (names, separator):
        frame: pd.DataFrame = _parse(path, names, separator, decimal=decimal)
        if len(frame) and len(names) > 1 and frame.iloc[:, -1].isna().any():
            _refuse_uneven(path, separator, len(names), call)
    return frame


def text_columns(path: Pathlike, *, call: str) -> list[str]:
    """Return the names of the columns of a text table."""
    with readable(path, call), _worded(Path(path), call) as (names, _):
        return names


def read_text_in_parts(
    path: Pathlike, rows: int, *, call: str, decimal: str = ".", dtype: dict[str, str] | None = None
) -> Iterator[pd.DataFrame]:
    """Yield a text table in frames of at most `rows` rows, as `read_frame` reads it.

    Column types are inferred for each part, unless `dtype` sets them.
    """
    with readable(path, call), _worded(Path(path), call) as (names, separator):
        checked = len(names) < 2
        options: dict[str, Any] = {"chunksize": rows, "decimal": decimal, "dtype": dtype}
        with _parse(Path(path), names, separator, **options) as parts:
            for part in parts:
                if not checked and part.iloc[:, -1].isna().any():
                    _refuse_uneven(Path(path), separator, len(names), call)
                    checked = True
                yield part


@contextlib.contextmanager
def _worded(path: Path, call: str) -> Iterator[tuple[list[str], str]]:
    """Yield column names and separator; reword errors of parsing in the block."""
    names, separator = list[str](), ","
    try:
        names, separator = _header(path)
        _refuse_repeats(names, path, call)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield names, separator
    except UnicodeDecodeError as error:
        got = f"invalid bytes in line {_undecodable_line(path)} of {path.name!r}"
        raise FileFormatError(call, "UTF-8 text", got, "Save it as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        if names:
            _refuse_uneven(path, separator, len(names), call)
        got = f"{reason(error)} in {path.name!r}"
        advice = "The file may be truncated; write it again"
        raise FileFormatError(call, "a table in text form", got, advice) from error


def _parse(path: Path, names: list[str], separator: str, **options: Any) -> Any:
    if tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1):
        options["float_precision"] = "round_trip"  # the default of later versions
    return pd.read_csv(
        path,
        sep=separator,
        names=names,
        header=0,
        index_col=False,
        low_memory=False,
        encoding="utf-8-sig",
        compression="gzip" if path.suffix.lower() == ".gz" else None,
        **options,
    )


def _open(path: Path, mode: str, **options: str) -> Any:
    opener: Callable[..., Any] = gzip.open if path.suffix.lower() == ".gz" else Path.open
    return opener(path, mode, **options)


def _header(path: Path) -> tuple[list[str], str]:
    """Return the column names and the separator of a text table."""
    separators = "\t" if ending_of(path).startswith(".tsv") else ",;\t|"
    separator = next((sign for sign in separators if _splits(path, sign)), separators[0])
    cells = next((cells for _, cells in _records(path, separator)), [])
    return [cell if cell.strip() else f"Unnamed: {i}" for i, cell in enumerate(cells)], separator


def _splits(path: Path, separator: str) -> bool:
    """Return whether a separator splits header and first row into equally many cells."""
    with contextlib.suppress(csv.Error):
        widths = [len(cells) for _, cells in itertools.islice(_records(path, separator), 2)]
        return bool(widths) and widths[0] > 1 and widths[0] == widths[-1]
    return False


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each nonblank row, header included: the number of its last line, and its cells."""
    with _open(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        for cells in reader:
            blank = not cells or (len(cells) == 1 and cells[0] and not cells[0].strip())
            if not blank:
                yield reader.line_num, cells


def _refuse_repeats(names: list[str], path: Path, call: str) -> None:
    if not names:
        raise FileFormatError(call, "a table", f"the empty file {path.name!r}", "Add rows")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        got = f"{twice!r} {names.count(twice)} times in {path.name!r}"
        raise DataError(call, "distinct column names", got, "Rename or drop one")


def _refuse_uneven(path: Path, separator: str, width: int, call: str) -> None:
    """Refuse the first line with more or fewer cells than the header."""
    with contextlib.suppress(csv.Error):
        uneven = (item for item in _records(path, separator) if len(item[1]) != width)
        for line, cells in uneven:
            got = f"{len(cells)} in line {line} of {path.name!r}"
            advice = "Correct that line; if it is the last one, the file is truncated"
            raise FileFormatError(call, f"{width} cells in every line", got, advice)


def _undecodable_line(path: Path) -> int:
    with _open(path, "rb") as file:
        lines = ((line, line.decode(errors="ignore").encode()) for line in file)
        return next(number for number, (line, valid) in enumerate(lines, 1) if line != valid)
