"""What a model's inputs and outputs are: names, units, kinds, task.

A categorical column is one feature per category, any other column one feature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kanlens.checks import nearest
from kanlens.data.cell_parsing import Array, Column, Place, listed, row_text
from kanlens.errors import DataError, InvalidValueError, message

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["numeric", "binary", "categorical"]
Task = Literal["regression", "classification"]


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One input of a model and the column it is read from.

    Its name is the column's, or ``column=category`` for a one-hot feature. `category` is the cell
    value that it codes as 1 (None: the cell is the number), `categories` are all values the column
    had when the table was read, and `imputation` replaces a missing cell (None refuses those).
    """

    name: str
    column: str
    kind: Kind = "numeric"
    category: str | None = None
    categories: tuple[str, ...] = ()
    unit: str = ""
    imputation: float | str | None = None


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
    """

    features: tuple[Feature, ...]
    outputs: tuple[Output, ...]
    target: str | None = None
    task: Task = "regression"
    class_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what in ("feature_names", "output_names"):
            names = getattr(self, what)
            if len(set(names)) != len(names):
                got = f"{next(name for name in names if names.count(name) > 1)!r} more than once"
                raise InvalidValueError(message("KAN", f"{what} that differ", got, "Rename one"))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(output.name for output in self.outputs)

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Columns that became several features, with the indices of these."""
        found: dict[str, list[int]] = {}
        for index, feature in enumerate(self.features):
            found.setdefault(feature.column, []).append(index)
        return {column: tuple(rows) for column, rows in found.items() if len(rows) > 1}

    @property
    def target_columns(self) -> tuple[str, ...]:
        """Table columns that the outputs predict; empty when none are known."""
        if self.target is None:
            return ()
        several = self.task == "regression" and len(self.outputs) > 1
        return self.output_names if several else (self.target,)

    def targets_among(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return which of a table's columns the outputs predict.

        These are the columns the model was trained on; a model that knows none predicts the columns
        that are named like its outputs. None are returned unless all are there, each once, and no
        feature is read from them.
        """
        wanted = self.target_columns or self.output_names
        read = {name for feature in self.features for name in (feature.name, feature.column)}
        usable = all(list(columns).count(name) == 1 and name not in read for name in wanted)
        return wanted if usable else ()

    def select(self, indices: Sequence[int]) -> Schema:
        """Return the schema of a model that keeps only the features at `indices`."""
        return dataclasses.replace(self, features=tuple(self.features[i] for i in indices))

    def encode(self, frame: pd.DataFrame, *, call: str, place: Place = row_text) -> Array:
        """Turn the columns of a frame into the features of the model, (rows, in) in float64.

        The frame holds at least the columns of the features (or columns named as the features);
        their order is free and other columns are ignored. Columns that are only counted, from 0 to
        the last feature, are taken in order, as those of an array. `place` words a row number for
        errors.
        """
        cells = _Cells(frame, call, place)
        counted = [str(index) for index in range(len(self.features))]
        if cells.names == counted and not {one.column for one in self.features} & set(counted):
            cells.names = list(self.feature_names)
        columns = [cells.feature(feature) for feature in self.features]
        return np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))

    def encode_target(self, values: Any, *, call: str, place: Place = row_text) -> Array:
        """Turn target cells into float64 numbers, or int64 class codes for classification.

        Cells are (rows,), or (rows, outputs) for regression with several outputs, and so are the
        numbers.
        """
        import pandas as pd

        column = partial(Column, call=call, place=place)
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
            advice = "Give one column for each output"
            raise DataError(message(call, expected, str(frame.shape[1]), advice))
        columns = [
            column(name=name, cells=frame.iloc[:, index]).read() for index, name in enumerate(names)
        ]
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
        rest = {key: data[key] for key in ("target", "task") if key in data}
        labels = tuple(data.get("class_labels", ()))
        return cls(features=features, outputs=outputs, class_labels=labels, **rest)


def choices(features: Sequence[Feature]) -> tuple[tuple[str, ...], list[list[float]]]:
    """Return the categories a column's features tell apart, all others as one, and their codes."""
    named = [str(feature.category) for feature in features]
    known = features[0].categories or named
    rest = [name for name in known if name not in named]
    other = ", ".join(rest) if len(rest) < 3 else "all others"
    labels = tuple(dict.fromkeys(other if name in rest else name for name in known))
    return labels, [[float(name == label) for name in named] for label in labels]


def class_schema(target: str, labels: Sequence[str], *, logits: int = 1) -> Schema:
    """Return a schema without features for classes: one logit for two, unless told, or one each."""
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
    """Return a schema of numeric features x1, x2, ... and outputs y, or y1, y2, ..."""
    ys = ["y"] if n_outputs == 1 else [f"y{i + 1}" for i in range(n_outputs)]
    inputs = _names("feature_names", feature_names, [f"x{i + 1}" for i in range(n_inputs)])
    outputs = _names("output_names", output_names, ys)
    return Schema(
        features=tuple(Feature(name=name, column=name) for name in inputs),
        outputs=tuple(Output(name=name) for name in outputs),
    )


def _names(what: str, given: Sequence[str] | None, default: list[str]) -> list[str]:
    if given is None:
        return default
    names = [str(name) for name in given]
    if len(names) != len(default):
        text = message("KAN", f"{len(default)} {what}", str(len(names)), "Name each one once")
        raise InvalidValueError(text)
    return names


class _Cells:
    """The columns of one frame, read as features, each categorical column only once."""

    def __init__(self, frame: pd.DataFrame, call: str, place: Place) -> None:
        self.frame, self.call, self.place = frame, call, place
        self.names = [str(name) for name in frame.columns]
        self.texts: dict[str, Array] = {}

    def feature(self, feature: Feature) -> Array:
        """Return one feature of every row."""
        if feature.column not in self.names and feature.name in self.names:
            return self.column(feature.name).read()  # already one-hot coded by the caller
        if feature.category is None:
            return self.column(feature.column).read(feature.imputation)
        if feature.column not in self.texts:
            self.texts[feature.column] = self.labels(feature)
        return np.asarray(self.texts[feature.column] == feature.category, dtype=np.float64)

    def column(self, name: str) -> Column:
        """Return the column of that name; refuse none and several."""
        count = self.names.count(name)
        if count == 1:
            cells = self.frame.iloc[:, self.names.index(name)]
            return Column(name=name, cells=cells, call=self.call, place=self.place)
        if count:
            text = message(self.call, f"one column {name!r}", str(count), "Rename or drop one")
            raise DataError(text)
        hint = nearest(name, self.names)
        advice = f"Add it, or rename {hint!r}" if hint else "Add it"
        got = f"columns {listed(self.names)}"
        raise DataError(message(self.call, f"a column {name!r}", got, advice))

    def labels(self, feature: Feature) -> Array:
        """Return the category text of every cell; refuse missing and unknown ones."""
        column = self.column(feature.column)
        if feature.imputation is not None and not column.present.all():
            cells = column.cells.astype(object)
            cells[~column.present] = str(feature.imputation)
            column = dataclasses.replace(column, cells=cells)
        return column.read_labels(feature.categories)


def _series(values: Any) -> pd.Series:
    import pandas as pd

    if isinstance(values, pd.Series):
        return values
    return pd.Series(values if isinstance(values, list | tuple) else np.ravel(values))
