"""The model and data of a report, and the performance of the model."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kanlens._checks import check_rows
from kanlens._model_inputs import prepare_target
from kanlens._plain_json import to_plain
from kanlens.attribution._problem import PART, explained_output
from kanlens.data._schema import default_schema
from kanlens.data._table_reader import read_features
from kanlens.data._tables import Table
from kanlens.errors import KanlensError, MethodError
from kanlens.model._held_out import current_held_out, probabilities
from kanlens.model._network import KAN
from kanlens.model._training_record import row_hashes
from kanlens.training._baselines import giveaways
from kanlens.training._exposures import with_targets
from kanlens.training._objective import classes, explained, score

Array = np.ndarray[Any, np.dtype[Any]]
BINS = 10  # of a calibration curve
CURVE = 101  # points kept of a ROC curve
ROUNDING = 1e-6  # relative to the largest target


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model and the data of its report."""

    model: KAN
    x: Tensor  # (rows, in), in the units of the data, in the model's dtype
    y: Tensor | None  # targets: (rows, out) for regression, (rows,) class codes otherwise
    output: Tensor  # (rows, out) of the model; logits for classification
    source: str  # name of the file, or "DataFrame", "arrays"
    names: tuple[Any, ...]  # of the rows in the source
    index: str | None  # name of the column with these names; None where rows are counted from 0
    target: int  # index of the output that is explained
    held_out: int | None  # number of rows held out of training, if known
    weights: Tensor | None = None  # (rows,) of the targets, such as exposures
    times: Tensor | None = None  # signed times (rows, 1) in place of targets

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.x)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, else their codes; empty for regression."""
        if self.model.task != "classification":
            return ()
        count = max(2, len(self.model.output_names))
        return self.model.class_labels or tuple(str(code) for code in range(count))

    @property
    def unit(self) -> str:
        """Unit of the output that is explained."""
        return self.model.output_unit(self.target)

    @property
    def predicted(self) -> Tensor:
        """Outputs in the units of the targets of a regression, shape (rows, out)."""
        return self.model.loss.response(self.output)

    @property
    def given_away(self) -> dict[str, float]:
        """Score of each column that alone predicts the target, as recorded in training if known."""
        if self.model.record is not None:
            return self.model.record.given_away
        return {} if self.y is None else giveaways(self.model.schema, self.x, self.y)

    @property
    def logits(self) -> Tensor:
        """One logit per class, shape (rows, classes), in float64 on the CPU."""
        logits = self.output.double().cpu()
        two = logits.shape[1] == 1
        return torch.cat([torch.zeros_like(logits), logits], dim=1) if two else logits

    @property
    def probabilities(self) -> Array:
        """Probability of every class, shape (rows, classes)."""
        return np.asarray(self.logits.softmax(1).numpy())


def read_subject(model: KAN, data: object, target: int | str | None) -> Subject:
    """Read data of any form, and run the model on them."""
    features, y, source, weights = _rows_of(model, data)
    x = model.prepare(features, call="report")
    check_rows("report", x, least=2)
    index = explained_output(model, target, x, call="report")
    rows: Any = getattr(data, "frame", data[0] if isinstance(data, tuple) else data)
    names: Any = rows.index if hasattr(rows, "iloc") else range(len(x))
    counted = list(names) == list(range(len(x)))
    targets = None if y is None else prepare_target(model, y, len(x), call="report")
    with torch.no_grad():
        output = torch.cat([model(part) for part in x.split(PART)])
    return Subject(
        model=model,
        x=x,
        y=targets if model.loss.separable else None,  # hazards are not errors of times
        output=output,
        source=source,
        names=tuple(int(k) if isinstance(k, int | np.integer) else str(k) for k in names),
        index=None if counted else str(names.name or ""),
        target=index,
        held_out=_held_out(model, data, x, targets),
        weights=None if weights is None else torch.as_tensor(weights),
        times=None if model.loss.separable else targets,
    )


def _held_out(model: KAN, data: Any, x: Tensor, y: Tensor | None) -> int | None:
    """Return the number of rows that were held out of training, if known."""
    record, frame = model.record, getattr(data, "frame", data)
    if record is None or y is None:
        return None
    if record.features != model.schema.features:
        if isinstance(frame, tuple | Tensor):
            return None
        try:
            whole = dataclasses.replace(model.schema, features=record.features)
            x = read_features(frame, whole, call="report").x
        except KanlensError:  # columns that the model dropped may be missing
            return None
    return record.count_held_out(row_hashes(x, y))


def _rows_of(model: KAN, data: Any) -> tuple[Any, Any, str, Any]:
    """Return x, y or None, their source, and weights or None."""
    if isinstance(data, tuple) and len(data) == 2:
        return data[0], data[1], "DataFrame" if hasattr(data[0], "iloc") else "arrays", None
    if not (isinstance(data, Table | str | os.PathLike) or hasattr(data, "iloc")):
        return data, None, "arrays", None
    table, plain = data, default_schema(model.widths[0], model.widths[-1])
    same = isinstance(data, Table) and data.feature_names == model.feature_names
    same = same and data.schema.class_labels == model.class_labels
    if not (same or (isinstance(data, Table) and model.schema == plain)):
        table = read_features(getattr(data, "frame", data), model.schema, call="report")
    table, weights = with_targets(model, table)
    return table.x, table.y, getattr(data, "source", table.source), weights


def spread(rows: int, most: int) -> Tensor:
    """Return at most `most` row positions, spread evenly over `rows`."""
    return torch.linspace(0, rows - 1, min(rows, most), dtype=torch.float64).round().long()


def subject_losses(subject: Subject) -> Array | None:
    """Return the loss (row,), absolute error or cross-entropy; None without targets."""
    if subject.y is None:
        return None
    if subject.model.task == "classification":
        codes = subject.y.long().cpu()
        return np.asarray(functional.cross_entropy(subject.logits, codes, reduction="none"))
    error = subject.predicted[:, subject.target] - subject.y[:, subject.target]
    return np.asarray(error.abs().double().cpu().numpy())


def wrong_rows(subject: Subject) -> Any:
    """Return the mask (row,) of wrong classes, or of nonzero errors."""
    y: Any = subject.y
    if subject.model.task == "classification":
        return (classes(subject.output) != y).cpu()
    y, output = (values[:, subject.target].double().cpu() for values in (y, subject.predicted))
    return (output - y).abs() > ROUNDING * y.abs().max()


def measure_performance(subject: Subject) -> dict[str, Any] | None:
    """Return scores of the model as plain JSON types; None without targets.

    For regression, "score" is that of the model's loss, "metric" its name (such as "D2") and
    "explained" what it is a share of; "outputs" has one record per output. Classification has one
    record per class in "classes", "confusion" (true x predicted) and "calibration".
    """
    loss, about = subject.model.loss, {"task": "regression", "rows": subject.rows}
    about |= {"metric": loss.metric, "explained": loss.measure}
    if subject.times is not None:
        value = score(subject.model, subject.output, subject.times)
        return {**about, "score": value, "r2": None, "outputs": []}
    if subject.y is None:
        return None
    if subject.model.task == "classification":
        return _classification(subject, subject.y.long().cpu().numpy())
    y, output = (values.double().cpu().numpy() for values in (subject.y, subject.predicted))
    records = [
        {"name": column.name, "unit": column.unit, **_regression(y[:, i], output[:, i])}
        for i, column in enumerate(subject.model.schema.outputs)
    ]
    r2 = [record["r2"] for record in records]
    parts = subject.output.double(), subject.y.double(), subject.weights
    scores = r2 if loss.linear else explained(subject.model, *parts).tolist()
    records = [record | {"score": own} for record, own in zip(records, scores, strict=True)]
    mean, whole = (None if None in own else float(np.mean(own)) for own in (r2, scores))
    return {**about, "score": whole, "r2": mean, "outputs": records}


def _regression(y: Array, output: Array) -> dict[str, Any]:
    from sklearn import metrics

    constant = np.square(y - y.mean()).sum() <= 1e-24 * np.square(y).sum()
    return {
        "r2": None if constant else float(metrics.r2_score(y, output)),
        "rmse": float(metrics.root_mean_squared_error(y, output)),
        "mae": float(metrics.mean_absolute_error(y, output)),
        "median_absolute_error": float(metrics.median_absolute_error(y, output)),
        "largest_error": float(metrics.max_error(y, output)),
        "mean_error": float((output - y).mean()),
        "deviation_of_target": float(y.std()),
        "low": float(y.min()),
        "high": float(y.max()),
    }


def _classification(subject: Subject, y: Array) -> dict[str, Any]:
    from sklearn import metrics

    chances = subject.probabilities
    losses: Any = subject_losses(subject)
    count, guess = chances.shape[1], classes(subject.output).cpu().numpy()
    codes: dict[str, Any] = {"labels": range(count)}
    scores = metrics.precision_recall_fscore_support(y, guess, zero_division=np.nan, **codes)
    precision, recall, f1, rows = to_plain(scores)
    records = [
        {
            "label": label,
            "rows": int(rows[code]),
            "predicted": int((guess == code).sum()),
            "precision": precision[code],
            "recall": recall[code],
            "f1": f1[code],
            **_ranking(y == code, chances[:, code]),
        }
        for code, label in enumerate(subject.labels)
    ]
    areas = [record["auc"] for record in records if record["auc"] is not None]
    return {
        "task": "classification",
        "rows": subject.rows,
        "accuracy": float(metrics.accuracy_score(y, guess)),
        "majority_share": max(rows) / len(y),
        "balanced_accuracy": float(np.nanmean(scores[1])),
        "auc": float(np.mean(areas)) if areas else None,
        "log_loss": float(losses.mean()),
        "brier": float(np.square(chances - np.eye(count)[y]).sum(1).mean()),
        "classes": records,
        "confusion": metrics.confusion_matrix(y, guess, **codes).tolist(),
        "calibration": {
            "of": f"probability of {subject.labels[1]}" if count == 2 else "highest probability",
            **_calibration(subject, chances, y),
        },
    }


def _ranking(is_class: Array, chance: Array) -> dict[str, Any]:
    """Return the ROC curve of a class against the rest, and its area."""
    if is_class.all() or not is_class.any():
        return {"auc": None, "roc": []}
    from sklearn.metrics import auc, roc_curve

    false, true, _ = roc_curve(is_class, chance)
    picks = spread(len(false), CURVE).numpy()
    return {"auc": float(auc(false, true)), "roc": np.stack([false, true], axis=1)[picks].tolist()}


def _calibration(subject: Subject, chances: Array, y: Array) -> dict[str, Any]:
    """Return bins of predicted probabilities and observed frequencies.

    If the model stores predictions of networks for rows held out of their training, these are used.
    """
    held_out = True
    try:
        logits, codes = current_held_out(subject.model, "report").arrays
        chances, y = probabilities(torch.from_numpy(logits)).numpy(), codes[:, 0].astype(int)
    except MethodError:
        held_out = False
    two = chances.shape[1] == 2
    chance, hit = (chances[:, 1], y == 1) if two else (chances.max(1), y == chances.argmax(1))
    place = np.clip((chance * BINS).astype(int), 0, BINS - 1)
    rows, expected, true = (np.bincount(place, weights, BINS) for weights in (None, chance, hit))
    bins = [
        {"predicted": expected[i] / rows[i], "observed": true[i] / rows[i], "rows": int(rows[i])}
        for i in np.flatnonzero(rows)
    ]
    return {"bins": bins, "held_out": held_out}
