"""What single cells of a table mean: missing, a number, a category, and how to name one.

Cells come from pandas columns of any dtype. Training tables and frames given to a trained
model are read by the same functions, so a cell means the same in both.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kanlens.checks import message
from kanlens.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]
Place = Callable[[int], str]  # words a row number, e.g. "row 3"

# What pandas.api.types.infer_dtype calls columns whose cells can be numbers.
PLAIN_NUMBERS = ("boolean", "integer", "floating", "mixed-integer-float", "decimal")
NUMBER_LIKE = (*PLAIN_NUMBERS, "string", "mixed", "mixed-integer", "empty")


def label_text(value: object) -> str:
    """Write a cell as the text that stands for its category; 1.0 and 1 are one category.

    Examples
    --------
    >>> label_text(1.0), label_text(True), label_text("a")
    ('1', 'True', 'a')
    """
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def cell_text(value: object) -> str:
    """Write a cell for an error message: on one line, and not longer than it need be.

    Examples
    --------
    >>> cell_text("x" * 99)[-6:]
    'xxx...'
    """
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def missing_cells(column: pd.Series) -> Array:
    """Say which cells are missing: NaN, None, NaT, NA and blank text.

    Examples
    --------
    >>> import pandas as pd
    >>> missing_cells(pd.Series(["a", " ", None])).tolist()
    [False, True, True]
    """
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

    Examples
    --------
    >>> import pandas as pd
    >>> parse_numbers(pd.Series(["1e3", "x", True]))
    array([1000.,   nan,    1.])
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
    """Write every cell as the text of its category; what missing cells become is undefined.

    Examples
    --------
    >>> import pandas as pd
    >>> category_texts(pd.Series([2.0, 1.5])).tolist()
    ['2', '1.5']
    """
    codes, values = _distinct(column)
    texts = np.array([*(label_text(value) for value in values), ""], dtype=object)
    return texts[codes]


def row_text(row: int) -> str:
    """Word a row number, counted from 0.

    Examples
    --------
    >>> row_text(3)
    'row 3'
    """
    return f"row {row}"


def listed(labels: Sequence[str]) -> str:
    """Quote up to eight labels.

    Examples
    --------
    >>> listed(["a", "b"])
    "'a', 'b'"
    """
    return ", ".join(cell_text(label) for label in labels[:8]) + ", ..." * (len(labels) > 8)


def missing_text(
    name: str, missing: Array, call: str, place: Place, *, imputable: bool = True
) -> str:
    """Word the refusal of missing cells with their column, count and first row.

    Parameters
    ----------
    name : str
        The column.
    missing : ndarray, shape (rows,)
        True where a cell is missing; at least one is.
    call : str
        The public call, for the message.
    place : callable
        Words a row number.
    imputable : bool
        Whether the advice names imputation.

    Returns
    -------
    str

    Examples
    --------
    >>> missing_text("a", np.array([False, True]), "fit", row_text, imputable=False)
    "fit: expected no missing cells, got 1 in column 'a' (first in row 1). Drop such rows."
    """
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
    """Return cells as finite float64.

    Parameters
    ----------
    column : Series, shape (rows,)
        Cells of any dtype.
    name : str
        The column, for messages.
    call : str
        The public call, for messages.
    place : callable
        Words a row number.
    imputation : float, optional
        What replaces missing cells; without it they are refused.

    Returns
    -------
    ndarray, shape (rows,)

    Raises
    ------
    DataError
        For a missing, unreadable or infinite cell; says which row.

    Examples
    --------
    >>> import pandas as pd
    >>> read_numbers(pd.Series(["1", None]), "a", call="fit", imputation=0.5)
    array([1. , 0.5])
    """
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
    """Return the text of every cell, each one of the known labels.

    Where the labels are False and True, 0 and 1 are read as these.

    Parameters
    ----------
    column : Series, shape (rows,)
        Cells of any dtype, none missing.
    labels : sequence of str
        The texts a cell may have.
    call : str
        The public call, for messages.
    place : callable
        Words a row number.
    expected, advice : str
        For the message about an unknown label: what the cells should be, what to do.

    Returns
    -------
    ndarray of str objects, shape (rows,)

    Raises
    ------
    DataError
        For a cell that is none of the labels; says which row.
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
