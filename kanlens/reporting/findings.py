"""The findings of a report in sentences, and the simple models that a model must beat."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from kanlens.attribution.result import Attribution
from kanlens.plotting.formats import counted, listed, number, percent, with_unit
from kanlens.reporting.subject import Subject, spread
from kanlens.resources import one_thread_of
from kanlens.training.objective import classes

CLEAR = 0.5  # rank correlation of values and contributions from which there is one direction
DRIVERS = 3  # features that are named
SAME = 1e-6  # of a score: it is of the same rows
FOLDS, FEW, MOST = 5, 50, 5000  # of cross-validation, and its fewest and most rows
SMALL = 2**20  # numbers of a table on which threads of boosting wait more than they work
WIDE = 500  # features times classes above which boosting would take minutes, and is left out

Content = dict[str, Any]


def measure_baselines(subject: Subject, history: Any) -> dict[str, Any] | None:
    """Judge the model and three baselines on the rows held out of its training.

    The baselines, trained on all other rows, are the mean (or the shares of the classes), a linear
    model and, unless there are many features, gradient boosting. Where `history`, a FitResult, held
    out no rows or is of other rows, they are cross-validated. None without targets, and where these
    are too few.
    """
    if subject.y is None:
        return None
    classifies = subject.model.task == "classification"
    x = subject.x.double().cpu().numpy()
    y = (subject.y if classifies else subject.y[:, subject.target].double()).cpu().numpy()
    held = _held_out(subject, history, y)
    parts = _folds(subject.rows) if held is None else [held]
    asked = np.concatenate(parts)
    known = asked if held is None else np.arange(subject.rows)
    splits = [(np.setdiff1d(known, part), part) for part in parts]
    least = len(subject.labels) if classifies else 2  # different targets to learn from
    few = held is None and len(asked) < FEW
    if few or any(len(np.unique(y[kept])) < least for kept, _ in splits):
        return None
    scores = {"this model": _judged(subject, y, asked)["score"]}
    baselines, say = _baselines(classifies), "predict_proba" if classifies else "predict"
    if x.shape[1] * (least if classifies else 1) > WIDE:
        del baselines["gradient boosting"]
    with one_thread_of("openmp") if x.size <= SMALL else nullcontext():
        for name, made in baselines.items():
            said = [getattr(made.fit(x[kept], y[kept]), say)(x[part]) for kept, part in splits]
            scores[name] = _score(y[asked], np.concatenate(said), classifies)
    return {
        "rows": len(asked),
        "held_out": held is not None,
        "metric": "log loss" if classifies else "R2",
        "models": [{"name": name, "score": score} for name, score in scores.items()],
    }


def _held_out(subject: Subject, history: Any, y: Any) -> Any:
    """Return the rows that training held out; None where they are others, or not known."""
    if history is None or not len(history.held_out):
        return None
    held, rows = history.held_out.numpy(), subject.rows
    if held.max() >= rows or len(held) >= rows - 1:
        return None
    check = _judged(subject, y, held)["check"]
    return None if abs(check - history.metric) > SAME * max(1.0, abs(check)) else held


def _folds(rows: int) -> list[Any]:
    """Part rows at random into folds, at most so many of them, spread over all."""
    picks = spread(rows, MOST).numpy()
    return np.array_split(np.random.default_rng(0).permutation(picks), FOLDS)


def _judged(subject: Subject, y: Any, held: Any) -> dict[str, float]:
    """Return the score of the model on some rows, and the metric that training reports of them."""
    if subject.model.task == "classification":
        guess = classes(subject.output).cpu().numpy()
        score = _score(y[held], subject.probabilities[held], True)
        return {"score": score, "check": float((guess == y)[held].mean())}
    output = subject.output.double().cpu().numpy()
    targets: Any = subject.y
    each = [
        _score(targets[:, i].double().cpu().numpy()[held], output[held, i], False)
        for i in range(output.shape[1])
    ]
    return {"score": each[subject.target], "check": float(np.mean(each))}


def _score(y: Any, said: Any, classifies: bool) -> float:
    from sklearn.metrics import log_loss, r2_score

    if classifies:
        return float(log_loss(y, said, labels=range(said.shape[1])))
    return float(r2_score(y, said))


def _baselines(classifies: bool) -> dict[str, Any]:
    from sklearn import dummy, ensemble, linear_model
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if classifies:
        logistic = linear_model.LogisticRegression(max_iter=1000)
        return {
            "the shares of the classes": dummy.DummyClassifier(strategy="prior"),
            "logistic regression": make_pipeline(StandardScaler(), logistic),
            "gradient boosting": ensemble.HistGradientBoostingClassifier(random_state=0),
        }
    return {
        "the mean": dummy.DummyRegressor(),
        "a linear model": make_pipeline(StandardScaler(), linear_model.LinearRegression()),
        "gradient boosting": ensemble.HistGradientBoostingRegressor(random_state=0),
    }


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
    return f"{text}. {_beside(content['baselines'], content['training'])}"


def _beside(found: Content | None, training: Content | None) -> str:
    """Say how the model is on rows that it had not seen, and simple models on such rows."""
    said = "If these rows trained it, new ones are predicted less well. "
    if training is not None and training["held_out_rows"]:
        rows, metric = counted(training["held_out_rows"], "row"), training["metric_name"]
        score = number(training["metric"])
        said = f"In training, {metric.replace('R2', 'R²')} was {score} on {rows} held out. "
    if found is None:
        return said.rstrip()
    own, *others = found["models"]
    metric = found["metric"].replace("R2", "R²")
    if found["held_out"]:
        pairs = [f"{number(one['score'])} of {one['name']}" for one in others]
        whole = f"On the {counted(found['rows'], 'row')} held out of training {metric} is "
        return f"{whole}{number(own['score'])}, beside {listed(pairs)}."
    pairs = [f"{number(one['score'])} ({one['name']})" for one in others]
    return f"{said}Simple models reach {metric} {listed(pairs)} on rows they had not seen."


def _drivers(content: Content) -> str:
    found = content["importance"]
    ranked = [one for one in found["columns"] or found["features"] if one["importance"]]
    if not ranked:
        return "No feature changes the output on these rows."
    unit, target = found["unit"], content["meta"]["target"]
    first, *rest = ranked[:DRIVERS]
    size = f"{_size(first, unit)} on average"
    if first["low"] is not None:
        size += f" (95% interval {_interval(first)})"
    way = f", and a higher value {_direction(first)}" if _direction(first) else ""
    explains = _explains(content)
    lead = f"matters most for {target}: it moves it by" if explains else "moves the output most, by"
    text = f"{first['name']} {lead} {size}{way}."
    if rest:
        named = [f"{one['name']} ({_beside_first(one, unit)})" for one in rest]
        share = percent(sum(one["share"] for one in ranked[:DRIVERS]), 0)
        text += f" Then come {listed(named)}; together they are {share} of all contributions."
    return text if explains else f"{text} This says nothing of {target}, which is not predicted."


def _explains(content: Content) -> bool:
    """Return whether the model is known to predict its target no worse than a constant."""
    outputs = (content["performance"] or {}).get("outputs") or []  # of a regression
    r2 = [one["r2"] or 0.0 for one in outputs if one["name"] == content["meta"]["target"]]
    return not r2 or r2[0] > 0


def _beside_first(one: Content, unit: str) -> str:
    interval = f", interval {_interval(one)}" if one["low"] is not None else ""
    way = _direction(one)
    return f"{_size(one, unit)}{interval}{'; a higher value ' if way else ''}{way}"


def _size(one: Content, unit: str) -> str:
    return with_unit(number(one["importance"]), unit)


def _interval(one: Content) -> str:
    return f"{number(one['low'])} to {number(one['high'])}"


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
        return "No formula was asked for."
    nodes, distance = counted(found["complexity"], "node"), found["receipt"]["relative_rmse"]
    text = f"A formula of {nodes} differs from the model by {percent(distance)} of the output's "
    if found["trustworthy"]:
        return f"{text}deviation, and stands for it on these rows."
    return f"{text}deviation, and does not stand for it; its section says why."
