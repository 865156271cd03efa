"""What cells of tables and arrays mean: missing, a number, a category, and how to name one.

Cells come from pandas columns of any dtype. Training tables and frames given to a trained
model are read by the same functions, so a cell means the same in both.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import DataError, DTypeError

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]
Place = Callable[[int], str]  # words a row number, e.g. "row 3"

# What pandas.api.types.infer_dtype calls columns whose cells can be numbers.
PLAIN_NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal")
NUMBER_LIKE = (*PLAIN_NUMBERS, "string", "mixed", "mixed-integer", "empty")


def label_text(value: object) -> str:
    """Write a cell as the text that stands for its category; 1.0 and 1 are one category."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def cell_text(value: object) -> str:
    """Write a cell for an error message: on one line, and not longer than it need be."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def missing_cells(column: pd.Series) -> Array:
    """Say which cells are missing: NaN, None, NaT, NA and blank text."""
    import pandas as pd

    missing = np.array(column.isna(), dtype=bool)
    if pd.api.types.infer_dtype(column) in ("string", "mixed", "mixed-integer", "categorical"):
        codes, values = _distinct(column)
        blank = [isinstance(value, str) and not value.strip() for value in values]
        missing |= np.array([*blank, True])[codes]
    return missing


def parse_numbers(column: pd.Series) -> Array:
    """Read cells as float64; NaN where a cell is missing or no number.

    Truth values count as 0 and 1. Dates, times and complex values are no numbers.
    """
    import pandas as pd

    if pd.api.types.infer_dtype(column) in ("categorical", "unknown-array"):
        column = column.astype(object)
    if pd.api.types.infer_dtype(column) not in NUMBER_LIKE:
        return np.full(len(column), np.nan)
    try:
        numbers = pd.to_numeric(column, errors="coerce")
    except OverflowError:  # integers beyond any float, which later count as infinite
        numbers = pd.to_numeric(column.map(_within_floats), errors="coerce")
    return np.array(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def _distinct(column: pd.Series) -> tuple[Array, Sequence[object]]:
    """Return the place of every cell among the distinct values, and these; -1 is missing."""
    import pandas as pd

    if column.dtype == object:  # as they are: to a hash table True and 1 would be one value
        return np.arange(len(column)), list(column)
    codes, values = pd.factorize(column)
    return codes, list(values)


def _within_floats(value: object) -> object:
    if not isinstance(value, int) or abs(value) <= sys.float_info.max:
        return value
    return math.copysign(math.inf, value > 0 or -1)


def category_texts(column: pd.Series) -> Array:
    """Write every cell as the text of its category; what missing cells become is undefined."""
    codes, values = _distinct(column)
    texts = np.array([*(label_text(value) for value in values), ""], dtype=object)
    return texts[codes]


def row_text(row: int) -> str:
    """Word a row number, counted from 0."""
    return f"row {row}"


def listed(labels: Sequence[str]) -> str:
    """Quote up to eight labels."""
    return ", ".join(cell_text(label) for label in labels[:8]) + ", ..." * (len(labels) > 8)


def missing_text(
    name: str, missing: Array, call: str, place: Place, *, imputable: bool = True
) -> str:
    """Word the refusal of missing cells (rows,) with their column, count and first row."""
    first = place(int(missing.argmax()))
    got = f"{int(missing.sum())} in column {name!r} (first in {first})"
    advice = "Drop such rows"
    if imputable and call == "read_table":
        advice = "Drop such rows, or pass impute='median'"
    elif imputable:
        advice = "Drop such rows, or train on a table read with impute='median'"
    return message(call, "no missing cells", got, advice)


def read_numbers(
    column: pd.Series,
    name: str,
    *,
    call: str,
    place: Place = row_text,
    imputation: float | str | None = None,
) -> Array:
    """Return cells as finite float64, missing ones replaced by `imputation`; refuse all others."""
    missing, numbers = missing_cells(column), parse_numbers(column)
    unreadable = np.isnan(numbers) & ~missing
    if unreadable.any():
        row = int(unreadable.argmax())
        got = f"{cell_text(column.iloc[row])} in {place(row)}"
        raise DataError(message(call, f"numbers in column {name!r}", got, "Correct that cell"))
    if missing.any():
        if imputation is None:
            raise DataError(missing_text(name, missing, call, place))
        numbers[missing] = float(imputation)
    if np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        got = f"{numbers[row]} in {place(row)}"
        expected = f"finite numbers in column {name!r}"
        raise DataError(message(call, expected, got, "Correct that cell"))
    return numbers


def read_labels(
    column: pd.Series,
    labels: Sequence[str],
    *,
    call: str,
    place: Place = row_text,
    expected: str,
    advice: str,
) -> Array:
    """Return the text of every cell, each one of the known labels; refuse any other.

    Where the labels are False and True, 0 and 1 are read as these. `expected` and `advice` are for
    the message.
    """
    texts = category_texts(column)
    if set(labels) == {"False", "True"}:
        coded = {"0": "False", "1": "True"}
        texts = np.array([coded.get(text, text) for text in texts], dtype=object)
    known = set(labels)
    for row, text in enumerate(texts):
        if text not in known:
            got = f"{cell_text(text)} in {place(row)}"
            raise DataError(message(call, expected, got, advice))
    return texts


def check_dense(x: object, call: str, name: str = "x") -> None:
    """Refuse sparse tensors and arrays."""
    if (x.layout != torch.strided) if isinstance(x, Tensor) else hasattr(x, "todense"):
        got, advice = f"a sparse {type(x).__name__}", f"Pass {name}.to_dense(), or {name}.toarray()"
        raise DTypeError(message(call, f"{name} to be dense", got, advice))


def unmasked(x: Any) -> Any:
    """Return an array with NaN where it is masked; anything else as it is."""
    if not isinstance(x, np.ma.MaskedArray):
        return x
    return cast("Any", x).astype(np.float64).filled(np.nan)


def as_tensor(x: object, call: str) -> Tensor:
    """Return a Tensor as it is, and anything that NumPy reads as numbers in float64."""
    complex_ = x.is_complex() if isinstance(x, Tensor) else np.iscomplexobj(cast("Any", x))
    if complex_:
        raise DTypeError(message(call, "x to be real", "complex numbers", "Pass x.real or abs(x)"))
    check_dense(x, call)
    if isinstance(x, Tensor):
        return x
    try:
        return torch.from_numpy(np.array(unmasked(x), dtype=np.float64, order="C"))
    except (TypeError, ValueError) as error:
        expected = "x to be a Tensor, an ndarray or a DataFrame of numbers"
        got = f"{type(x).__name__} ({error})"
        raise DTypeError(message(call, expected, got, "Convert it first")) from error
