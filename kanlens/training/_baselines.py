"""Scores of baseline models, and detection of columns that leak the target."""

from __future__ import annotations

import base64
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from kanlens._checks import optional_module
from kanlens._model_inputs import encode_labelled
from kanlens._runtime import Interruption
from kanlens.data._cell_parsing import Array
from kanlens.data._groups import row_groups
from kanlens.data._schema import Schema
from kanlens.data._tables import Table
from kanlens.model._losses import Loss
from kanlens.model._network import KAN
from kanlens.model._training_record import SCORED, TrainingRecord, fingerprint, row_hashes
from kanlens.training._objective import score
from kanlens.training._result import FitResult

MAX_ROWS = 100_000  # to train baselines on
BOOSTED, MACHINES = ("boosting", "ebm"), "interpret.glassbox"
MAX_BOOSTING_WIDTH = 500  # features times outputs above which boosting would take minutes
LEAST = 1e-12  # mean that a baseline predicts
LEAK_SCORE = 0.995  # least score of a column that leaks the target
MIN_TEST_ROWS, MAX_TEST_ROWS = 20, 20_000  # to score a column on

REGRESSORS = {
    "network": "this model",
    "mean": "the mean",
    "linear": "a linear model",
    "boosting": "gradient boosting",
}
CLASSIFIERS = REGRESSORS | {"mean": "the most frequent class", "linear": "logistic regression"}

Splits = list[tuple[Tensor, Tensor]]  # indices of training and test rows


def add_record(
    result: FitResult, training: Table, test: Table | None, *, last: bool = False
) -> None:
    """Record in a network its scores and those of baseline models."""
    stop, model = Interruption(), result.model
    with stop.kept():
        parts = [encode_labelled(model, part, call="train") for part in (training, test) if part]
        x, y = map(torch.cat, zip(*parts, strict=True))
        model.record = training_record(result, x, y, training.rows, last=last)
    stop.warn("train", "The model is kept, without scores of simple models")


def training_record(
    result: FitResult, x: Tensor, y: Tensor, first: int, *, last: bool = False
) -> TrainingRecord:
    """Return the scores of a network, and of baselines trained on the first `first` rows."""
    model, network, folds = result.model, result.metric, result.folds
    unseen = result.held_out if folds is None else result.held_out[:0]
    rows, tests, splits = torch.arange(first), torch.arange(first, len(x)), Splits()
    if len(tests) and (last or (folds is None and not len(unseen))):
        splits = [(rows, tests)]
        with torch.no_grad():
            network = score(model, model(x[tests]), y[tests])
    elif folds is not None:
        splits = [(rows[folds != fold], rows[folds == fold]) for fold in folds.unique()]
    elif len(unseen):
        splits = [(rows[~torch.isin(rows, unseen)], unseen)]
    unseen = torch.cat((unseen, tests))
    scores = {"network": network, **baseline_scores(model, x, y, splits)} if splits else {}
    hashes = np.sort(row_hashes(x[unseen], y[unseen]))
    return TrainingRecord(
        metric=result.metric_name,
        scores={key: value if math.isfinite(value) else None for key, value in scores.items()},
        rows=sum(len(judged) for _, judged in splits),
        folds=len(splits),
        features=model.schema.features,
        held_out=base64.b64encode(hashes.tobytes()).decode(),
        given_away=giveaways(model.schema, x[:first], y[:first]),
        weights=fingerprint(model.state_dict().values()),
    )


def named_scores(metric: str, scores: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Return the scores of a network and of baselines, each with its name in words."""
    names = CLASSIFIERS if metric == "accuracy" else REGRESSORS
    names = {**names, "mean": "a constant"} if metric == "D2" else names
    return [{"name": names[key], "score": scores[key]} for key in names if key in scores]


def poor_fit(models: list[dict[str, Any]]) -> str:
    """Return a sentence if a constant predicts new rows as well, else ""."""
    scored = [model for model in models[:2] if model["score"] is not None]
    if len(scored) < 2 or scored[0]["score"] > scored[1]["score"]:
        return ""
    return f"On rows that training had not seen, {scored[1]['name']} predicts as well."


def baseline_scores(
    model: KAN, x: Tensor, y: Tensor, splits: Splits, names: Sequence[str] = SCORED[1:]
) -> dict[str, float]:
    """Return scores of baseline models by name."""
    loss, classifies = model.loss, model.loss.classes
    if not loss.separable or loss.levels:
        return {}
    x = x.detach().clamp(model.input_low, model.input_high)  # as the network does
    rows, targets = x.double().cpu().numpy(), y.cpu().numpy().reshape(len(y), -1)
    truth = y[torch.cat([judged for _, judged in splits])].cpu()
    estimators, scores = _baselines(loss, names), {}
    if rows.shape[1] * len(model.output_names) > MAX_BOOSTING_WIDTH:
        estimators = {name: own for name, own in estimators.items() if name not in BOOSTED}
    with threadpool_limits(1, "openmp"):  # more threads wait for each other on a busy machine
        for name, estimator in estimators.items():
            parts = [
                np.column_stack([_predict(estimator, rows, column, *split) for column in targets.T])
                for split in splits
            ]
            outputs = torch.from_numpy(np.concatenate(parts))
            if classifies:
                scores[name] = float((outputs[:, 0] == truth).double().mean())
            else:
                outputs = outputs.clamp_min(LEAST).log() if loss.log else outputs
                scores[name] = score(model, outputs, truth)
    return scores


def _predict(estimator: Any, x: Array, y: Array, learned: Tensor, judged: Tensor) -> Array:
    """Return predictions of rows `judged` after a fit to rows `learned`."""
    rows = learned[:: 1 + len(learned) // MAX_ROWS].numpy()
    if (y[rows] == y[rows][0]).all():
        return np.full(len(judged), y[rows][0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fit that has not quite converged
        return np.asarray(estimator.fit(x[rows], y[rows]).predict(x[judged.numpy()]))


def _baselines(loss: Loss, names: Sequence[str]) -> dict[str, Any]:
    from sklearn import dummy, ensemble, linear_model
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = "Classifier" if loss.classes else "Regressor"
    boosting = getattr(ensemble, f"HistGradientBoosting{kind}")(random_state=0)
    linear, constant = linear_model.LinearRegression(), getattr(dummy, f"Dummy{kind}")()
    if loss.classes:
        linear = linear_model.LogisticRegression(max_iter=1000)
    elif loss.log:
        way: dict[str, Any] = {"link": "log", "alpha": 0.0, "max_iter": 1000}
        linear = linear_model.TweedieRegressor(power=loss.parameter, **way)
        boosting.set_params(loss="gamma" if loss.name == "gamma" else "poisson")
    elif not loss.linear:
        linear = linear_model.HuberRegressor(max_iter=1000)
        boosting.set_params(loss="quantile", quantile=loss.parameter)
        constant.set_params(strategy="quantile", quantile=loss.parameter)
    estimators = {
        "mean": constant,
        "linear": make_pipeline(StandardScaler(), linear),
        "boosting": boosting,
    }
    if loss.name == "quantile":
        del estimators["linear"]
    if "ebm" in names:
        glassbox = optional_module(MACHINES, call="frontier", extra="bench")
        estimators["ebm"] = getattr(glassbox, f"ExplainableBoosting{kind}")(random_state=0)
    return {name: estimators[name] for name in names if name in estimators}


def giveaways(schema: Schema, x: Tensor, y: Tensor) -> dict[str, float]:
    """Return the columns that alone predict the targets, with scores.

    Rows are sorted by a column. A target is predicted by the line between those of both neighbors,
    with R2 as the score, corrected for their noise; a class by that of the row before, with the
    share of avoided errors. Copies count as one row.
    """
    columns = schema.places
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(x))[:MAX_TEST_ROWS])
    groups = row_groups(x[rows], y[rows], call="train").numpy()
    rows = rows[np.sort(np.unique(groups, return_index=True)[1])]
    if len(columns) < 2 or len(rows) < MIN_TEST_ROWS:
        return {}
    values, targets = (part[rows].cpu().double().numpy() for part in (x, y))
    scores = {}
    for column, indices in columns.items():
        codes = [values[:, index] for index in indices]
        if len(indices) > 1 and schema.features[indices[0]].kind == "categorical":
            codes = [values[:, indices] @ np.arange(1, len(indices) + 1)]
        scores[column] = max(_neighbor_score(code, targets) for code in codes)
    return {column: value for column, value in scores.items() if value >= LEAK_SCORE}


def _neighbor_score(values: Array, targets: Array) -> float:
    """Return the score of predicting targets from neighbors in `values`."""
    order = np.argsort(values, kind="stable")  # ties in random order
    values, targets = values[order], targets[order]
    if targets.ndim == 1:
        counts = np.unique(targets, return_counts=True)[1]
        changes = (targets[1:] != targets[:-1]).sum() - (len(counts) - 1)
        expected = len(targets) - (counts**2).sum() / len(targets)
        return float(1 - changes / expected) if expected else 0.0
    gap = values[2:] - values[:-2]
    share = np.divide(values[1:-1] - values[:-2], gap, out=np.full(len(gap), 0.5), where=gap > 0)
    share = share[:, None]
    errors = targets[1:-1] - targets[:-2] - share * (targets[2:] - targets[:-2])
    noise = (errors**2 / (1 + share**2 + (1 - share) ** 2)).mean(0)
    varies = targets.var(0) > 0
    return float((1 - noise[varies] / targets.var(0)[varies]).max(initial=0.0))
