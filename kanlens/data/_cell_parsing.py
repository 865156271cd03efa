"""Parsing of cells: numbers, dates and categories, with errors that name the cell."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._lazy import pd
from kanlens.errors import DataError, DTypeError, Message, in_python

Array = np.ndarray[Any, np.dtype[Any]]
Place = Callable[[int], str]  # from a row number to its name, e.g. "row 3"

M = TypeVar("M", bound=Message)

# What pandas.api.types.infer_dtype calls columns whose cells can be numbers.
PLAIN_NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal")
READERS = ("read_table", "scan_table")  # calls with arguments for cells and columns
LEAVE_OUT = "leave it out with {drop}"  # advice where a column is no target
NUMBER_LIKE = (*PLAIN_NUMBERS, "string", "mixed", "mixed-integer", "empty")
DATE_LIKE = ("datetime64", "datetime", "date", "period")
SYMBOLS = "$€£¥%"  # around numbers; the unit where all cells of a column have the same
_SYMBOL = re.compile(rf"[{SYMBOLS}\s]")
_CODES = "AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HUF|INR|JPY|KRW|NOK|NZD|PLN|SEK|TRY|USD|ZAR"
_UNIT = re.compile(  # around a number, roughly: a sign, a currency or letters as of km/h and m3
    rf"^\s*[-+\u2212]?\s*([{SYMBOLS[:-1]}]|{_CODES})?\s*[-+\u2212]?\s*"
    r"[.,]?\d[\d.,'\u2019\s]*(?:[eE][-+\u2212]?\d+)?"
    rf"\s*([{SYMBOLS}]|(?:[^\W\d_]|°)(?:[^\W\d_]|[°/·*^²³]){{0,11}}[23]?)?\s*$"
)


def _written(decimal: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return regular expressions for a number and for its thousands separators."""
    groups = rf"[{',' if decimal == '.' else '.'}'\u2019\u00a0\u202f ]"
    whole = rf"(?:[1-9]\d{{0,2}}(?P<group>{groups})\d{{3}}(?:(?P=group)\d{{3}})*|\d+)"
    sign = rf"\s*[-+\u2212]?\s*[{SYMBOLS[:-1]}]?\s*[-+\u2212]?\s*"
    fraction = rf"(?:\{decimal}\d*)?(?:[eE][-+\u2212]?\d+)?\s*[{SYMBOLS}]?\s*"
    return re.compile(sign + rf"(?:{whole}|(?=\{decimal}\d))" + fraction), re.compile(groups)


_WRITTEN = {decimal: _written(decimal) for decimal in ".,"}
_EPOCH = np.datetime64("1970-01-01")
DATE_PARTS: dict[str, Callable[[Any], Any]] = {  # of a column of times
    "year": lambda times: times.dt.year,
    "month": lambda times: times.dt.month,
    "weekday": lambda times: times.dt.day_of_week,
    "hour": lambda times: times.dt.hour + times.dt.minute / 60,
    "days": lambda times: (times - _EPOCH) / np.timedelta64(1, "D"),
}


@dataclass(frozen=True, kw_only=True)
class CellFormat:
    """The decimal sign of a table, and its texts for missing cells."""

    decimal: str = "."
    missing: tuple[str, ...] = ()


PLAIN = CellFormat()


def label_text(value: object) -> str:
    """Return the text of a category; 1.0, 1 and " 1" are one category."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def cell_text(value: object) -> str:
    """Return a cell as text for an error message, of at most 60 characters."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def missing_cells(column: pd.Series, texts: Sequence[str] = ()) -> Array:
    """Return the mask of missing cells: NaN, None, NaT, NA, blanks, `texts`."""
    missing = np.array(column.isna(), dtype=bool)
    text = ("string", "mixed", "mixed-integer", "categorical")
    if texts or pd.api.types.infer_dtype(column) in text:
        codes, values = _distinct(column)
        blank = [label_text(value) in ("", *texts) for value in values]
        missing |= np.array([*blank, True])[codes]
    return missing


def parse_numbers(column: pd.Series, decimal: str = ".") -> Array:
    """Return cells as float64; NaN where a cell is missing or not a number.

    Truth values are 0 and 1. Texts may have thousands separators and a currency or percent sign, or
    the letters of one unit. Dates, times and complex values are not numbers.
    """
    if pd.api.types.infer_dtype(column) in ("categorical", "unknown-array"):
        column = column.astype(object)
    kind = pd.api.types.infer_dtype(column)
    if kind not in NUMBER_LIKE:
        return np.full(len(column), np.nan)
    if kind == "string":
        column = _without_letters(column)
    if decimal != "." and column.dtype.kind not in "biuf":
        column = column.map(lambda cell: _plain(cell, decimal))
    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except OverflowError:  # integers beyond float64 count as infinite
        numbers = pd.to_numeric(column.map(_within_floats), errors="coerce")
    values = np.array(numbers.to_numpy(dtype=np.float64, na_value=np.nan))
    unread = np.isnan(values) & np.array(column.notna(), dtype=bool)
    if unread.any():
        codes, texts = pd.factorize(column[unread].astype(str))
        plain = pd.Series([_plain(text, ".") for text in texts], dtype=object)
        values[unread] = pd.to_numeric(plain, errors="coerce").to_numpy(np.float64)[codes]
    return values


def _without_letters(column: pd.Series) -> pd.Series:
    """Return texts without their unit, if most have one and there is no other."""
    codes, texts = pd.factorize(column)
    units = units_of(pd.Series(texts, dtype=object))
    names = set(units) - {"", *SYMBOLS}
    if len(names) != 1 or 2 * int((units != "").sum()) <= len(units):
        return column
    plain = [text.replace(*names, "", 1) for text in texts]
    return pd.Series(np.array([*plain, None], dtype=object)[codes], index=column.index)


def units_of(texts: pd.Series) -> pd.Series:
    """Return the units next to the numbers in texts; "" if a number has no unit."""
    before, after = texts.str.extract(_UNIT).to_numpy(dtype=object, na_value="").T
    return pd.Series(np.where(before != "", before, after), index=texts.index, dtype=object)


def is_number(text: str, decimal: str) -> bool:
    """Return whether a text is a number with this decimal sign."""
    return _WRITTEN[decimal][0].fullmatch(text) is not None


def _plain(cell: object, decimal: str) -> Any:
    """Return a number as text without separators, or None for other text."""
    if not isinstance(cell, str):
        return cell
    written, groups = _WRITTEN[decimal]
    if not written.fullmatch(cell):
        return None
    return groups.sub("", _SYMBOL.sub("", cell)).replace(decimal, ".").replace("\u2212", "-")


def parse_dates(column: pd.Series, day_first: bool) -> pd.Series:
    """Return cells as times in UTC without a zone; NaT where not a date."""
    kind = pd.api.types.infer_dtype(column)
    if kind == "period":
        column = pd.Series(pd.PeriodIndex(column).to_timestamp(), index=column.index)
    elif kind not in (*DATE_LIKE, "string", "mixed"):
        return pd.Series(np.full(len(column), np.datetime64("NaT", "ns")), index=column.index)
    options: dict[str, Any] = {"errors": "coerce", "utc": True, "format": "mixed"}
    times = pd.to_datetime(column, **options)
    if day_first and kind not in DATE_LIKE:
        year_first = column.astype(str).str.match(r"\s*\d{4}")
        times = times.where(year_first, pd.to_datetime(column, dayfirst=True, **options))
    return times.dt.tz_localize(None)


def _distinct(column: pd.Series) -> tuple[Array, Sequence[object]]:
    """Return codes of the cells (-1: missing), and the distinct values."""
    if column.dtype == object:  # all cells: to a hash table True and 1 would be one value
        return np.arange(len(column)), list(column)
    codes, values = pd.factorize(column)
    return codes, list(values)


def _within_floats(cell: object) -> object:
    if not isinstance(cell, int) or abs(cell) <= sys.float_info.max:
        return cell
    return math.inf if cell > 0 else -math.inf


def row_text(row: int) -> str:
    """Return the name of a row, counted from 0."""
    return f"row {row}"


def listed(labels: Sequence[str]) -> str:
    """Return up to eight labels in quotes, as a list."""
    return ", ".join(cell_text(label) for label in labels[:8]) + ", ..." * (len(labels) > 8)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table, with the wording of errors about it."""

    name: str
    cells: pd.Series
    call: str
    place: Place = row_text
    coded: bool = False  # whether its numbers are codes of categories
    target: bool = False  # whether a model predicts it; it cannot be left out
    counts: Array | None = None  # (rows,): number of cells that each one stands for
    format: CellFormat = PLAIN
    day_first: bool = False  # whether texts of dates begin with the day

    def total(self, mask: Array) -> int:
        """Return the number of cells in a mask (rows,), each counted as often as `counts` says."""
        return int(mask.sum() if self.counts is None else self.counts[mask].sum())

    @cached_property
    def inferred(self) -> str:
        """The type that pandas infers: "string", "boolean", "floating", ..."""
        kind = str(pd.api.types.infer_dtype(self.cells))
        dictionary = kind == "unknown-array"  # of Arrow
        return str(pd.api.types.infer_dtype(self.cells.astype(object))) if dictionary else kind

    @cached_property
    def present(self) -> Array:
        """Mask of the cells that are not missing, shape (rows,)."""
        return ~missing_cells(self.cells, self.format.missing)

    @cached_property
    def numbers(self) -> Array:
        """The cells as numbers, shape (rows,); NaN where not a number."""
        numbers = parse_numbers(self.cells, self.format.decimal)
        return np.where(self.present, numbers, np.nan) if self.format.missing else numbers

    @cached_property
    def unit(self) -> str:
        """The unit next to the numbers of all cells, or ""; raises if some have another one."""
        if self.inferred not in ("string", "mixed", "mixed-integer"):
            return ""
        units = units_of(self.cells[self.present].astype(str)).to_numpy()
        unit = "%" if "%" in units else next(filter(None, units), "")
        mixed = (units != "") & (units != unit)
        if unit and unit not in SYMBOLS[:-1]:
            mixed |= (units == "") & (self.numbers[self.present] != 0)
        if mixed.any():
            row = int(np.flatnonzero(self.present)[mixed.argmax()])
            advice = "Write the same sign in all cells or in none"
            raise self.refuse(row, f"numbers in {unit} as in the other cells", advice)
        return unit if (units == unit).all() else ""

    @cached_property
    def dates(self) -> pd.Series:
        """The cells as times, shape (rows,); NaT where not a date."""
        return parse_dates(self.cells, self.day_first)

    @property
    def unreadable(self) -> Array:
        """Mask of the cells that are neither missing nor numbers, shape (rows,)."""
        return np.isnan(self.numbers) & self.present

    @cached_property
    def texts(self) -> Array:
        """The text of each cell's category, shape (rows,)."""
        codes, values = _distinct(self.cells)
        texts = np.array([*(label_text(value) for value in values), ""], dtype=object)
        return texts[codes]

    def refuse(self, row: int | None, expected: str, *advice: str, **settings: Any) -> DataError:
        """Return an error about the cell in a row, or about the column."""
        got = f"column {self.name!r}"
        if row is not None:
            got = f"{cell_text(self.cells.iloc[row])} in {self.place(row)} of {got}"
        if self.target:
            advice = tuple(part for part in advice if part != LEAVE_OUT)
        return self.worded(DataError(self.call, expected, got, *advice, drop=self.name, **settings))

    def worded(self, message: M) -> M:
        """Return a message whose advice names only arguments that its call has."""
        if self.call == "fit":
            message.write = lambda name, value: f"read_table(..., {in_python(name, value)})"
        elif self.call not in READERS:
            message.write = lambda name, value: None
        return message

    def refuse_missing(self) -> None:
        """Refuse missing cells."""
        missing = ~self.present
        if not missing.any():
            return
        first = self.place(int(missing.argmax()))
        got = f"{self.total(missing)} in column {self.name!r} (first in {first})"
        advice = "pass {impute}" if self.call in READERS else "train on a table read with {impute}"
        parts = ["Drop such rows", advice][: 1 if self.target else 2]
        raise DataError(self.call, "no missing cells", got, *parts, impute="median")

    def read(self, filler: float | None = None, part: str = "") -> Array:
        """Return cells, or a part of dates, as finite numbers; fill or refuse missing ones."""
        wrong = np.array(self.dates.isna()) & self.present if part else self.unreadable
        self._refuse_first(wrong, "dates" if part else "numbers", self.cells)
        if filler is None:
            self.refuse_missing()
        values = self.numbers
        if part:
            values = DATE_PARTS[part](self.dates).to_numpy(np.float64, na_value=np.nan)
        numbers = np.where(self.present, values, filler or 0.0)
        self._refuse_first(np.isinf(numbers), "finite numbers", numbers)
        return numbers

    def _refuse_first(self, wrong: Array, kind: str, values: pd.Series | Array) -> None:
        """Raise an error about the first value in the mask `wrong` (rows,)."""
        if wrong.any():
            row = int(wrong.argmax())
            got = f"{cell_text(np.asarray(values, dtype=object)[row])} in {self.place(row)}"
            raise DataError(self.call, f"{kind} in column {self.name!r}", got, "Correct that cell")

    def labels(self, known: Sequence[str]) -> Array:
        """Return the label of each cell: one of `known`, in any case, else the cell's text."""
        folded = [label.strip().casefold() for label in known]
        names = {key: known[i] for i, key in enumerate(folded) if folded.count(key) == 1}
        names |= {"0": "False", "1": "True"} if set(known) == {"False", "True"} else {}
        codes, texts = pd.factorize(self.texts)
        read = [text if text in known else names.get(text.casefold(), text) for text in texts]
        return np.array([*read, ""], dtype=object)[codes]

    def read_labels(self, known: Sequence[str]) -> Array:
        """Return the known labels of cells; refuse cells with another text."""
        self.refuse_missing()
        texts, labels = self.labels(known), set(known)
        for row, text in enumerate(texts):
            if text not in labels:
                expected = f"only {listed(known)} in target {self.name!r}"
                got = f"{cell_text(text)} in {self.place(row)}"
                raise DataError(self.call, expected, got, "Correct it, or train with that class")
        return texts


def check_dense(x: object, call: str, name: str = "x") -> None:
    """Refuse sparse arrays, and tensors on the meta device."""
    if isinstance(x, Tensor) and x.is_meta:
        got, advice = "a tensor on the meta device", f"Pass {name} with its values"
        raise DTypeError(call, f"{name} to have values", got, advice)
    if (x.layout != torch.strided) if isinstance(x, Tensor) else hasattr(x, "todense"):
        got, advice = f"a sparse {type(x).__name__}", f"Pass {name}.to_dense(), or {name}.toarray()"
        raise DTypeError(call, f"{name} to be dense", got, advice)


def unmasked(x: object) -> Any:
    """Return an array with NaN where it is masked; anything else unchanged."""
    if not isinstance(x, np.ma.MaskedArray):
        return x
    return cast("Any", x).astype(np.float64).filled(np.nan)


def as_tensor(x: object, call: str) -> Tensor:
    """Return a Tensor unchanged, and other numbers in float64."""
    if x.is_complex() if isinstance(x, Tensor) else np.iscomplexobj(cast("Any", x)):
        raise DTypeError(call, "x to be real", "complex numbers", "Pass x.real or abs(x)")
    check_dense(x, call)
    if isinstance(x, Tensor):
        return x
    try:
        return torch.from_numpy(np.array(unmasked(x), dtype=np.float64, order="C"))
    except (TypeError, ValueError, OverflowError) as error:
        expected = "x to be a Tensor, an ndarray or a DataFrame of numbers"
        got = f"{type(x).__name__} ({error})"
        raise DTypeError(call, expected, got, "Convert it first") from error
