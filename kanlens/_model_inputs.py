"""Conversion of data to tensors for a model, which adopts the schema of the data."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens._checks import check_finite, check_magnitude, check_rows, warn_of_distant
from kanlens._lazy import pd
from kanlens.data._cell_parsing import PLAIN_NUMBERS, Column, check_dense, listed, unmasked
from kanlens.data._column_types import class_labels, is_classes
from kanlens.data._columns import ColumnRoles
from kanlens.data._schema import Schema, class_schema, default_schema
from kanlens.data._source import Source
from kanlens.data._table_reader import read_columns
from kanlens.data._tables import Table
from kanlens.errors import DataError, KanlensWarning, ShapeError
from kanlens.model._losses import check_targets
from kanlens.model._network import KAN, Targets
from kanlens.model._statistics import deviations
from kanlens.model._trace import store_statistics


def prepare_data(
    model: KAN, data: Table | tuple[Any, Any], *, constant: bool = True, trained: bool = False
) -> tuple[Tensor, Any]:
    """Return x (batch, in) and y for training; set the model's schema.

    Model features whose names are not the default x1, x2, ... are looked up in the table by name.
    Returns y as `prepare_target` does. A target that does not vary raises a warning; if none vary,
    an error unless `constant`. For a `trained` model y may be None.
    """
    features: Schema | None
    target: Schema | None
    if isinstance(data, Table):
        x, y, features, target = data.x, data.y, data.schema, data.schema
    else:
        x, y, features, target = _read_pair(model, *_pair(data))
    if features is not None:
        x = x[:, _adopt_features(model, features, trained)]
    if y is not None and target is not None:
        y = _adopt_target(model, target, y, trained)
    x = model.prepare(x, call="fit").detach()
    check_rows("fit", x)
    y = None if y is None else prepare_target(model, y, len(x), call="fit")
    if not trained:
        _check_trainable(model, data, x, y, constant)
    return x, y


def _check_trainable(model: KAN, data: Any, x: Tensor, y: Tensor | None, constant: bool) -> None:
    """Refuse or warn about rows and targets that a model cannot learn from."""
    if y is None:
        raise DataError("fit", "a table with a target", "none", "Name its column in read_table")
    numbers, schema = data.frame.index if isinstance(data, Table) else range(len(x)), model.schema
    check_rows("fit", x, least=2)
    check_magnitude("fit", x, schema.feature_names, numbers)
    check_targets(schema, y, call="fit")
    if schema.task == "regression":
        check_magnitude("fit", y, schema.output_names, numbers)
        varies = (deviations(y) > 0).tolist()
        for name in (name for name, v in zip(schema.output_names, varies, strict=True) if not v):
            got = f"{name!r}, constant up to rounding"
            advice = "Choose another target, or subtract this one's mean first"
            fields = "fit", "targets that vary", got, advice
            if not (constant or any(varies)):
                raise DataError(*fields)
            warnings.warn(KanlensWarning(*fields), stacklevel=4)
        if model.loss.linear:
            warn_of_distant("fit", schema.output_names, y, list(numbers))


def adopt_data(model: KAN, data: Table | tuple[Any, Any]) -> None:
    """Set everything in a model that training would set, except weights and scaling.

    These are names, units, kinds, task and classes, statistics of every layer, and background rows;
    without a target the task is unchanged. Two classes may have one output or two. If outputs are
    named after the classes, their order fixes the class order.
    """
    store_statistics(model, prepare_data(model, data, trained=True)[0])


def needed_widths(data: object) -> tuple[int, int]:
    """Return the numbers of features and outputs for data."""
    if isinstance(data, (Table, Source)):
        return len(data.schema.features), max(1, len(data.schema.outputs))  # 0 is refused later
    x, y = _pair(data)
    table = read_columns(x, ColumnRoles(), call="fit").x if hasattr(x, "columns") else x
    shape = tuple(np.shape(table))
    if len(shape) != 2:
        raise ShapeError("fit", "x of shape (batch, in)", str(shape), "Reshape it")
    if not _holds_labels(y.detach().cpu().numpy() if isinstance(y, Tensor) else y, several=False):
        return shape[1], np.shape(y)[1] if len(np.shape(y)) == 2 else 1
    labels = Column(name="y", cells=pd.Series(np.asarray(y).ravel()), call="fit", target=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings are repeated when the labels are read
        count = len(class_labels(labels, declared=True))
    return shape[1], count if count > 2 else 1


def _pair(data: object) -> tuple[Any, Any]:
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return data[0], data[1]
    expected, got = "to be a Table or a pair (x, y)", type(data).__name__
    advice = "Pass (x, y), or the result of read_table"
    raise DataError("fit", expected, got, advice, argument="data")


def _read_pair(model: KAN, x: Any, y: Any) -> tuple[Any, Any, Schema | None, Schema | None]:
    """Return x, y, and the schema that follows from a frame or labels."""
    features, target, own = None, None, model.schema
    columns = {str(name) for name in getattr(x, "columns", own.feature_names)}
    unnamed = own.features == default_schema(len(own.features), 1).features
    if unnamed and not set(own.feature_names) <= columns:
        table = read_columns(x, ColumnRoles(), call="fit")
        x, features = table.x, table.schema
    check_dense(y, "fit", "y")
    if not (own.task == "classification" and own.class_labels):
        cells = y.detach().cpu().numpy() if isinstance(y, Tensor) else y
        if _holds_labels(cells, several=len(own.outputs) > 1):
            y, target = _read_labels(cells, len(own.outputs))
    return x, y, features, target


def _holds_labels(y: Any, *, several: bool) -> bool:
    """Return whether y holds text, booleans or codes."""
    array = np.asarray(y)
    categories = isinstance(getattr(y, "dtype", None), pd.CategoricalDtype)
    if array.dtype.kind in "iu" and not categories:
        return array.ndim == 1 and several
    if array.dtype.kind not in "OUSb" and not categories:
        return False
    cells = y if categories else pd.Series(array.ravel())
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    if kind == "string" and array.ndim == 1 and several:
        return True
    if kind in PLAIN_NUMBERS and kind != "boolean":
        return False
    return is_classes(Column(name="y", cells=cells, call="fit", target=True))


def _read_labels(y: Targets, outputs: int) -> tuple[Tensor, Schema]:
    """Return class codes and their schema."""
    cells = np.asarray(y).ravel()
    if np.ndim(y) == 2 and np.shape(y)[1] > 1:
        got = f"{np.shape(y)[1]} columns of labels or booleans"
        advice = "Pass one label for each row; y.idxmax('columns') undoes pandas.get_dummies"
        raise ShapeError("fit", "y to be numbers, or one column of classes", got, advice)
    frame = pd.DataFrame({"x": 0.0, "y": cells})
    Column(name="y", cells=frame["y"], call="fit", target=True).refuse_missing()
    table = read_columns(frame, ColumnRoles(target="y", task="classification"), call="fit")
    if outputs > 2 and cells.dtype.kind in "iu" and cells.min() >= 0 and cells.max() < outputs:
        schema = class_schema("y", [str(code) for code in range(outputs)])
        return torch.from_numpy(cells.astype(np.int64)), schema
    return cast("Tensor", table.y), table.schema


def _adopt_features(model: KAN, schema: Schema, trained: bool) -> list[int]:
    """Return the indices of a model's features in a schema; adopt the schema."""
    own, places = model.schema, list(range(len(schema.features)))
    wanted, marks = own.feature_names, [f.kind == "missing" for f in schema.features]
    if trained and len(places) > len(wanted):  # without indicators of missing cells
        places = [place for place in places if not marks[place]]
        schema = schema.select(places)
    names = schema.feature_names
    missing = [name for name in wanted if name not in names]
    if missing and len(names) != len(wanted):
        expected = f"{_counted(len(wanted), 'feature')}, as the model has"
        got = f"{len(names)} ({listed(names)})"
        changes = [f"Build the model with {_counted(len(names), 'input')}"]
        if any(marks):
            changes.append("fill missing cells with read_table(..., {impute})")
        if trained:
            order = "in the order of the inputs"
            changes = [f"Name the target, and the columns of the training data, {order}"]
        raise ShapeError("fit", expected, got, *changes, impute="median")
    if missing and own.features != default_schema(len(wanted), 1).features:
        expected = f"the model's features {listed(wanted)}"
        advice = "Rename the columns, or build another model"
        raise DataError("fit", expected, f"a table without {missing[0]!r}", advice)
    picks = range(len(names)) if missing else [names.index(name) for name in wanted]
    features = tuple(schema.features[index] for index in picks)
    model.schema = dataclasses.replace(own, features=features, format=schema.format)
    return [places[index] for index in picks]


def _adopt_target(model: KAN, schema: Schema, y: Tensor, trained: bool) -> Tensor:
    """Return y in class codes of the model; a model without classes adopts those of y."""
    own = model.schema
    if own.class_labels:
        return codes_of_model(model, schema, y, call="fit")
    if trained and schema.class_labels:
        labels, schema = schema.class_labels, _in_order_of(own.output_names, schema)
        y = torch.tensor([schema.class_labels.index(label) for label in labels])[y]
    count = len(schema.outputs)
    if count != len(own.outputs):
        expected = f"{_counted(len(own.outputs), 'output')}, as the model has"
        whose = f" for the classes {listed(schema.class_labels)}" if schema.class_labels else ""
        advice = f"Build the model with {_counted(count, 'output')}"
        if trained:
            columns = _counted(len(own.outputs), "target column")
            advice = f"Choose {columns} without classes, or {max(2, len(own.outputs))} classes"
        raise ShapeError("fit", expected, f"{count}{whose}", advice)
    keep = ("features", "format", "loss", "loss_parameter")
    model.schema = dataclasses.replace(schema, **{name: getattr(own, name) for name in keep})
    return y


def codes_of_model(model: KAN, schema: Schema, y: Tensor, *, call: str) -> Tensor:
    """Return class codes (rows,) of a schema in the codes of a model."""
    labels = model.class_labels
    others = [label for label in schema.class_labels if label not in labels]
    if others or not schema.class_labels:
        got = repr(others[0]) if others else "numbers"
        expected = f"the model's classes {listed(labels)}"
        raise DataError(call, expected, got, "Correct the target, or build another model")
    return torch.tensor([labels.index(label) for label in schema.class_labels])[y]


def _in_order_of(names: Sequence[str], schema: Schema) -> Schema:
    """Return a schema with classes in the order of the outputs.

    Two classes have one output each, or a single output, for the second class.
    """
    labels = schema.class_labels
    if set(names) == set(labels):
        labels = tuple(names)
    elif len(labels) == 2 and len(names) == 1 and names[0] == labels[0]:
        labels = labels[::-1]
    elif len(names) == len(labels) and names != default_schema(1, len(names)).output_names:
        expected = f"outputs named after the classes {listed(labels)}"
        advice = "Give the class names in the order of the outputs, or leave the names out"
        raise DataError("fit", expected, listed(names), advice)
    return class_schema(schema.target or "y", labels, logits=len(names))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def prepare_target(model: KAN, y: Targets, n_rows: int, *, call: str) -> Tensor:
    """Return y for the loss: (batch, out), or class codes (batch,).

    `y` is in the units of the data, or holds class labels or codes. If labels are numbers, a Tensor
    of valid codes is read as codes, anything else as labels if it matches them, else as codes.
    """
    check_dense(y, call, "y")
    if model.schema.task == "classification":
        return _class_codes(model, y, n_rows, call)
    if not isinstance(y, Tensor):
        array = np.array(unmasked(y))  # a copy: torch warns of arrays that are read-only
        if array.dtype.kind not in "fiub":
            array = model.schema.encode_target(array, call=call)
        y = torch.as_tensor(array)
    values: Tensor = y.detach().to(model.input_shift)
    if values.dim() == 1:
        values = values.unsqueeze(1)
    if values.shape[1] == 1 and model.loss.levels:  # one for each quantile
        values = values.repeat(1, len(model.loss.levels))
    expected = (n_rows, len(model.schema.outputs))
    if tuple(values.shape) != expected:
        advice = "Give one target per row and output"
        raise ShapeError(call, f"y of shape {expected}", str(tuple(y.shape)), advice)
    check_finite(call, values, model.schema.output_names)
    return values


def _class_codes(model: KAN, y: Targets, n_rows: int, call: str) -> Tensor:
    """Return y as class codes, read as codes or as labels."""
    cells = np.ravel(y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y))
    if cells.size != n_rows:
        raise ShapeError(call, f"{n_rows} labels", str(cells.size), "Give one label per row")
    numeric, count = cells.dtype.kind in "fiu", max(2, len(model.schema.outputs))
    valid = [code in range(count) for code in cells.tolist()] if numeric else []
    if not numeric or (model.class_labels and not (isinstance(y, Tensor) and all(valid))):
        try:
            codes = torch.from_numpy(model.schema.encode_target(cells, call=call))
            return codes.to(model.input_shift.device)
        except DataError:
            if not numeric:
                raise
    if not all(valid):
        row = valid.index(False)
        got, advice = f"{cells[row]} in row {row}", "Recode the labels"
        raise DataError(call, f"class codes from 0 to {count - 1}", got, advice)
    return torch.from_numpy(cells.astype(np.int64)).to(model.input_shift.device)


def encode_labelled(model: KAN, table: Table, *, call: str) -> tuple[Tensor, Tensor]:
    """Return x (batch, in) and prepared y of a table with targets.

    The model has the table's schema; for a pruned model, the table is reduced to its features.
    """
    if table.y is None:
        raise DataError(call, "a table with the target", "none", "Add its column")
    x, y, task = table.keep(model.feature_names).x, table.y, model.task
    if task == "classification" and model.class_labels:
        y = codes_of_model(model, table.schema, y, call=call)
    elif task != table.schema.task:
        got, advice = f"a target for {table.schema.task}", "Read the table with {task}"
        raise DataError(call, f"a target for {task}", got, advice, task=task)
    return model.prepare(x, call=call), prepare_target(model, y, table.rows, call=call)
