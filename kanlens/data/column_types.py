"""What the columns of a table are: numeric, binary or categorical features, or classes.

A column that cannot be one of these is refused here, with the cell or the reason.
"""

from __future__ import annotations

import numbers
import re
from collections import Counter
from typing import Literal

import numpy as np

from kanlens.checks import message
from kanlens.data.cell_parsing import LEAVE_OUT, NUMBER_LIKE, Array, Column, listed
from kanlens.data.schema import Feature
from kanlens.errors import DataError

Impute = Literal["median", "mean", "most_frequent"]

MOST_CATEGORIES = 100  # a text column with more distinct values is taken for an identifier
TRUTH_VALUES = ("False", "True")
DATE_LIKE = ("datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period")
_CONVERT = f"Convert the column{LEAVE_OUT}"
_CORRECT = f"Correct that cell{LEAVE_OUT}"
_DATE = re.compile(r"\s*\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\s*\d{1,2}[/.]\d{1,2}[/.]\d{2,4}( .*)?")
_COMMA_NUMBER = re.compile(r"\s*[-+]?\d[\d.]*(,\d+)+([eE][-+]?\d+)?\s*")


def column_features(
    column: Column, *, impute: Impute | None = None, unit: str = ""
) -> tuple[Feature, ...]:
    """Find out what a column is, and return the features it becomes.

    One, or for categorical columns one for each category. `impute` is what later replaces missing
    cells; binary and categorical columns always take the most frequent value, the first in order
    among several.
    """
    if not _is_text(column):
        values = column.numbers[np.isfinite(column.numbers)]  # others are refused when encoded
        two = bool(np.isin(values, (0, 1)).all()) and len(np.unique(values)) == 2
        filler = _typical(values, "most_frequent" if two else impute) if impute else None
        kind: Literal["binary", "numeric"] = "binary" if two else "numeric"
        feature = Feature(
            name=column.name, column=column.name, kind=kind, unit=unit, imputation=filler
        )
        return (feature,)
    labels = _labels(column)
    _refuse_identifier(column, labels)
    counts = Counter(column.texts[column.present])
    common = max(labels, key=lambda label: counts[label]) if impute else None
    binary = len(labels) == 2
    return tuple(
        Feature(
            name=column.name if binary else f"{column.name}={label}",
            column=column.name,
            kind="binary" if binary else "categorical",
            category=label,
            categories=labels,
            unit=unit,
            imputation=common,
        )
        for label in (labels[1:] if binary else labels)
    )


def is_classes(column: Column) -> bool:
    """Say whether a target column holds classes rather than quantities.

    It does when it is text, truth values, of pandas' category type, or has two distinct
    values that are whole numbers.
    """
    if _is_text(column):
        return True
    values = np.unique(column.numbers)
    whole = np.isfinite(values).all() and (values == np.round(values)).all()
    return len(values) == 2 and bool(whole)


def class_labels(column: Column, *, asked: bool = False) -> tuple[str, ...]:
    """Return the classes of a target column without missing cells, in order; numbers in theirs.

    There may be any number of them where the user has `asked` for classes.
    """
    _refuse_foreign(column)
    labels = _labels(column)
    found = set(column.texts[column.present])
    if len(found) < 2:  # labels of truth values are two
        got = f"only {listed(sorted(found))} in column {column.name!r}"
        text = message(column.call, "at least two classes", got, "Choose another target")
        raise DataError(text)
    if not asked:
        _refuse_identifier(column, labels)
    return labels


def check_quantities(column: Column) -> None:
    """Refuse a regression target with cells that are no numbers."""
    if column.unreadable.any():
        _refuse_foreign(column)
        advice = "Correct that cell, or use task='classification'"
        raise column.refuse(int(column.unreadable.argmax()), "numbers", advice)


def _is_text(column: Column) -> bool:
    """Say whether the cells are labels, not numbers; refuse what is neither."""
    if not column.present.any():
        raise column.refuse(None, "values", f"Fill it{LEAVE_OUT}")
    _refuse_foreign(column)
    if column.coded or column.inferred in ("categorical", "boolean"):
        return True
    unreadable = column.unreadable
    if not unreadable.any():
        return False
    row = int(unreadable.argmax())
    if 2 * unreadable.sum() <= column.present.sum():
        raise column.refuse(row, "numbers", _CORRECT)
    texts = column.cells[unreadable].astype(str).drop_duplicates()
    if texts.str.fullmatch(_COMMA_NUMBER.pattern).all():
        advice = "Write numbers with a decimal point and without thousands separators"
        raise column.refuse(row, "numbers", advice)
    if texts.str.fullmatch(_DATE.pattern).all():
        raise _dates(column, row)
    return True


def _refuse_foreign(column: Column) -> None:
    """Refuse cells that are neither numbers, texts nor truth values."""
    row = int(column.present.argmax())
    if column.inferred in DATE_LIKE:
        raise _dates(column, row)
    if column.inferred not in ("categorical", *NUMBER_LIKE):
        raise column.refuse(row, "numbers or text", _CONVERT)
    if column.inferred.startswith("mixed"):
        for row in np.flatnonzero(column.present).tolist():
            if not isinstance(column.cells.iloc[row], (str, numbers.Number, np.generic)):
                raise column.refuse(row, "numbers or text", _CONVERT)


def _dates(column: Column, row: int) -> DataError:
    advice = f"Turn dates and times into numbers{LEAVE_OUT}"
    return column.refuse(row, "numbers or text", advice)


def _refuse_identifier(column: Column, labels: tuple[str, ...]) -> None:
    """Refuse text with too many distinct values; categories the user declared may be many."""
    if len(labels) <= 2 or column.coded or column.inferred == "categorical":
        return
    rows = int(column.present.sum())
    advice = f"If it identifies rows, leave it out with drop={column.name!r}"
    if column.target:
        advice = "Choose another target, or use task='classification' if these are classes"
    if len(labels) > MOST_CATEGORIES:
        expected, got = f"at most {MOST_CATEGORIES} distinct texts", str(len(labels))
    elif len(labels) == rows:
        expected, got = "texts that repeat", f"{rows} different ones in {rows} cells"
    else:
        return
    got += f" in column {column.name!r}"
    raise DataError(message(column.call, expected, got, advice))


def _labels(column: Column) -> tuple[str, ...]:
    """Return the distinct texts of the present cells, in order; numbers in theirs."""
    texts = set(column.texts[column.present])
    if texts <= set(TRUTH_VALUES):  # as text too, which files do not tell apart
        return TRUTH_VALUES
    try:
        return tuple(sorted(texts, key=lambda text: (float(text), text)))
    except ValueError:
        return tuple(sorted(texts))


def _typical(values: Array, impute: Impute) -> float:
    """Return the median, mean or smallest most frequent value, 0 of none."""
    if not values.size:
        return 0.0
    if impute == "most_frequent":
        found, counts = np.unique(values, return_counts=True)
        return float(found[counts.argmax()])
    scale = max(1.0, float(np.abs(values).max()) / 1e150)  # sums must not overflow
    average = np.median if impute == "median" else np.mean
    return float(average(values / scale) * scale)
