"""Findings of a report in sentences, and baseline models."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from kanlens.attribution._result import Attribution
from kanlens.data._groups import deal_groups, row_groups
from kanlens.model._training_record import fingerprint
from kanlens.plotting._formats import counted, listed, number, percent, with_unit
from kanlens.reporting._report_data import Subject, spread
from kanlens.training._baselines import baseline_scores, named_scores, poor_fit, training_record
from kanlens.training._objective import score

CLEAR = 0.5  # rank correlation of values and contributions from which there is one direction
DRIVERS = 3  # most important features that are named
SAME = 1e-6  # largest relative difference of two scores of the same rows
FOLDS, FEW, MOST = 5, 50, 5000  # of cross-validation, and its fewest and most rows

Content = dict[str, Any]


def measure_baselines(subject: Subject, history: Any) -> dict[str, Any] | None:
    """Return scores of the model and of baselines on new rows.

    They are those of the model's training record, else of rows that `history`, a FitResult, held
    out. Without both, simple models are cross-validated on at most `MOST` rows, which the model may
    have seen. None without targets, or with too few.
    """
    model, record, y = subject.model, subject.model.record, subject.y
    if record is None and y is not None and _same_rows(subject, history):
        record = training_record(history, subject.x, y, subject.rows)
    if record is not None and len(record.scores) > 1:
        changed = record.weights != fingerprint(model.state_dict().values())
        about = {"rows": record.rows, "folds": record.folds, "changed": changed}
        named = named_scores(record.metric, record.scores)
        return {**about, "held_out": True, "metric": record.metric, "models": named}
    if y is None or subject.rows < FEW:
        return None
    judged = spread(subject.rows, MOST)
    groups = row_groups(subject.x[judged], y[judged], call="report")
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(judged)))
    folds = deal_groups(order, groups, FOLDS)
    splits = [(judged[folds != fold], judged[folds == fold]) for fold in folds.unique()]
    least = len(subject.labels) or 2  # different targets to learn from
    if any(len(y[learned].unique(dim=0)) < least for learned, _ in splits):
        return None
    own = score(model, subject.output[judged], y[judged])
    if not (others := baseline_scores(model, subject.x, y, splits)):
        return None
    named = named_scores(model.loss.metric, {"network": own, **others})
    about = {"rows": len(judged), "folds": len(splits), "changed": False, "held_out": False}
    return {**about, "metric": model.loss.metric, "models": named}


def _same_rows(subject: Subject, history: Any) -> bool:
    """Return whether rows held out of training are among those of a report."""
    if history is None or not 0 < len(history.held_out) < subject.rows - 1:
        return False
    held, y = history.held_out, cast("Tensor", subject.y)
    if held.max() >= subject.rows:
        return False
    check = score(subject.model, subject.output[held], y[held])
    return bool(abs(check - history.metric) <= SAME * max(1.0, abs(check)))


def directions(attribution: Attribution) -> dict[str, float | None]:
    """Return Spearman's correlation of each feature's values and contributions."""
    correlations: dict[str, float | None] = dict.fromkeys(attribution.features)
    if attribution.x is None or not attribution.shares:
        return correlations
    columns = attribution.x.T, attribution.values.T
    for name, x, values in zip(attribution.features, *columns, strict=True):
        if bool(x.min() < x.max()) and bool(values.min() < values.max()):
            correlations[name] = float(spearmanr(x.cpu(), values.cpu()).statistic)
    return correlations


def write_findings(content: Content) -> list[str]:
    """Return sentences on the quality, features and formula of a model."""
    return [_quality(content), _drivers(content), _formula(content)]


def _quality(content: Content) -> str:
    performance, target = content["performance"], content["meta"]["target"]
    if performance is None:
        return f"How well the model predicts {target} is not known: the data have no targets."
    rows = f"the {counted(performance['rows'], 'row')} of {content['data']['source']}"
    if performance["task"] == "regression" and not performance["outputs"]:
        share = percent(performance["score"], 0)
        text = f"On {rows} the model ranks {share} of comparable pairs of rows correctly "
        text += f"(concordance {number(performance['score'])})"
    elif performance["task"] == "regression":
        output = next(output for output in performance["outputs"] if output["name"] == target)
        error = with_unit(number(output["median_absolute_error"]), output["unit"])
        value, metric = output["score"], performance["metric"].replace("2", "²")
        share = "no share" if value is None or value <= 0 else percent(value, 0)
        text = f"On {rows} the model explains {share} of the {performance['explained']} of {target}"
        text += f" ({metric} {number(value)}); the median absolute error is {error}"
    else:
        text = f"On {rows} the accuracy is {percent(performance['accuracy'])}"
        most = percent(performance["majority_share"])
        text += f"; always predicting the most frequent class reaches {most}"
    return f"{text}. {_on_new_rows(content)}"


def _on_new_rows(content: Content) -> str:
    """Return sentences on scores on rows new to the model, and on baselines."""
    baselines, training, data = content["baselines"], content["training"], content["data"]
    unseen = data["held_out_rows"] or 0
    text = f"{unseen:,} of these rows were held out of training. "
    if unseen == data["rows"]:
        text = "All of these rows were held out of training. "
    elif training is not None and training["held_out_rows"]:
        rows, name = counted(training["held_out_rows"], "held-out row"), training["metric_name"]
        value = _score(name, training["metric"])
        text = f"Training ended with {name.replace('2', '²')} {value} on {rows}. "
    elif not unseen and content.get("growth", {}).get("headline"):
        growth = content["growth"]
        rows = counted(growth["rows"], "row")
        text = f"On {rows} held out of growth in turn, {growth['headline']}. "
    elif not unseen:
        text = "If the model was trained on these rows, it predicts new rows less well. "
    if baselines is None:
        return text.rstrip()
    own, *scores = [_score(baselines["metric"], model["score"]) for model in baselines["models"]]
    names = [model["name"] for model in baselines["models"][1:]]
    metric, rows = baselines["metric"].replace("2", "²"), counted(baselines["rows"], "row")
    if not baselines["held_out"]:
        pairs = listed([f"{value} ({name})" for value, name in zip(scores, names, strict=True)])
        return f"{text}Simple models reach {metric} {pairs} on rows not used to train them."
    text = text * (data["held_out_rows"] is not None)
    several = baselines["folds"] > 1
    turns = "of training, each held out in turn," if several else "held out of training,"
    pairs = listed([f"{value} for {name}" for value, name in zip(scores, names, strict=True)])
    verb, state = ("was", " before the model was changed") if baselines["changed"] else ("is", "")
    return f"{text}On the {rows} {turns} {metric} {verb} {own}{state}, compared with {pairs}."


def _score(metric: str, value: float | None) -> str:
    return percent(value) if metric == "accuracy" else number(value)


def _drivers(content: Content) -> str:
    importance, target = content["importance"], content["meta"]["target"]
    features = importance["columns"] or importance["features"]
    ranked = [feature for feature in features if feature["importance"]][:DRIVERS]
    if not ranked:
        return "No feature changes the output on these rows."
    unseen, performance = content["baselines"], content["performance"] or {}
    outputs = performance.get("outputs") or [{"score": 1.0, **performance}]
    own = next(output["score"] or 0.0 for output in outputs if output.get("name", target) == target)
    explains = own > 0.5 * (performance.get("metric") == "concordance")  # a constant's score
    if unseen and unseen["held_out"] and poor_fit(unseen["models"]):
        explains = False
    texts = []
    for place, feature in enumerate(ranked):
        text = with_unit(number(feature["importance"]), importance["unit"])
        text, sign = text + " on average" * (place == 0), feature["direction"]
        if feature["low"] is not None:
            interval = f"interval {number(feature['low'])} to {number(feature['high'])}"
            text += f", {interval}" if place else f" (95% {interval})"
        if sign is not None:
            text += f"; {feature['higher']} " if place else f", and {feature['higher']} "
            way = "raises it" if sign > 0 else "lowers it"
            text += way if abs(sign) >= CLEAR else "raises or lowers it, depending on the row"
        texts.append(f"{feature['name']} ({text})" if place else text)
    lead = "changes the output most, by"
    if explains:
        lead = f"matters most for {target}: it changes the output by"
    text = f"{ranked[0]['name']} {lead} {texts[0]}."
    if len(ranked) > 1:
        share = percent(sum(feature["share"] for feature in ranked), 0)
        text += f" Then come {listed(texts[1:])}; together they are {share} of all contributions."
    if explains:
        return text
    return f"{text} This says nothing about {target}, because the model does not predict it."


def _formula(content: Content) -> str:
    formula = content["formula"]
    if formula is None:
        wide = "There is no formula: the network is too wide to read."
        return wide if content["formula_refusal"] else "No formula was requested."
    nodes, distance = counted(formula["complexity"], "node"), formula["receipt"]["relative_rmse"]
    text = f"A formula of {nodes} differs from the model by {percent(distance)} of the output's "
    if formula["trustworthy"]:
        return f"{text}standard deviation, and can be used in its place on these rows."
    return f"{text}standard deviation, too much to be used in its place; see Formula."
