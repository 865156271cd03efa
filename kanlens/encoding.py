"""Adapt rows and targets of any accepted kind to a model.

The model takes over what the data knows: names, units, kinds, task and classes.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import check_finite, check_magnitude, check_rows, warn_of_distant
from kanlens.data.cell_parsing import PLAIN_NUMBERS, Column, check_dense, listed, unmasked
from kanlens.data.column_types import class_labels, is_classes
from kanlens.data.columns import ColumnRoles
from kanlens.data.schema import Schema, class_schema, default_schema
from kanlens.data.source import Source
from kanlens.data.table_reader import read_columns
from kanlens.data.tables import Table
from kanlens.errors import DataError, KanlensWarning, ShapeError
from kanlens.model.network import KAN
from kanlens.model.recording import store_statistics
from kanlens.model.statistics import deviations


def prepare_data(
    model: KAN, data: Table | tuple[Any, Any], *, constant: bool = True
) -> tuple[Tensor, Tensor]:
    """Return x (batch, in) and y ready for training, and give the model the table's schema.

    Unless its features have the names they are born with (x1, x2, ...), they are looked up in the
    table by name. Returns y as `prepare_target` does. Targets that do not vary are warned of, and
    refused unless all of them may be `constant`.
    """
    x, y = _prepared(model, data, trained=False)
    if y is None:
        raise DataError("fit", "a table with a target", "none", "Name its column in read_table")
    numbered = data.frame.index if isinstance(data, Table) else range(len(x))
    check_rows("fit", x, least=2)
    check_magnitude("fit", x, model.feature_names, numbered)
    if model.task == "regression":
        check_magnitude("fit", y, model.output_names, numbered)
        varying = (deviations(y) > 0).tolist()
        for name, varies in zip(model.output_names, varying, strict=True):
            if not varies:
                got = f"{name!r} without any that is more than rounding"
                advice = "Choose another target, or take its mean off first"
                fields = "fit", "targets with differences", got, advice
                if not (constant or any(varying)):
                    raise DataError(*fields)
                warnings.warn(KanlensWarning(*fields), stacklevel=3)
        warn_of_distant("fit", model.output_names, y, list(numbered))
    return x, y


def needed_widths(data: Any) -> tuple[int, int]:
    """Return how many features and outputs a network for such data has; two classes have one."""
    import pandas as pd

    if isinstance(data, (Table, Source)):
        return len(data.schema.features), max(1, len(data.schema.outputs))  # none is refused later
    model = KAN([1, 1], generator=torch.Generator())  # torch's own is left alone
    if not (isinstance(data, (tuple, list)) and len(data) == 2):
        _prepared(model, data, trained=False)  # refuses them
    x, y = data
    table = read_columns(x, ColumnRoles(), call="fit").x if hasattr(x, "columns") else x
    shape = tuple(np.shape(table))
    if len(shape) != 2:
        raise ShapeError("fit", "x of shape (batch, in)", str(shape), "Reshape it")
    if not _holds_labels(model, y.detach().cpu().numpy() if isinstance(y, Tensor) else y):
        return shape[1], np.shape(y)[1] if len(np.shape(y)) == 2 else 1
    labels = Column(name="y", cells=pd.Series(np.asarray(y).ravel()), call="fit", target=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which come when the labels are read
        count = len(class_labels(labels, asked=True))
    return shape[1], count if count > 2 else 1


def adopt_data(model: KAN, data: Table | tuple[Any, Any]) -> None:
    """Give a model that is trained already what training on the data would have given it.

    These are names, units, kinds, task and classes, statistics of every layer, and background rows;
    weights and scaling stay, and without a target the task. Two classes may have one output or two;
    outputs that are named as the classes say in which order these are.

    Examples
    --------
    >>> model = KAN([1, 2], output_names=["low", "high"])
    >>> adopt_data(model, ([[0.0], [1.0], [2.0]], ["low", "low", "high"]))
    >>> model.class_labels, model.output_names, len(model.background)
    (('low', 'high'), ('y=low', 'y=high'), 3)
    """
    store_statistics(model, _prepared(model, data, trained=True)[0])


def _prepared(
    model: KAN, data: Table | tuple[Any, Any], *, trained: bool
) -> tuple[Tensor, Tensor | None]:
    if isinstance(data, Table):
        x, y = _adopt_features(model, data, trained), data.y
        y = None if y is None else _adopt_target(model, data.schema, y, trained)
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        x, y = data
        x, y = _rows(model, x, trained), _labelled(model, y, trained)
    else:
        expected, got = "to be a Table or a pair (x, y)", type(data).__name__
        advice = "Pass (x, y), or what read_table returns"
        raise DataError("fit", expected, got, advice, argument="data")
    rows = model.prepare(x, call="fit").detach()
    check_rows("fit", rows)
    return rows, None if y is None else prepare_target(model, y, len(rows), call="fit")


def _rows(model: KAN, x: Any, trained: bool) -> Any:
    """Return x; a frame without the model's columns is read as a table when they are unnamed."""
    if not hasattr(x, "columns") or not _unnamed(model):
        return x
    if set(model.feature_names) <= {str(name) for name in x.columns}:
        return x
    return _adopt_features(model, read_columns(x, ColumnRoles(), call="fit"), trained)


def _unnamed(model: KAN) -> bool:
    """Tell whether the features still have the names they are born with."""
    return model.schema.features == default_schema(model.widths[0], 1).features


def _adopt_features(model: KAN, table: Table, trained: bool) -> Tensor:  # (batch, in)
    """Return the columns of a table that the model takes, and give it their schema."""
    if trained and len(table.feature_names) > len(model.feature_names):  # none marks missing cells
        table = table.keep([one.name for one in table.schema.features if one.kind != "missing"])
    known, wanted = table.feature_names, model.feature_names
    missing = [name for name in wanted if name not in known]
    if missing and len(known) != len(wanted):
        expected = f"{_counted(len(wanted), 'feature')}, as the model has"
        got = f"{len(known)} ({listed(known)})"
        changes = [f"Build the model with {_counted(len(known), 'input')}"]
        if any(one.kind == "missing" for one in table.schema.features):
            changes.append("fill missing cells with read_table(..., {impute})")
        if trained:
            order = "in the order of its inputs"
            changes = [f"Name the target, and the columns it was trained on, {order}"]
        raise ShapeError("fit", expected, got, *changes, impute="median")
    if missing and not _unnamed(model):
        expected = f"the model's features {listed(wanted)}"
        advice = "Rename the columns, or build another model"
        raise DataError("fit", expected, f"a table without {missing[0]!r}", advice)
    picks = list(range(len(known))) if missing else [known.index(name) for name in wanted]
    features = tuple(table.schema.features[index] for index in picks)
    model.schema = dataclasses.replace(model.schema, features=features, format=table.schema.format)
    return table.x[:, picks]


def codes_of_model(model: KAN, schema: Schema, y: Tensor, *, call: str) -> Tensor:
    """Return the class codes (rows,) of a table with `schema` in the codes of a model.

    Examples
    --------
    >>> labels = {"outputs": (), "features": (), "task": "classification"}
    >>> model = KAN([1, 3])
    >>> model.schema = Schema(**labels, class_labels=("a", "b", "c"))
    >>> table = Schema(**labels, class_labels=("a", "c"))
    >>> codes_of_model(model, table, torch.tensor([0, 1]), call="fit")
    tensor([0, 2])
    """
    known = model.class_labels
    other = [label for label in schema.class_labels if label not in known]
    if other or not schema.class_labels:
        got = repr(other[0]) if other else "numbers"
        expected = f"the model's classes {listed(known)}"
        raise DataError(call, expected, got, "Correct the target, or build another model")
    return torch.tensor([known.index(label) for label in schema.class_labels])[y]


def _adopt_target(model: KAN, schema: Schema, y: Tensor, trained: bool) -> Tensor:
    """Return y in the codes of the model; one without class labels takes those of the data."""
    if model.class_labels:
        return codes_of_model(model, schema, y, call="fit")
    if trained and schema.class_labels:
        known, schema = schema.class_labels, _in_order_of(model.output_names, schema)
        y = torch.tensor([schema.class_labels.index(label) for label in known])[y]
    if len(schema.outputs) != len(model.schema.outputs):
        expected = f"{_counted(len(model.schema.outputs), 'output')}, as the model has"
        found = len(schema.outputs)
        whose = f" for the classes {listed(schema.class_labels)}" if schema.class_labels else ""
        advice = f"Build the model with {_counted(found, 'output')}"
        if trained:
            advice = "Name as many target columns, or a target with as many classes"
        raise ShapeError("fit", expected, f"{found}{whose}", advice)
    inputs = model.schema
    model.schema = dataclasses.replace(schema, features=inputs.features, format=inputs.format)
    return y


def _in_order_of(names: Sequence[str], schema: Schema) -> Schema:
    """Return a schema with its classes in the order of outputs, where these are named as classes.

    Two classes may have one output, which is for the second, or one each.
    """
    labels = schema.class_labels
    if set(names) == set(labels):
        labels = tuple(names)
    elif len(labels) == 2 and len(names) == 1 and names[0] == labels[0]:
        labels = labels[::-1]
    elif len(names) == len(labels) and names != default_schema(1, len(names)).output_names:
        expected = f"outputs named by the classes {listed(labels)}"
        advice = "Name them in the order of the outputs, or leave the names out"
        raise DataError("fit", expected, listed(names), advice)
    return class_schema(schema.target or "y", labels, logits=len(names))


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def _labelled(model: KAN, y: Any, trained: bool) -> Any:
    """Return y, as class codes when it holds labels: text, truth values, or one code per row."""
    check_dense(y, "fit", "y")
    if model.task == "classification" and model.class_labels:
        return y
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else y
    if not _holds_labels(model, values):
        return y
    import pandas as pd

    cells = np.asarray(values).ravel()
    if np.ndim(values) == 2 and np.shape(values)[1] > 1:
        got = f"{np.shape(values)[1]} columns of labels or truth values"
        advice = "Pass one label for each row; y.idxmax('columns') undoes pandas.get_dummies"
        raise ShapeError("fit", "y to be numbers, or one column of classes", got, advice)
    frame = pd.DataFrame({"x": 0.0, "y": cells})
    Column(name="y", cells=frame["y"], call="fit", target=True).refuse_missing()
    table = read_columns(frame, ColumnRoles(target="y", task="classification"), call="fit")
    schema, codes = table.schema, cast("Tensor", table.y)  # which the frame has
    count = len(model.output_names)
    if count > 2 and cells.dtype.kind in "iu" and cells.min() >= 0 and cells.max() < count:
        schema = class_schema("y", [str(code) for code in range(count)])  # not all need to occur
        codes = torch.from_numpy(cells.astype(np.int64))
    return _adopt_target(model, schema, codes, trained)


def _holds_labels(model: KAN, values: Any) -> bool:
    import pandas as pd

    array = np.asarray(values)
    coded = isinstance(getattr(values, "dtype", None), pd.CategoricalDtype)
    if array.dtype.kind in "iu" and not coded:
        return array.ndim == 1 and len(model.output_names) > 1
    if array.dtype.kind not in "OUSb" and not coded:
        return False
    cells = values if coded else pd.Series(array.ravel())
    found = pd.api.types.infer_dtype(cells, skipna=True)
    if found == "string" and array.ndim == 1 and len(model.output_names) > 1:
        return True
    if found in PLAIN_NUMBERS and found != "boolean":
        return False
    return is_classes(Column(name="y", cells=cells, call="fit", target=True))


def prepare_target(model: KAN, y: Any, n_rows: int, *, call: str) -> Tensor:
    """Return y as the loss takes it: (batch, out) for regression, (batch,) codes for classes.

    It is given in the units of the data, or as class labels or their codes. Where labels are
    numbers, a Tensor is read as codes if it can be, anything else as labels.
    """
    check_dense(y, call, "y")
    if model.task == "classification":
        return _codes(model, y, n_rows, call)
    if not isinstance(y, Tensor):
        array = np.array(unmasked(y))  # a copy: torch warns of arrays that are read-only
        if array.dtype.kind not in "fiub":
            array = model.schema.encode_target(array, call=call)
        y = torch.as_tensor(array)
    values: Tensor = y.detach().to(model.input_shift)
    if values.dim() == 1:
        values = values.unsqueeze(1)
    expected = (n_rows, len(model.output_names))
    if tuple(values.shape) != expected:
        advice = "Give one target per row and output"
        raise ShapeError(call, f"y of shape {expected}", str(tuple(y.shape)), advice)
    check_finite(call, values, model.output_names)
    return values


def encode_labelled(model: KAN, table: Table, *, call: str) -> tuple[Tensor, Tensor]:
    """Return x (batch, in) and y of a table with targets, as `prepare_target` returns them.

    The model has the table's schema; a pruned one finds its features in the table by name.
    """
    if table.y is None:
        raise DataError(call, "a table with the target", "none", "Add its column")
    x, y = table.keep(model.feature_names).x, table.y
    if model.task == "classification" and model.class_labels:
        y = codes_of_model(model, table.schema, y, call=call)
    elif model.task != table.schema.task:
        got, advice = f"a target for {table.schema.task}", "Read the table with {task}"
        raise DataError(call, f"a target for {model.task}", got, advice, task=model.task)
    return model.prepare(x, call=call), prepare_target(model, y, table.rows, call=call)


def _codes(model: KAN, y: Any, n_rows: int, call: str) -> Tensor:
    """Return y as class codes, read as codes or as labels."""
    given = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if given.size != n_rows:
        raise ShapeError(call, f"{n_rows} labels", str(given.size), "Give one label per row")
    cells = given.ravel()
    numbers = cells.dtype.kind in "fiu"
    count = max(2, len(model.output_names))
    valid = [c in range(count) for c in cells.tolist()] if numbers else []
    labels = model.class_labels
    if not numbers or (labels and not (isinstance(y, Tensor) and all(valid))):
        try:
            codes = torch.from_numpy(model.schema.encode_target(cells, call=call))
            return codes.to(model.input_shift.device)
        except DataError:
            if not numbers:
                raise
    if not all(valid):
        row = valid.index(False)
        got, advice = f"{cells[row]} in row {row}", "Recode the labels"
        raise DataError(call, f"class codes from 0 to {count - 1}", got, advice)
    return torch.from_numpy(cells.astype(np.int64)).to(model.input_shift.device)
