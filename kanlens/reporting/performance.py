"""How well the model predicts: numbers only, as plain JSON types."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kanlens.reporting.subject import Subject

Array = np.ndarray[Any, np.dtype[Any]]
BINS = 10  # of a calibration curve
CURVE = 101  # points kept of a ROC curve


def measure_performance(subject: Subject) -> dict[str, Any] | None:
    """Compare the model with the targets; None when there are none.

    Parameters
    ----------
    subject : Subject
        Model, rows and targets.

    Returns
    -------
    dict or None
        For regression "outputs", one record per output; for classification the scores of all
        classes together, "classes", one record per class, "confusion" (true x predicted) and
        "calibration".
    """
    if subject.y is None:
        return None
    output = subject.output.double().cpu().numpy()
    y = subject.y.double().cpu().numpy()
    if subject.model.task == "classification":
        return _classification(subject, probabilities(subject), y.astype(int))
    outputs = subject.model.schema.outputs
    found = [
        {"name": one.name, "unit": one.unit, **_regression(y[:, i], output[:, i])}
        for i, one in enumerate(outputs)
    ]
    r2 = [record["r2"] for record in found]
    mean = None if None in r2 else float(np.mean(r2))
    return {"task": "regression", "rows": subject.rows, "r2": mean, "outputs": found}


def probabilities(subject: Subject) -> Array:
    """Return the probability of every class, shape (rows, classes)."""
    logits = subject.output.double().cpu()
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return np.asarray(torch.softmax(logits, dim=1).numpy())


def _regression(y: Array, output: Array) -> dict[str, Any]:
    error = output - y
    spread = float(np.square(y - y.mean()).sum())
    constant = spread <= 1e-24 * float(np.square(y).sum())
    return {
        "r2": None if constant else float(1 - np.square(error).sum() / spread),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "mae": float(np.abs(error).mean()),
        "median_absolute_error": float(np.median(np.abs(error))),
        "largest_error": float(np.abs(error).max()),
        "mean_error": float(error.mean()),
        "deviation_of_target": float(y.std()),
        "low": float(y.min()),
        "high": float(y.max()),
    }


def _classification(subject: Subject, chances: Array, y: Array) -> dict[str, Any]:
    count = chances.shape[1]
    guess = chances.argmax(1)
    if subject.output.shape[1] == 1:  # at equal chances the first class, as in training
        guess = (subject.output[:, 0] > 0).long().cpu().numpy()
    confusion = np.zeros((count, count), dtype=np.int64)
    np.add.at(confusion, (y, guess), 1)
    classes = [
        {"label": label, **_one_class(confusion, code), **_ranking(y == code, chances[:, code])}
        for code, label in enumerate(subject.labels)
    ]
    known = [record["auc"] for record in classes if record["auc"] is not None]
    own = np.clip(chances[np.arange(len(y)), y], np.finfo(float).tiny, 1)
    sure = chances[:, 1] if count == 2 else chances.max(1)
    hit = y == 1 if count == 2 else y == guess
    return {
        "task": "classification",
        "rows": subject.rows,
        "accuracy": float((guess == y).mean()),
        "majority_share": float(confusion.sum(1).max() / len(y)),
        "balanced_accuracy": _mean([record["recall"] for record in classes]),
        "auc": float(np.mean(known)) if known else None,
        "log_loss": float(-np.log(own).mean()),
        "brier": float(np.square(chances - np.eye(count)[y]).sum(1).mean()),
        "classes": classes,
        "confusion": confusion.tolist(),
        "calibration": {
            "of": f"probability of {subject.labels[1]}" if count == 2 else "highest probability",
            "bins": _calibration(sure, hit),
        },
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _one_class(confusion: Array, code: int) -> dict[str, Any]:
    hits = int(confusion[code, code])
    truly, said = int(confusion[code].sum()), int(confusion[:, code].sum())
    both = truly + said
    return {
        "rows": truly,
        "predicted": said,
        "precision": hits / said if said else None,
        "recall": hits / truly if truly else None,
        "f1": 2 * hits / both if both else None,
    }


def _ranking(is_class: Array, chance: Array) -> dict[str, Any]:
    """Return the area under the ROC curve of one class against the rest, and the curve."""
    if is_class.all() or not is_class.any():
        return {"auc": None, "roc": []}
    from sklearn.metrics import roc_auc_score, roc_curve

    false, true, _ = roc_curve(is_class, chance)
    picks = np.unique(np.linspace(0, len(false) - 1, min(len(false), CURVE)).round().astype(int))
    points = np.stack([false[picks], true[picks]], axis=1)
    return {"auc": float(roc_auc_score(is_class, chance)), "roc": points.tolist()}


def _calibration(chance: Array, hit: Array) -> list[dict[str, Any]]:
    """Return, for rows of like predicted probability, that probability and what came true."""
    place = np.clip((chance * BINS).astype(int), 0, BINS - 1)
    found = []
    for index in range(BINS):
        inside = place == index
        if inside.any():
            record = {"predicted": chance[inside].mean(), "observed": hit[inside].mean()}
            found.append({**{k: float(v) for k, v in record.items()}, "rows": int(inside.sum())})
    return found


def row_losses(subject: Subject) -> Array | None:
    """Return how wrong each row is: |error| of the target output, or -log of its class's chance."""
    if subject.y is None:
        return None
    if subject.model.task == "classification":
        chances = probabilities(subject)
        codes = subject.y.cpu().numpy().astype(int)
        own = chances[np.arange(len(chances)), codes]
        return np.asarray(-np.log(np.clip(own, np.finfo(float).tiny, 1)))
    error = subject.output[:, subject.target] - subject.y[:, subject.target]
    return np.asarray(error.abs().double().cpu().numpy())
