"""Schema of a model's inputs and outputs: names, units, kinds, task."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from kanlens._checks import nearest
from kanlens._lazy import pd
from kanlens.data._cell_parsing import (
    PLAIN,
    SYMBOLS,
    Array,
    CellFormat,
    Column,
    Place,
    listed,
    row_text,
)
from kanlens.errors import DataError, InvalidValueError, KanlensWarning

Kind = Literal["numeric", "binary", "categorical", "date", "missing"]
Task = Literal["regression", "classification"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of a model and its column.

    Its name is the column's, ``column=category`` for a one-hot feature, ``column.part`` for a part
    of a date, or ``column=missing`` for the one that is 1 where the cell is missing. `category` is
    the cell value coded as 1 (None: the cell is the number), and `categories` are all values of the
    column. A missing cell is replaced by `imputation`, else with a warning by `typical`, the median
    (of many distinct numbers of a source, the mean); with neither it is refused.
    """

    name: str
    column: str
    kind: Kind = "numeric"
    category: str | None = None
    categories: tuple[str, ...] = ()
    unit: str = ""
    imputation: float | str | None = None
    typical: float | None = None
    part: str = ""
    day_first: bool = False

    @property
    def filler(self) -> float | None:
        """The number that replaces a missing cell, or None if such a cell is refused."""
        value = self.typical if self.imputation is None else self.imputation
        return None if value is None or self.category is not None else float(value)

    @property
    def levels(self) -> tuple[str, ...]:
        """The labels of 0 and 1; empty for a number."""
        if self.kind == "binary":
            return self.categories if len(self.categories) == 2 else ()
        return ("no", "yes") if self.kind == "missing" or self.category is not None else ()


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of a model, and its unit, empty when it has none."""

    name: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Names, units and kinds of a model's inputs and outputs, and its task.

    Attributes
    ----------
    features : tuple of Feature
        The inputs, in the order of the columns of x.
    outputs : tuple of Output
        The outputs, in the order of the columns of y.
    target : str or None
        The table column that the outputs predict; for several, their names joined by ", ".
    task : {"regression", "classification"}
        For classification the outputs are logits: one for two classes, else one per class.
    class_labels : tuple of str
        The classes, in the order of their codes 0, 1, ...; empty for regression.
    format : CellFormat
        Decimal sign and texts of missing cells.
    loss : str
        Key into `LOSSES` of the loss of a regression.
    loss_parameter : float, tuple of float or None
        Quantile of the loss (a tuple: one per output) or its power; None for the default.
    per_row : tuple of pairs of str
        Pairs of a role ("target", "exposure", "offset" or "event") and the column that has it.
    """

    features: tuple[Feature, ...]
    outputs: tuple[Output, ...]
    target: str | None = None
    task: Task = "regression"
    class_labels: tuple[str, ...] = ()
    format: CellFormat = PLAIN
    loss: str = "squared_error"
    loss_parameter: float | tuple[float, ...] | None = None
    per_row: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for what in ("feature_names", "output_names"):
            names = getattr(self, what)
            if len(set(names)) != len(names):
                got = f"{next(name for name in names if names.count(name) > 1)!r} more than once"
                raise InvalidValueError("KAN", f"distinct {what}", got, "Rename one")

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(output.name for output in self.outputs)

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """The indices of the features of each column."""
        indices: dict[str, list[int]] = {}
        for index, feature in enumerate(self.features):
            indices.setdefault(feature.column, []).append(index)
        return indices

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Columns that are encoded as several features, with the indices of these."""
        return {column: tuple(own) for column, own in self.places.items() if len(own) > 1}

    @property
    def target_columns(self) -> tuple[str, ...]:
        """Table columns that the outputs predict; empty when none are known."""
        if self.target is None:
            return ()
        several = self.task == "regression" and len(self.outputs) > 1
        several = several and not isinstance(self.loss_parameter, tuple)  # quantiles of one
        return self.output_names if several else (self.target,)

    def renamed(self, form: str, column: str) -> Schema:
        """Return the schema with outputs and target renamed to ``form.format(name, column)``."""
        outputs = (dataclasses.replace(o, name=form.format(o.name, column)) for o in self.outputs)
        target = None if self.target is None else form.format(self.target, column)
        return dataclasses.replace(self, outputs=tuple(outputs), target=target)

    def targets_among(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of a table that the outputs predict.

        These are the columns the model was trained on, else those named like its outputs. They are
        returned only if all are there, each once, and no feature is read from them.
        """
        wanted = self.target_columns or self.output_names
        read = {name for feature in self.features for name in (feature.name, feature.column)}
        usable = all(list(columns).count(name) == 1 and name not in read for name in wanted)
        return wanted if usable else ()

    def select(self, indices: Sequence[int]) -> Schema:
        """Return the schema of a model that keeps only the features at `indices`.

        Missing cells of columns whose indicator is dropped are imputed.
        """
        features = [self.features[i] for i in indices]
        unmarked = {feature.column for feature in self.features if feature.kind == "missing"}
        unmarked -= {feature.column for feature in features if feature.kind == "missing"}
        for k, feature in enumerate(features):
            if feature.column in unmarked and feature.imputation is None:
                filler = feature.filler if feature.category is None else ""
                features[k] = dataclasses.replace(feature, imputation=filler)
        return dataclasses.replace(self, features=tuple(features))

    def encode(self, frame: pd.DataFrame, *, call: str, place: Place = row_text) -> Array:
        """Return the features (rows, in) of a frame in float64.

        The frame holds at least the columns of the features (or columns named as the features), in
        any order; other columns are ignored. Columns that are only numbered, from 0 on, are taken
        in order, like those of an array. A new category counts as none of the known ones, with a
        warning. `place` names a row in errors.
        """
        cells = _FrameColumns(frame, call, place, self)
        counted = [str(index) for index in range(len(self.features))]
        if cells.names == counted and not {f.column for f in self.features} & set(counted):
            cells.names = list(self.feature_names)
        columns = [cells.feature(feature) for feature in self.features]
        cells.warn()
        return np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))

    def encode_target(self, values: Any, *, call: str, place: Place = row_text) -> Array:
        """Return target cells as float64 numbers, or int64 class codes.

        Both are (rows,), or (rows, outputs) for regression with several outputs.
        """
        column = partial(Column, call=call, place=place, format=self.format)
        if self.task == "classification":
            target = column(name=self.target or "y", cells=_series(values), target=True)
            codes = {label: code for code, label in enumerate(self.class_labels)}
            texts = target.read_labels(self.class_labels)
            return np.array([codes[text] for text in texts], dtype=np.int64)
        if getattr(values, "ndim", 1) < 2:
            return column(name=self.target or "y", cells=_series(values)).read()
        names, frame = self.target_columns or self.output_names, pd.DataFrame(values)
        if frame.shape[1] != len(names):
            expected = f"{len(names)} target columns"
            raise DataError(call, expected, str(frame.shape[1]), "Give one column for each output")
        columns = [column(name=n, cells=frame.iloc[:, k]).read() for k, n in enumerate(names)]
        return np.stack(columns, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Schema:
        """Rebuild a schema from `to_dict`."""
        features = tuple(
            Feature(**{**item, "categories": tuple(item.get("categories", ()))})
            for item in data["features"]
        )
        outputs = tuple(Output(**item) for item in data["outputs"])
        keys = "target", "task", "loss", "loss_parameter"
        rest = {key: data[key] for key in keys if key in data}
        if isinstance(levels := rest.get("loss_parameter"), list):
            rest["loss_parameter"] = tuple(map(float, levels))
        rest["per_row"] = tuple((str(name), str(own)) for name, own in data.get("per_row", ()))
        labels, cells = tuple(data.get("class_labels", ())), data.get("format", {})
        cells = CellFormat(**{**cells, "missing": tuple(cells.get("missing", ()))})
        return cls(features=features, outputs=outputs, class_labels=labels, format=cells, **rest)


def choices(features: Sequence[Feature]) -> tuple[tuple[str, ...], list[list[float]]]:
    """Return the categories of a column, and the values of its `features` for each."""
    marks = [f.name.removeprefix(f"{f.column}=") for f in features if f.kind == "missing"]
    named = [str(feature.category) for feature in features if feature.kind != "missing"] + marks
    shown = features[0].categories or named
    rest = [name for name in shown if name not in named]
    other = ", ".join(rest) if len(rest) < 3 else "all others"
    labels = tuple(dict.fromkeys(other if name in rest else name for name in (*shown, *marks)))
    return labels, [[float(name == label) for name in named] for label in labels]


def class_schema(target: str, labels: Sequence[str], *, logits: int = 1) -> Schema:
    """Return the schema of a classification, without features."""
    shown = labels[1:] if len(labels) == 2 and logits == 1 else labels
    return Schema(
        features=(),
        outputs=tuple(Output(name=f"{target}={label}") for label in shown),
        target=target,
        task="classification",
        class_labels=tuple(labels),
    )


def default_schema(
    n_inputs: int,
    n_outputs: int,
    *,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Schema:
    """Return a schema of features x1, x2, ... and outputs y, or y1, ..."""
    inputs = [f"x{i + 1}" for i in range(n_inputs)] if feature_names is None else feature_names
    outputs = ["y"] if n_outputs == 1 else [f"y{i + 1}" for i in range(n_outputs)]
    outputs = outputs if output_names is None else [str(name) for name in output_names]
    for names, count, what in (
        (inputs, n_inputs, "feature_names"),
        (outputs, n_outputs, "output_names"),
    ):
        if len(names) != count:
            raise InvalidValueError("KAN", f"{count} {what}", str(len(names)), "Name each one once")
    return Schema(
        features=tuple(Feature(name=str(name), column=str(name)) for name in inputs),
        outputs=tuple(Output(name=name) for name in outputs),
    )


class _FrameColumns:
    """The columns of a frame, read as features; each column is parsed only once."""

    def __init__(self, frame: pd.DataFrame, call: str, place: Place, schema: Schema) -> None:
        self.frame, self.call, self.place, self.schema = frame, call, place, schema
        self.names = [str(name) for name in frame.columns]
        self.columns: dict[str, Column] = {}
        self.texts: dict[str, Array] = {}
        self.marked = {f.column for f in schema.features if f.kind == "missing"}
        self.blanks: dict[str, str] = {}  # missing cells without a mark or an imputation
        self.unseen: dict[str, str] = {}

    def feature(self, feature: Feature) -> Array:
        """Return one feature of every row."""
        if feature.column not in self.names and feature.name in self.names:
            return self.column(feature.name).read()  # already one-hot coded by the caller
        column = self.column(feature.column, feature.day_first)
        if feature.kind == "missing":
            return (~column.present).astype(np.float64)
        if feature.category is None:
            if feature.imputation is None and feature.typical is not None:
                self._count_blanks(column)
            if feature.kind == "date":
                return column.read(feature.filler, feature.part)
            return self._quantity(column, feature)
        if feature.column not in self.texts:
            self.texts[feature.column] = self._labels(column, feature)
        return np.asarray(self.texts[feature.column] == feature.category, dtype=np.float64)

    def column(self, name: str, day_first: bool = False) -> Column:
        """Return the only column of that name; refuse none, or several."""
        if name in self.columns:
            return self.columns[name]
        count = self.names.count(name)
        if count > 1:
            raise DataError(self.call, f"one column {name!r}", str(count), "Rename or drop one")
        if not count:
            hint = nearest(name, self.names)
            advice = f"Add it, or rename {hint!r}" if hint else "Add it"
            got = f"columns {listed(self.names)}"
            raise DataError(self.call, f"a column {name!r}", got, advice)
        cells = self.frame.iloc[:, self.names.index(name)]
        about: dict[str, Any] = {"call": self.call, "place": self.place}
        about |= {"format": self.schema.format, "day_first": day_first}
        self.columns[name] = Column(name=name, cells=cells, **about)
        return self.columns[name]

    def _quantity(self, column: Column, feature: Feature) -> Array:
        """Return numbers in the unit of training; refuse cells in another unit."""
        values, unit, usual = column.read(feature.filler), column.unit, abs(feature.filler or 0.0)
        if "" != unit != feature.unit != "" and (feature.unit in SYMBOLS or unit not in SYMBOLS):
            row = int(column.present.argmax())
            raise column.refuse(row, f"numbers in {feature.unit}", "Convert the units")
        sizes = np.abs(values[values != 0])
        size = float(np.median(sizes)) if len(sizes) else usual
        if unit == "%" != feature.unit and usual <= 1 and size > 10 * usual:
            return values / 100
        if feature.unit == "%" != unit and size <= 1 and usual > 10 * size:
            got = f"numbers that look like fractions ({sizes[0]:.6g}) in column {column.name!r}"
            advice = f"This is read as {sizes[0]:.6g}%; multiply by 100 if it is a fraction"
            warnings.warn(KanlensWarning(self.call, "percentages", got, advice), stacklevel=4)
        return values

    def _count_blanks(self, column: Column) -> None:
        missing = column.total(~column.present)
        if missing and column.name not in self.marked:
            self.blanks[column.name] = f"{missing} missing in {column.name!r}"

    def _labels(self, column: Column, feature: Feature) -> Array:
        """Return the category text of every cell, "" where it is missing."""
        present, texts = column.present, column.labels(feature.categories).copy()
        if feature.imputation is None:
            self._count_blanks(column)
        texts[~present] = "" if feature.imputation is None else str(feature.imputation)
        others = texts[present & ~pd.Index(texts).isin(feature.categories)].tolist()
        if others:
            some = listed(sorted(set(others))[:3])
            self.unseen[column.name] = f"{len(others)} in {column.name!r} ({some})"
        return texts

    def warn(self) -> None:
        """Warn about unknown categories and missing cells that training did not have."""
        cells = [*self.unseen.items(), *self.blanks.items()]
        if cells:
            expected = "cells like those of training"
            got = "; ".join(f"{words}, as {self._fallback(name)}" for name, words in cells)
            advice = "Train again with such rows where they matter"
            warnings.warn(KanlensWarning(self.call, expected, got, advice), stacklevel=4)

    def _fallback(self, name: str) -> str:
        """Return the value that replaces an unknown cell of a column."""
        features = [feature for feature in self.schema.features if feature.column == name]
        if features[0].category is None:
            return "the median date" if features[0].part else f"{features[0].typical:.6g}"
        if features[0].kind == "binary":
            return repr(features[0].categories[0])
        return "none of the known categories"


def _series(values: Any) -> pd.Series:
    if isinstance(values, pd.Series):
        return values
    return pd.Series(values if isinstance(values, list | tuple) else np.ravel(values))
