"""Selection of target and feature columns, and encoding of targets."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kanlens._checks import check_choice, nearest
from kanlens._lazy import pd
from kanlens.data._cell_parsing import LEAVE_OUT, READERS, Array, CellFormat, Column, Place, listed
from kanlens.data._column_types import (
    IMPUTATIONS,
    UNNAMED,
    Impute,
    check_quantities,
    class_labels,
    column_features,
    is_classes,
    refuse_second_header,
    useless,
)
from kanlens.data._schema import Feature, Output, Schema, Task, class_schema
from kanlens.errors import DataError, InvalidValueError, KanlensWarning

DECIMALS = (",", ".")
TASKS = ("classification", "regression")
MAX_CLASSES = 20  # of a numeric target; more raise a warning


def as_names(labels: object) -> list[str]:
    """Return one label or several as texts; a label may be a number or a date."""
    if labels is None:
        return []
    if not isinstance(labels, Iterable) or isinstance(labels, str | bytes):
        return [str(labels)]
    return [str(label) for label in labels]


def refuse_unknown(what: str, names: Iterable[str], columns: Sequence[str], *, call: str) -> None:
    """Refuse the first name that is not a column."""
    for name in names:
        if name not in columns:
            hint = nearest(name, columns)
            advice = f"Did you mean {hint!r}?" if hint else "Name a column of the table"
            expected = f"{what} among the columns {listed(columns)}"
            raise DataError(call, expected, repr(name), advice)


def choose_columns(
    columns: Sequence[str], target: object, features: object = None, drop: object = (), *, call: str
) -> tuple[list[str], list[str]]:
    """Return the target columns and the feature columns."""
    targets, chosen, dropped = as_names(target), as_names(features), as_names(drop)
    for what, names in (("target", targets), ("features", chosen), ("drop", dropped)):
        refuse_unknown(what, names, columns, call=call)
    if both := [name for name in [*targets, *chosen] if name in dropped]:
        expected, got = "to name columns other than target and features", repr(both[0])
        raise DataError(call, expected, got, "Name it once", argument="drop")
    if features is None:
        chosen = [name for name in columns if name not in targets and name not in dropped]
    used = [*targets, *chosen]
    if twice := [name for name in used if used.count(name) > 1 or columns.count(name) > 1]:
        expected = "each column once, as target or as feature"
        raise DataError(call, expected, f"{twice[0]!r} twice", "Rename it, or name it once")
    if not chosen:
        expected, got = "a feature besides the target", f"columns {listed(columns)}"
        raise DataError(call, expected, got, "Add or name a feature column")
    return targets, chosen


@dataclass(frozen=True, kw_only=True)
class ColumnRoles:
    """The arguments of `kanlens.read_table` that assign and describe columns."""

    target: object = None
    task: Task | None = None
    features: object = None
    drop: object = ()
    categorical: object = ()
    impute: Impute | None = None
    units: Mapping[Any, str] | None = None
    na: object = ()
    decimal: str | None = None

    @property
    def format(self) -> CellFormat:
        """The decimal sign and the texts for missing cells."""
        if self.decimal is not None:
            check_choice("read_table", "decimal", self.decimal, DECIMALS)
        return CellFormat(decimal=self.decimal or ".", missing=tuple(as_names(self.na)))

    def read_schema(self, frame: pd.DataFrame, place: Place, *, call: str = "read_table") -> Schema:
        """Return the schema of a frame; `place` names a row in errors."""

        def column(name: str, **about: Any) -> Column:
            about |= {"call": call, "place": place, "format": self.format}
            return Column(name=name, cells=frame[name], **about)

        return self.find_schema(column, list(frame.columns), call=call)

    def find_schema(
        self, column: Callable[..., Column], columns: Sequence[str], *, call: str
    ) -> Schema:
        """Return the schema of columns, made by `column(name, ...)`; warn about those left out."""
        targets, names = choose_columns(columns, self.target, self.features, self.drop, call=call)
        coded = set(as_names(self.categorical))
        units = {str(label): unit for label, unit in (self.units or {}).items()}
        refuse_unknown("categorical", coded, columns, call=call)
        refuse_unknown("units", units, columns, call=call)
        if self.impute is not None:
            check_choice(call, "impute", self.impute, IMPUTATIONS)
        features: list[Feature] = []
        left_out: list[str] = []
        plain = [column(name, coded=False, target=False) for name in [*names, *targets]]
        refuse_second_header(plain)
        for name in names:
            cells = column(name, coded=name in coded, target=False)
            reason = useless(cells) if self.features is None and name not in coded else ""
            if reason:
                left_out.append(f"{reason} in {name!r}")
                continue
            if self.features is None and UNNAMED.fullmatch(name):
                fields = "a name for every column", repr(name), "Name it", LEAVE_OUT
                raise cells.worded(DataError(call, *fields, drop=name))
            features += column_features(cells, impute=self.impute, unit=units.get(name, ""))
        if not features:
            raise DataError(call, "a column that can be a feature", "; ".join(left_out), "Add one")
        as_targets = [column(name, coded=name in coded, target=True) for name in targets]
        schema = target_schema(as_targets, self.task, units)
        if left_out:
            expected, got = "columns that describe rows", "; ".join(left_out)
            advice = "These columns are left out"
            advice += " unless {features} names them" if call in READERS else ""
            warnings.warn(KanlensWarning(call, expected, got, advice, features=None), stacklevel=4)
        return dataclasses.replace(schema, features=_distinct(features), format=self.format)


def _distinct(features: list[Feature]) -> tuple[Feature, ...]:
    names = [feature.name for feature in features]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        expected = "distinct names of features"
        raise DataError("read_table", expected, f"{twice!r} twice", "Rename one of their columns")
    return tuple(features)


def target_schema(targets: list[Column], task: Task | None, units: Mapping[str, str]) -> Schema:
    """Return a schema without features for the target columns."""
    if task is not None:
        check_choice("read_table", "task", task, TASKS)
    for column in targets:
        column.refuse_missing()
    if len(targets) == 1 and (task == "classification" or (not task and is_classes(targets[0]))):
        labels = class_labels(targets[0], declared=task is not None)
        _warn_of_quantities(targets[0], len(labels))
        return class_schema(targets[0].name, labels)
    if task == "classification":
        got, advice = f"{len(targets)} columns", "Train one model for each target"
        raise InvalidValueError("read_table", "one target with classes", got, advice)
    for column in targets:
        check_quantities(column)
    outputs = tuple(Output(name=c.name, unit=units.get(c.name, "") or c.unit) for c in targets)
    target = ", ".join(column.name for column in targets) or None
    return Schema(features=(), outputs=outputs, target=target)


def _warn_of_quantities(column: Column, classes: int) -> None:
    """Warn about numeric classes that look like quantities."""
    numbers, cells = column.numbers, column.total(column.present)
    broken = bool((numbers != np.round(numbers)).any())
    if classes <= MAX_CLASSES or np.isnan(numbers).any() or not (broken or 2 * classes > cells):
        return
    got = f"{classes} different numbers in {cells} cells of column {column.name!r}"
    advice = "If it is a quantity, use {task}"
    warning = KanlensWarning(column.call, "classes", got, advice, task="regression")
    warnings.warn(warning, stacklevel=4)


def read_targets(
    frame: pd.DataFrame, schema: Schema, target: Sequence[str] | None, *, call: str, place: Place
) -> Array | None:
    """Return the encoded targets of a table for a trained model, or None.

    All cells of the columns `target` must be valid. Default: the columns of `Schema.targets_among`,
    unless they have missing cells, or text for a model without classes.
    """
    names = _check_targets(list(target), schema, list(frame.columns), call) if target else None
    columns = list(names or schema.targets_among(list(frame.columns)))
    for name in columns:
        about: dict[str, Any] = {"call": call, "place": place, "format": schema.format}
        column = Column(name=name, cells=frame[name], target=True, **about)
        if names:
            column.refuse_missing()
        unread = schema.target is None and np.isnan(column.numbers).any()
        if not column.present.all() or (unread and not names):
            return None
        if unread:
            expected = f"numbers in target {name!r}, as the model has no class labels"
            advice = "Import the model with data, target and task to add them"
            raise DataError(call, expected, "text", advice)
    if not columns:
        return None
    if schema.task == "classification":
        named = dataclasses.replace(schema, target=columns[0])
        return named.encode_target(frame[columns[0]], call=call, place=place)
    return schema.encode_target(frame[columns], call=call, place=place)


def _check_targets(names: list[str], schema: Schema, columns: list[str], call: str) -> list[str]:
    """Return the columns named as targets; refuse those that cannot be."""
    refuse_unknown("target", names, columns, call=call)
    count = len(schema.target_columns or schema.output_names)
    if len(names) != count or len(set(names)) != count or any(columns.count(n) > 1 for n in names):
        expected = f"{count} different target column{'s' * (count > 1)}"
        got = ", ".join(map(repr, names))
        raise DataError(call, expected, got, "Name one for each target of the model")
    read = {feature.column for feature in schema.features} & set(names)
    if read:
        got = f"{min(read)!r}, which the model reads as a feature"
        raise DataError(call, "a target column", got, "Name another column")
    return names
