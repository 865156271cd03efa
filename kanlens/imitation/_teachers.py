"""Models of any kind as functions of rows, for a network to imitate.

A classifier's outputs are log-odds: for two classes those of the second, for more the logarithms of
the probabilities minus their mean over the classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from kanlens._checks import check_finite, optional_module
from kanlens._lazy import pd
from kanlens.data._cell_parsing import Array, listed, parse_dates
from kanlens.errors import (
    DataError,
    DTypeError,
    FileFormatError,
    KanlensError,
    ShapeError,
    rewording,
)
from kanlens.io._checkpoint import check_file

LEAST = 1e-3  # probability of a class: those of trees and forests may be 0, without log-odds
TYPES = {  # of an ONNX input; others are float32
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(string)": np.object_,
}


@dataclass(frozen=True)
class Teacher:
    """A model to imitate: its name, class labels, if any, and the function from rows to outputs."""

    name: str
    labels: tuple[str, ...]
    call: Callable[[pd.DataFrame], object]

    def __call__(self, rows: pd.DataFrame) -> Tensor:
        """Return the outputs (batch, out): predictions, or log-odds of classes."""
        raw, count = self.call(rows), len(self.labels)
        raw = raw.detach().cpu().numpy() if isinstance(raw, Tensor) else raw
        try:
            outputs = np.array(raw, dtype=np.float64)
            outputs = outputs[:, None] if outputs.ndim == 1 else outputs
            if count and outputs.shape[1:] == (1,):
                outputs = np.concatenate([1 - outputs, outputs], 1)
            fits = outputs.shape == (len(rows), count or outputs.shape[-1])
        except (TypeError, ValueError, IndexError):
            fits = False
        if not fits:
            each = f"{len(rows)} rows" + f" and {count} classes" * bool(count)
            got = f"{type(raw).__name__} of shape {np.shape(cast('Array', raw))}"
            advice = "For a classifier, pass its predict_proba and class_labels"
            raise DataError("imitate", f"numbers for {each} from the model", got, advice)
        with rewording("imitate", part="outputs of the model"):
            check_finite("imitate", torch.from_numpy(outputs))
        return torch.from_numpy(log_odds(outputs) if self.labels else outputs)


def log_odds(shares: Array) -> Array:
    """Return the log-odds (batch, 1) of two classes, or (batch, classes) of more.

    Examples
    --------
    >>> log_odds(np.array([[0.5, 0.5], [0.0, 1.0]])).round(2).tolist()
    [[0.0], [6.91]]
    """
    logs = np.log(np.clip(shares, LEAST, 1 - LEAST))
    centered = logs - logs.mean(1, keepdims=True)
    return np.asarray(logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else centered)


def read_teacher(
    model: object,
    first: pd.DataFrame,
    form: Callable[[pd.DataFrame], object],
    labels: Sequence[object] | None,
    dates: Mapping[str, bool],
) -> Teacher:
    """Return a model, or the one in a file, as a teacher.

    `first` are a few rows; `form` converts rows to the type that the user passed; `dates` are the
    columns of dates, and whether their texts begin with the day.
    """
    own, name = tuple(map(str, labels or ())), _name(model)
    if isinstance(model, str | Path):
        return _read_onnx(Path(model), first, own, dates)
    if isinstance(model, nn.Module):
        module = model
        return Teacher(name, own, lambda rows: _run_module(module, rows))
    call = getattr(model, "predict_proba", None)
    if call is not None:
        own = own or tuple(map(str, getattr(model, "classes_", ())))
    elif hasattr(model, "classes_"):
        expected, got = "a classifier with predict_proba", f"{name} without"
        advice = "Wrap it in CalibratedClassifierCV, or pass its decision_function"
        raise DTypeError("imitate", expected, got, advice)
    else:
        call = model if inspect.isroutine(model) else getattr(model, "predict", model)
    if not callable(call):
        advice = "Pass a fitted model, a function, or an .onnx file"
        raise DTypeError("imitate", "a model that predicts", name, advice)
    return Teacher(name, own, lambda rows: call(form(rows)))


def _name(model: object) -> str:
    """Return the name of a file, function or class; for a pipeline, of its last step."""
    if isinstance(model, str | Path):
        return Path(model).name
    if steps := getattr(model, "steps", None):
        return _name(steps[-1][1])
    return str(getattr(model, "__name__", type(model).__name__)).replace("<lambda>", "function")


@torch.no_grad()
def _run_module(module: nn.Module, rows: pd.DataFrame) -> object:
    """Return the outputs of a module for rows in the dtype of its weights."""
    weights = [part for part in module.parameters() if part.is_floating_point()]
    training = [part for part in module.modules() if part.training]
    x = torch.from_numpy(_numbers(rows)).to(weights[0] if weights else torch.zeros(()))
    module.eval()
    try:
        return module(x)
    finally:
        for part in training:
            part.training = True


def _numbers(rows: pd.DataFrame) -> Array:
    """Return the cells (batch, in) of rows as numbers."""
    try:
        return np.array(rows, dtype=np.float64, order="C")
    except (TypeError, ValueError):
        names = [str(name) for name, kind in rows.dtypes.items() if kind.kind not in "biuf"]
        expected, got = "columns of numbers", f"other cells in {listed(names)}"
        advice = (
            "Encode them as the numbers that the model takes",
            "drop columns that it does not take",
            "pass a function that encodes them",
        )
        raise DataError("imitate", expected, got, *advice) from None


def _read_onnx(
    path: Path, first: pd.DataFrame, labels: tuple[str, ...], dates: Mapping[str, bool]
) -> Teacher:
    """Return an ONNX model as a teacher: its output of probabilities if any, else its first."""
    if path.suffix != ".onnx":
        advice = "Load it in Python, and pass the model to kanlens.imitate"
        raise FileFormatError("imitate", "an .onnx file", repr(path.name), advice)
    runtime = optional_module("onnxruntime", call="imitate", extra="export")
    check_file(path, call="imitate")

    def run(rows: pd.DataFrame) -> Array | list[dict[object, float]]:
        inputs = [(part.name, part.type, part.shape[-1]) for part in session.get_inputs()]
        return cast("Array", session.run((shares or names)[:1], _feed(rows, inputs, dates))[0])

    try:
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        shares = [name for name in names if "prob" in name]
        answer = run(first)
    except KanlensError:
        raise
    except Exception as error:  # errors of ONNX Runtime have no public base class
        got = f"{path.name!r}: {str(error).splitlines()[0]}"
        expected, advice = "an ONNX model that runs on these rows", "Compare its inputs with them"
        raise FileFormatError("imitate", expected, got, advice) from error
    if isinstance(answer, list):  # probabilities by class, for each row
        own = tuple(map(str, answer[0]))
        return Teacher(path.name, own, lambda rows: [[*row.values()] for row in run(rows)])
    count = max(2, answer.shape[-1]) if shares else 0
    return Teacher(path.name, labels or tuple(map(str, range(count))), run)


def _feed(
    rows: pd.DataFrame, inputs: Sequence[tuple[str, str, object]], dates: Mapping[str, bool]
) -> dict[str, Array]:
    """Return the inputs of an ONNX model: all columns as one array, or one input per column.

    A date with an input of its own is days since 1970-01-01, as exported networks take it, or text.
    """
    names, (first, _, width), feed = list(map(str, rows.columns)), inputs[0], dict[str, Array]()
    wide = isinstance(width, int) and width > 1  # an input `x` is not a column of that name
    whole = len(inputs) == 1 and (wide or first not in names)
    if whole and isinstance(width, int) and width != len(names):
        got = f"{len(names)} ({listed(names)})"
        advice = "Drop columns that are not features, such as the target"
        raise ShapeError("imitate", f"{width} columns, as the model has", got, advice)
    for name, kind, _ in inputs:
        if not whole and name not in names:
            raise DataError("imitate", f"a column {name!r}", f"columns {listed(names)}", "Add it")
        cells = rows if whole else rows.iloc[:, [names.index(name)]]
        if kind == "tensor(string)":
            values = cells.astype(str).to_numpy()
        else:
            values = _numbers(cells if whole else cells.apply(_in_days, dates=dates))
        feed[name] = values.astype(TYPES.get(kind, np.float32))
    return feed


def _in_days(column: pd.Series, dates: Mapping[str, bool]) -> pd.Series:
    if column.name not in dates:
        return column
    since = parse_dates(column, dates[str(column.name)]) - pd.Timestamp(0)
    return since.dt.total_seconds() / 86400
