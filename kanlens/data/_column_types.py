"""The type of a column: numbers, categories, dates, or classes."""

from __future__ import annotations

import dataclasses
import numbers
import re
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from kanlens._lazy import pd
from kanlens.data._cell_parsing import (
    DATE_LIKE,
    DATE_PARTS,
    LEAVE_OUT,
    NUMBER_LIKE,
    Array,
    Column,
    is_number,
    listed,
    parse_numbers,
    units_of,
)
from kanlens.data._schema import Feature
from kanlens.errors import DataError, KanlensWarning

Impute = Literal["median", "mean", "most_frequent"]

IMPUTATIONS = ("mean", "median", "most_frequent")
MAX_UNITS = 3  # a column with more units is text, not numbers
MAX_CATEGORIES = 100  # a text column with more distinct values is taken for an identifier
TRUTH_VALUES = ("False", "True")
EXACT = 2**53  # float64 holds every whole number up to here
_CONVERT = "Convert the column", LEAVE_OUT
USUAL = 2  # least ratio of cells with the usual spelling to cells with any other
_TIMES = "Turn dates and times into numbers"
_DATE = re.compile(
    r"\s*(\d{4}-\d{1,2}(-\d{1,2})?([T ].*)?|\d{4}/\d{1,2}/\d{1,2}( .*)?"
    r"|(?P<first>\d{1,2})[/.-](?P<second>\d{1,2})[/.-]\d{2,4}( .*)?"
    r"|\d{1,2}[ -][A-Za-z]{3,9}\.?[ ,-]+\d{2,4}|[A-Za-z]{3,9}\.? (\d{1,2},? )?\d{4})\s*"
)
_IDENTIFIER = re.compile(
    r"(?i:id|idx|index|uuid|guid|key|row|nr|no|number|#|row[_ ]?(id|number|no|nr))"
    r"|.*([_ ]id|[_ ]?ID|Id)"
)
UNNAMED = re.compile(r"Unnamed: \d+")  # what pandas calls columns without a name


def column_features(
    column: Column, *, impute: Impute | None = None, unit: str = ""
) -> tuple[Feature, ...]:
    """Return the features of a column, by its type.

    There is one, or one for each category or each part of a date that varies. Without a statistic
    to `impute`, one more feature is 1 where a cell is missing.
    """
    kind = _column_type(column)
    if kind == "text":
        features = _categories(column, impute, unit)
    else:
        features = _dates(column, impute) if kind == "date" else (_number(column, impute, unit),)
    if impute or column.present.all():
        return features
    mark = "(missing)" if "missing" in features[0].categories else "missing"
    name, labels = f"{column.name}={mark}", features[0].categories
    return (*features, Feature(name=name, column=column.name, kind="missing", categories=labels))


def _number(column: Column, impute: Impute | None, unit: str) -> Feature:
    """Return the feature of a column of numbers."""
    usable = column.present & np.isfinite(column.numbers)  # others are refused when encoded
    values = column.numbers[usable]
    if column.inferred not in ("floating", "boolean") and (np.abs(values) > EXACT).any():
        got = f"{values[np.abs(values).argmax()]:.0f} in column {column.name!r}"
        advice = "They are rounded; if they identify rows, leave the column out"
        expected = "whole numbers up to 2**53"
        warnings.warn(KanlensWarning(column.call, expected, got, advice), stacklevel=5)
    two = bool(np.isin(values, (0, 1)).all()) and len(np.unique(values)) == 2
    filler = _typical(values, "most_frequent" if two else (impute or "median"))
    about: dict[str, Any] = {"imputation" if impute else "typical": filler}
    about |= {"kind": "binary" if two else "numeric", "unit": unit or column.unit}
    return Feature(name=column.name, column=column.name, **about)


def _categories(column: Column, impute: Impute | None, unit: str) -> tuple[Feature, ...]:
    """Return the features of a column of text: one per category, but one for two categories."""
    labels = _labels(column)
    if reason := _identifies(column, labels):
        raise _identifier_error(column, reason)
    _warn_of_spellings(column, labels)
    common, texts = None, column.labels(labels)
    if impute:
        common = max(labels, key=lambda text: column.total(column.present & (texts == text)))
    about: dict[str, Any] = {"categories": labels, "unit": unit, "imputation": common}
    if len(labels) == 2:
        about |= {"kind": "binary", "category": labels[1]}
        return (Feature(name=column.name, column=column.name, **about),)
    about |= {"kind": "categorical", "column": column.name}
    return tuple(Feature(name=f"{column.name}={t}", category=t, **about) for t in labels)


def _dates(column: Column, impute: Impute | None) -> tuple[Feature, ...]:
    """Return the features of a column of dates: the days, and the parts that vary."""
    column = dataclasses.replace(column, day_first=_day_first(column))
    dates = column.dates[column.present].sort_values()
    middle = dates.iloc[[len(dates) // 2]]
    parts = [part for part in DATE_PARTS if part == "days" or DATE_PARTS[part](dates).nunique() > 1]
    features = []
    for part in parts:
        filler = float(DATE_PARTS[part](middle).iloc[0])
        about: dict[str, Any] = {"imputation" if impute else "typical": filler, "kind": "date"}
        about |= {"unit": {"days": "d", "hour": "h"}.get(part, ""), "day_first": column.day_first}
        name = f"{column.name}.{part}"
        features.append(Feature(name=name, column=column.name, part=part, **about))
    return tuple(features)


def _day_first(column: Column) -> bool:
    """Return whether texts like 3/4/2021 begin with the day; warn if both are possible."""
    if column.inferred not in ("string", "mixed"):
        return False
    texts = column.cells[column.present].astype(str)
    numbers = texts.str.extract(_DATE)[["first", "second"]].astype(float)
    day, month = (numbers > 12).any()
    points = bool(texts.str.match(r"\s*\d{1,2}\.").any())
    expected = "dates with one order of day and month"
    if day and month:
        row = int(np.flatnonzero(column.present)[(numbers["second"] > 12).to_numpy().argmax()])
        raise column.refuse(row, expected, "Write them as 2021-04-03")
    if not (day or month or points) and numbers["first"].notna().any():
        got = f"ambiguous ones in column {column.name!r}, read with the month first"
        warning = KanlensWarning(column.call, expected, got, "Write them as 2021-04-03")
        warnings.warn(warning, stacklevel=6)
    return bool(day or (points and not month))


def is_classes(column: Column) -> bool:
    """Return whether a target is classes: text, or two distinct whole numbers."""
    kind = _column_type(column)
    if kind == "date":
        raise column.refuse(int(column.present.argmax()), "numbers or text", _TIMES)
    if kind == "text":
        return True
    values = np.unique(column.numbers[column.present])
    whole = np.isfinite(values).all() and (values == np.round(values)).all()
    return len(values) == 2 and bool(whole)


def class_labels(column: Column, *, declared: bool = False) -> tuple[str, ...]:
    """Return the sorted classes of a target column."""
    _refuse_foreign(column)
    labels = _labels(column)
    classes = set(column.labels(labels)[column.present])
    if len(classes) < 2:  # truth values have two labels even if one is missing
        got = f"only {listed(sorted(classes))} in column {column.name!r}"
        raise DataError(column.call, "at least two classes", got, "Choose another target")
    reason = _identifies(column, labels)
    if reason and not declared:
        raise _identifier_error(column, reason)
    _warn_of_spellings(column, labels)
    return labels


def check_quantities(column: Column) -> None:
    """Refuse a regression target with cells that are not numbers."""
    if column.unreadable.any():
        _refuse_foreign(column)
        advice, row = ("Correct that cell", "use {task}"), int(column.unreadable.argmax())
        raise column.refuse(row, "numbers", *advice, task="classification")


def _column_type(column: Column) -> Literal["number", "text", "date"]:
    """Return whether cells are numbers, labels or dates; refuse others."""
    if not column.present.any():
        raise column.refuse(None, "values", "Fill it", LEAVE_OUT)
    if column.inferred in DATE_LIKE and not column.coded:
        return "date"
    _refuse_foreign(column)
    if column.coded or column.inferred in ("categorical", "boolean"):
        return "text"
    unreadable = column.unreadable
    if not unreadable.any():
        return "number"
    row = int(unreadable.argmax())
    texts = column.cells[unreadable].astype(str).drop_duplicates()
    if 2 * column.total(unreadable) <= column.total(column.present):
        advice = "Correct that cell", "pass {na} if it marks a missing cell"
        raise column.refuse(row, "numbers", *advice, na=texts.iloc[0])
    if all(is_number(text, ",") for text in texts):
        advice = "Use points for decimals", "pass {decimal}"
        raise column.refuse(row, "numbers", *advice, decimal=",")
    units = set(units_of(texts))
    written = 1 < len(units) <= MAX_UNITS and "" not in units and len(max(units, key=len)) > 1
    if written and 2 * len(texts) > column.total(column.present):  # else categories
        got = f"{listed(sorted(units))} in column {column.name!r}"
        refusal = DataError(column.call, "numbers in one unit", got, *_CONVERT, drop=column.name)
        raise column.worded(refusal)
    if not texts.str.fullmatch(_DATE).all():
        return "text"
    lost = np.array(column.dates.isna()) & column.present
    if lost.any() and 2 * column.total(lost) <= column.total(column.present):
        texts = column.cells[lost].astype(str).drop_duplicates()
        wrong = f"{listed(texts.tolist())} does not exist; correct it"
        advice = wrong, "pass {na} if it marks a missing cell"
        raise column.refuse(int(lost.argmax()), "dates", *advice, na=texts.iloc[0])
    return "text" if lost.any() else "date"


def refuse_second_header(columns: Sequence[Column]) -> None:
    """Refuse a first row of texts above several columns of numbers."""
    if not all(np.isnan(parse_numbers(c.cells.iloc[:1], c.format.decimal)[0]) for c in columns):
        return
    alone = [c for c in columns if c.unreadable[0] and c.total(c.unreadable) == 1 < len(c.cells)]
    if len(alone) > 1:
        got = f"{listed([str(c.cells.iloc[0]) for c in alone])} in {alone[0].place(0)}"
        advice = "If these are units, delete that row"
        raise DataError(alone[0].call, "numbers under the column names", got, advice)


def _refuse_foreign(column: Column) -> None:
    """Refuse cells that are neither numbers, texts nor booleans."""
    row = int(column.present.argmax())
    if column.inferred not in ("categorical", *DATE_LIKE, *NUMBER_LIKE):
        raise column.refuse(row, "numbers or text", *_CONVERT)
    if column.inferred.startswith("mixed"):
        for row in np.flatnonzero(column.present).tolist():
            if not isinstance(column.cells.iloc[row], (str, numbers.Number, np.generic)):
                raise column.refuse(row, "numbers or text", *_CONVERT)


def _identifies(column: Column, labels: Sequence[str]) -> str:
    """Return the reason that text is taken for an identifier of rows, or ""."""
    if len(labels) <= 2 or column.coded or column.inferred == "categorical":
        return ""  # categories that the user declared may be many
    if len(labels) > MAX_CATEGORIES:
        return f"{len(labels)} distinct texts"
    rows = column.total(column.present)
    return f"{rows} different texts in {rows} cells" if len(labels) == rows else ""


def _identifier_error(column: Column, reason: str) -> DataError:
    advice: tuple[str, ...] = ("If it identifies rows, leave it out with {drop}",)
    if column.target:
        advice = "Choose another target", "use {task} if these are classes"
    limit = f"at most {MAX_CATEGORIES} distinct texts"
    expected = f"a categorical column: {limit}, some occurring more than once"
    settings = {"drop": column.name, "task": "classification"}
    got = f"{reason} in column {column.name!r}"
    return column.worded(DataError(column.call, expected, got, *advice, **settings))


def useless(column: Column) -> str:
    """Return why a column is left out by default, or ""."""
    if not column.present.any():
        return "no values"
    if column.coded or column.inferred == "categorical" or column.inferred in DATE_LIKE:
        return ""
    values = column.numbers[column.present]
    if not np.isnan(values).any():
        rows = column.total(column.present)
        counted = rows > 2 and len(np.unique(values)) == rows and (values == values.round()).all()
        numbered = _IDENTIFIER.fullmatch(column.name) or UNNAMED.fullmatch(column.name)
        return "a number for each row" if counted and numbered else ""
    return _identifies(column, _labels(column)) if _column_type(column) == "text" else ""


def has_decimal_comma(frame: pd.DataFrame) -> bool:
    """Return whether a column has numbers with decimal commas."""
    for _, cells in frame.items():
        if cells.dtype.kind in "biufMm":
            continue
        texts = cells[cells.notna()].astype(str).str.strip().drop_duplicates()
        plain = list(filter(None, map(str.removesuffix, texts, units_of(texts))))
        commas = all(is_number(text, ",") for text in plain)
        if commas and not all(is_number(text, ".") for text in plain):
            return True
    return False


def _labels(column: Column) -> tuple[str, ...]:
    """Return the sorted texts of the cells, without rare spellings in another case."""
    texts = set(column.texts[column.present])
    groups: dict[str, list[str]] = {}
    for text in sorted(texts):
        groups.setdefault(text.casefold(), []).append(text)
    for spellings in (group for group in groups.values() if len(group) > 1):
        counts = [column.total(column.present & (column.texts == text)) for text in spellings]
        usual = spellings[int(np.argmax(counts))]
        if (1 + USUAL) * max(counts) >= USUAL * sum(counts):
            texts -= {*spellings} - {usual}
    if texts <= set(TRUTH_VALUES):  # text and booleans look alike in files
        return TRUTH_VALUES
    try:
        return tuple(sorted(texts, key=lambda text: (float(text), text)))
    except ValueError:
        return tuple(sorted(texts))


def _warn_of_spellings(column: Column, labels: Sequence[str]) -> None:
    """Warn about texts that differ only in upper and lower case."""
    texts, read = column.texts[column.present], column.labels(labels)[column.present]
    other = texts != read
    pairs = sorted(set(zip(texts[other], read[other], strict=True)))
    words = [f"{text!r} read as {label!r}" for text, label in pairs]
    folded = [label.casefold() for label in labels]
    apart = [label for label in labels if folded.count(label.casefold()) > 1]
    words += [f"{listed(apart)} as separate categories"] if apart else []
    if words:
        expected, got = f"one spelling of each text in {column.name!r}", ", ".join(words)
        advice = "Spell texts of the same meaning alike"
        warnings.warn(KanlensWarning(column.call, expected, got, advice), stacklevel=6)


def _typical(values: Array, impute: Impute) -> float:
    """Return the median, mean or smallest most frequent value, 0 without any."""
    if not values.size:
        return 0.0
    if impute == "most_frequent":
        distinct, counts = np.unique(values, return_counts=True)
        return float(distinct[counts.argmax()])
    scale = max(1.0, float(np.abs(values).max()) / 1e150)  # sums must not overflow
    average = np.median if impute == "median" else np.mean
    return float(average(values / scale) * scale)
