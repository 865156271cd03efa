"""What the columns of a table are, and which are targets and features.

A column is a numeric, binary or categorical feature, or classes; one that cannot be any of these is
refused, with the cell or the reason. A wrong name is refused with the nearest right one.
"""

from __future__ import annotations

import dataclasses
import numbers
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kanlens.checks import check_choice, nearest
from kanlens.data.cell_parsing import LEAVE_OUT, NUMBER_LIKE, Array, Column, Place, listed
from kanlens.data.schema import Feature, Output, Schema, Task, class_schema
from kanlens.errors import DataError, InvalidValueError, message

if TYPE_CHECKING:
    import pandas as pd

Impute = Literal["median", "mean", "most_frequent"]

IMPUTATIONS = ("mean", "median", "most_frequent")
MOST_CATEGORIES = 100  # a text column with more distinct values is taken for an identifier
TRUTH_VALUES = ("False", "True")
DATE_LIKE = ("datetime64", "datetime", "date", "timedelta64", "timedelta", "time", "period")
_CONVERT = f"Convert the column{LEAVE_OUT}"
_CORRECT = f"Correct that cell{LEAVE_OUT}"
_DATE = re.compile(r"\s*\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\s*\d{1,2}[/.]\d{1,2}[/.]\d{2,4}( .*)?")
_COMMA_NUMBER = re.compile(r"\s*[-+]?\d[\d.]*(,\d+)+([eE][-+]?\d+)?\s*")
TASKS = ("classification", "regression")
MANY_CLASSES = 20  # up to which numbers are taken for classes without a word
_UNNAMED = re.compile(r"Unnamed: \d+")  # what pandas calls columns without a name


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
    common = None
    if impute:
        common = max(labels, key=lambda one: column.total(column.present & (column.texts == one)))
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
    """Say whether a target holds classes: text, truth values, categories, or two whole numbers."""
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
    if 2 * column.total(unreadable) <= column.total(column.present):
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
    rows = column.total(column.present)
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


def as_names(given: object) -> list[str]:
    """Return one name or several as texts; a column may be called by a number or a date."""
    if given is None:
        return []
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        return [str(given)]
    return [str(name) for name in given]


def refuse_unknown(what: str, names: Iterable[str], known: Sequence[str], *, call: str) -> None:
    """Refuse the first name that is no column."""
    for name in names:
        if name in known:
            continue
        hint = nearest(name, known)
        advice = f"Did you mean {hint!r}?" if hint else "Name a column of the table"
        expected = f"{what} among the columns {listed(known)}"
        text = message(call, expected, repr(name), advice)
        raise DataError(text)


def choose_columns(
    known: Sequence[str],
    target: object,
    features: object = None,
    drop: object = (),
    *,
    call: str,
) -> tuple[list[str], list[str]]:
    """Return the target columns and the feature columns."""
    targets, chosen, dropped = as_names(target), as_names(features), as_names(drop)
    for what, names in (("target", targets), ("features", chosen), ("drop", dropped)):
        refuse_unknown(what, names, known, call=call)
    lost = [name for name in [*targets, *chosen] if name in dropped]
    if lost:
        expected, got = "drop to be of other columns than target and features", repr(lost[0])
        raise DataError(message(call, expected, got, "Name it once"))
    if features is None:
        chosen = [name for name in known if name not in targets]
    chosen = [name for name in chosen if name not in dropped]
    used = [*targets, *chosen]
    twice = next((name for name in used if used.count(name) > 1 or known.count(name) > 1), None)
    if twice is not None:
        expected = "each column once, as target or as feature"
        raise DataError(message(call, expected, f"{twice!r} twice", "Rename it, or name it once"))
    if not chosen:
        got = f"columns {listed(known)}"
        raise DataError(message(call, "a feature column beside the target", got, "Add one"))
    unnamed = next((name for name in chosen if _UNNAMED.fullmatch(name)), None)
    if features is None and unnamed is not None:  # most often a row number that was saved along
        advice = f"Name it, or leave it out with drop={unnamed!r}, if it holds row numbers"
        raise DataError(message(call, "a name for every column", repr(unnamed), advice))
    return targets, chosen


@dataclass(frozen=True, kw_only=True)
class ColumnRoles:
    """What a caller says of the columns of a table: the arguments of `kanlens.read_table`."""

    target: object = None
    task: Task | None = None
    features: object = None
    drop: object = ()
    categorical: object = ()
    impute: Impute | None = None
    units: Mapping[Any, str] | None = None

    def names(self, known: Sequence[str]) -> list[str]:
        """Return the columns of targets and features."""
        roles = (self.target, self.features, self.drop)
        targets, features = choose_columns(known, *roles, call="read_table")
        return [*targets, *features]

    def find_schema(self, column: Callable[..., Column], known: Sequence[str]) -> Schema:
        """Return what the columns `known` are.

        `column` returns one by its name, and whether it is ``coded`` and a ``target``.
        """
        call = "read_table"
        targets, names = choose_columns(known, self.target, self.features, self.drop, call=call)
        coded = set(as_names(self.categorical))
        units = {str(label): unit for label, unit in (self.units or {}).items()}
        refuse_unknown("categorical", coded, known, call=call)
        refuse_unknown("units", units, known, call=call)
        if self.impute is not None:
            check_choice(call, "impute", self.impute, IMPUTATIONS)
        found: list[Feature] = []
        for name in names:
            cells = column(name, coded=name in coded, target=False)
            found += column_features(cells, impute=self.impute, unit=units.get(name, ""))
        as_targets = [column(name, coded=name in coded, target=True) for name in targets]
        schema = target_schema(as_targets, self.task, units)
        return dataclasses.replace(schema, features=_distinct(found))


def _distinct(features: list[Feature]) -> tuple[Feature, ...]:
    names = [feature.name for feature in features]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        expected = "columns and categories with names that differ"
        raise DataError(message("read_table", expected, f"{twice!r} twice", "Rename that column"))
    return tuple(features)


def target_schema(targets: list[Column], task: Task | None, units: Mapping[str, str]) -> Schema:
    """Return a schema without features for the target columns."""
    if task is not None:
        check_choice("read_table", "task", task, TASKS)
    for column in targets:
        column.refuse_missing()
    if len(targets) == 1 and (task == "classification" or (not task and is_classes(targets[0]))):
        labels = class_labels(targets[0], asked=task is not None)
        _warn_of_quantities(targets[0], len(labels))
        return class_schema(targets[0].name, labels)
    if task == "classification":
        got = f"{len(targets)} columns"
        advice = "Train one model for each target"
        raise InvalidValueError(message("read_table", "one target with classes", got, advice))
    for column in targets:
        check_quantities(column)
    outputs = tuple(Output(name=c.name, unit=units.get(c.name, "")) for c in targets)
    target = ", ".join(column.name for column in targets) or None
    return Schema(features=(), outputs=outputs, target=target)


def _warn_of_quantities(column: Column, classes: int) -> None:
    """Warn where numbers that were called classes look like quantities."""
    numbers, cells = column.numbers, column.total(column.present)
    broken = bool((numbers != np.round(numbers)).any())
    if classes <= MANY_CLASSES or np.isnan(numbers).any() or not (broken or 2 * classes > cells):
        return
    got = f"{classes} different numbers in {cells} cells of column {column.name!r}"
    advice = "If it is a quantity, use task='regression'"
    warnings.warn(message(column.call, "classes", got, advice), stacklevel=4)


def read_targets(
    frame: pd.DataFrame, schema: Schema, given: Sequence[str] | None, *, call: str, place: Place
) -> Array | None:
    """Return the encoded targets of a table beside a trained model; None where it has none.

    They are (rows, outputs), or (rows,) for classification. The columns are those given, all of
    whose cells must fit, or those of `Schema.targets_among`: then there are no targets where cells
    are missing in them, or are text to a model without classes.
    """
    names = _checked(list(given), schema, list(frame.columns), call) if given else None
    columns = list(names or schema.targets_among(list(frame.columns)))
    for name in columns:
        column = Column(name=name, cells=frame[name], call=call, place=place, target=True)
        if names:
            column.refuse_missing()
        unread = schema.target is None and np.isnan(column.numbers).any()
        if not column.present.all() or (unread and not names):
            return None
        if unread:
            expected = f"numbers in target {name!r}, as the model knows no classes"
            advice = "Import it with its data, target and task, for their classes"
            raise DataError(message(call, expected, "text", advice))
    if not columns:
        return None
    if schema.task == "classification":
        named = dataclasses.replace(schema, target=columns[0])
        return named.encode_target(frame[columns[0]], call=call, place=place)
    return schema.encode_target(frame[columns], call=call, place=place)


def _checked(names: list[str], schema: Schema, columns: list[str], call: str) -> list[str]:
    """Return the columns named as targets; refuse those that cannot be."""
    refuse_unknown("target", names, columns, call=call)
    count = len(schema.target_columns or schema.output_names)
    if len(names) != count or len(set(names)) != count or any(columns.count(n) > 1 for n in names):
        expected = f"{count} different target column{'s' * (count > 1)}"
        got = ", ".join(map(repr, names))
        raise DataError(message(call, expected, got, "Name one for each target of the model"))
    read = {feature.column for feature in schema.features} & set(names)
    if read:
        got = f"{min(read)!r}, which the model reads as a feature"
        raise DataError(message(call, "a target column", got, "Name another"))
    return names
