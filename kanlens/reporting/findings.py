"""The findings of a report in sentences, and the simple models that a model must beat."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from kanlens.attribution.result import Attribution
from kanlens.data.groups import deal_groups, row_groups
from kanlens.model.training_record import fingerprint
from kanlens.plotting.formats import counted, listed, number, percent, with_unit
from kanlens.reporting.subject import Subject, spread
from kanlens.training.baselines import baseline_scores, named_scores, poor_fit, training_record
from kanlens.training.objective import metric_name, score

CLEAR = 0.5  # rank correlation of values and contributions from which there is one direction
DRIVERS = 3  # features that are named
SAME = 1e-6  # of a score: it is of the same rows
FOLDS, FEW, MOST = 5, 50, 5000  # of cross-validation, and its fewest and most rows

Content = dict[str, Any]


def measure_baselines(subject: Subject, history: Any) -> dict[str, Any] | None:
    """Return the scores of the model and of simple ones on rows new to each of them.

    They are those that the model's file holds of its training, else of rows that `history`, a
    FitResult, held out. Where neither is known, simple models are cross-validated on at most `MOST`
    rows, and the model may have seen them. None without targets, and where these are too few.
    """
    model, record, y = subject.model, subject.model.record, subject.y
    if record is None and _same_rows(subject, history):
        record = training_record(history, subject.x, cast("Tensor", y), subject.rows)
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
    own = {"network": score(model, subject.output[judged], y[judged])}
    named = named_scores(metric_name(model), own | baseline_scores(model, subject.x, y, splits))
    about = {"rows": len(judged), "folds": len(splits), "changed": False, "held_out": False}
    return {**about, "metric": metric_name(model), "models": named}


def _same_rows(subject: Subject, history: Any) -> bool:
    """Return whether training held out some of these rows; not if they are others."""
    if history is None or not 0 < len(history.held_out) < subject.rows - 1 or subject.y is None:
        return False
    held = history.held_out
    if held.max() >= subject.rows:
        return False
    check = score(subject.model, subject.output[held], subject.y[held])
    return bool(abs(check - history.metric) <= SAME * max(1.0, abs(check)))


def directions(found: Attribution) -> dict[str, float | None]:
    """Return Spearman's correlation of each feature's values and contributions, where it varies."""
    known: dict[str, float | None] = dict.fromkeys(found.features)
    if found.x is None or not found.shares:
        return known
    for name, x, values in zip(found.features, found.x.T, found.values.T, strict=True):
        if bool(x.min() < x.max()) and bool(values.min() < values.max()):
            known[name] = float(spearmanr(x.cpu(), values.cpu()).statistic)
    return known


def write_findings(content: Content) -> list[str]:
    """Say in three sentences how good a model is, what drives it, and whether a formula stands."""
    return [_quality(content), _drivers(content), _formula(content)]


def _quality(content: Content) -> str:
    found, target = content["performance"], content["meta"]["target"]
    if found is None:
        return f"How well the model predicts {target} is not known: the data hold no targets."
    rows = f"the {counted(found['rows'], 'row')} of {content['data']['source']}"
    if found["task"] == "regression":
        one = next(one for one in found["outputs"] if one["name"] == target)
        error = with_unit(number(one["median_absolute_error"]), one["unit"])
        r2 = one["r2"]
        share = "no share" if r2 is None or r2 <= 0 else percent(r2, 0)
        text = f"On {rows} the model explains {share} of what varies in {target} (R² {number(r2)})"
        text += f"; half of its errors are below {error}"
    else:
        text = f"On {rows} the model names the right class in {percent(found['accuracy'])}"
        most = percent(found["majority_share"])
        text += f", where always naming the most frequent one does in {most}"
    return f"{text}. {_beside(content)}"


def _beside(content: Content) -> str:
    """Return sentences on rows that training had not seen, and on simple models."""
    found, training, data = content["baselines"], content["training"], content["data"]
    unseen = data["held_out_rows"] or 0
    text = f"{unseen:,} of them were held out of training. "
    if unseen == data["rows"]:
        text = "They were held out of training. "
    elif training is not None and training["held_out_rows"]:
        rows, metric = counted(training["held_out_rows"], "row"), training["metric_name"]
        text = f"In training, {_scored(metric, training['metric'])} on {rows} held out. "
    elif not unseen:
        text = "If these rows trained it, new ones are predicted less well. "
    if found is None:
        return text.rstrip()
    own, *others = found["models"]
    metric, rows = found["metric"], f"the {counted(found['rows'], 'row')}"
    if not found["held_out"]:
        pairs = [f"{_score(metric, one['score'])} ({one['name']})" for one in others]
        name = metric.replace("R2", "R²")
        return f"{text}Simple models reach {name} {listed(pairs)} on rows they had not seen."
    text = text * (data["held_out_rows"] is not None)
    turns = "of training, each held out in turn," if found["folds"] > 1 else "held out of training"
    pairs = [f"{_score(metric, one['score'])} of {one['name']}" for one in others]
    verb, state = ("was", " before it was changed") if found["changed"] else ("is", "")
    scored = _scored(metric, own["score"], verb)
    return f"{text}On {rows} {turns} {scored}{state}, beside {listed(pairs)}."


def _scored(metric: str, value: float | None, verb: str = "was") -> str:
    return f"{metric.replace('R2', 'R²')} {verb} {_score(metric, value)}"


def _score(metric: str, value: float | None) -> str:
    return percent(value) if metric == "accuracy" else number(value)


def _drivers(content: Content) -> str:
    found = content["importance"]
    ranked = [one for one in found["columns"] or found["features"] if one["importance"]]
    if not ranked:
        return "No feature changes the output on these rows."
    unit, target = found["unit"], content["meta"]["target"]
    first, *rest = ranked[:DRIVERS]
    size = f"{with_unit(number(first['importance']), unit)} on average"
    if first["low"] is not None:
        size += f" (95% interval {number(first['low'])} to {number(first['high'])})"
    way = f", and a higher value {_direction(first)}" if _direction(first) else ""
    unseen, outputs = content["baselines"], (content["performance"] or {}).get("outputs") or []
    r2 = [one["r2"] or 0.0 for one in outputs if one["name"] == target]  # of a regression
    explains = not r2 or r2[0] > 0  # else a constant predicts the target as well
    if unseen and unseen["held_out"] and poor_fit(unseen["models"]):
        explains = False
    lead = f"matters most for {target}: it moves it by" if explains else "moves the output most, by"
    text = f"{first['name']} {lead} {size}{way}."
    if rest:
        named = [f"{one['name']} ({_beside_first(one, unit)})" for one in rest]
        share = percent(sum(one["share"] for one in ranked[:DRIVERS]), 0)
        text += f" Then come {listed(named)}; together they are {share} of all contributions."
    return text if explains else f"{text} This says nothing of {target}, which is not predicted."


def _beside_first(one: Content, unit: str) -> str:
    size, way = with_unit(number(one["importance"]), unit), _direction(one)
    if one["low"] is not None:
        size += f", interval {number(one['low'])} to {number(one['high'])}"
    return f"{size}{'; a higher value ' if way else ''}{way}"


def _direction(one: Content) -> str:
    """Say what a higher value does; nothing where that is not known."""
    value = one["direction"]
    if value is None:
        return ""
    if abs(value) < CLEAR:
        return "raises or lowers it, depending on the row"
    return "raises it" if value > 0 else "lowers it"


def _formula(content: Content) -> str:
    found = content["formula"]
    if found is None:
        wide = "There is no formula: the network is too wide to read."
        return wide if content["formula_refusal"] else "No formula was asked for."
    nodes, distance = counted(found["complexity"], "node"), found["receipt"]["relative_rmse"]
    text = f"A formula of {nodes} differs from the model by {percent(distance)} of the output's "
    if found["trustworthy"]:
        return f"{text}deviation, and stands for it on these rows."
    return f"{text}deviation, and does not stand for it; its section says why."
