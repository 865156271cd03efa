"""Other models on the rows of a report: what they are, how good, and what matters to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.metrics import rank_agreement
from kanlens.attribution.result import Attribution
from kanlens.checks import message
from kanlens.errors import DTypeError, InvalidValueError, MethodError
from kanlens.model.acceptance import Model, check_model
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.plotting.formats import counted, listed
from kanlens.reporting.analysis import Analysis, explain
from kanlens.reporting.planning import SHAPLEY_SECONDS, shapley_seconds
from kanlens.reporting.subject import Subject, measure_performance, read_subject

EFFECTS = 4  # features whose effects are drawn


def read_others(subject: Subject, others: Mapping[str, Model] | None) -> dict[str, Subject]:
    """Return all models on the rows of the report, its own first; nothing without others."""
    if not isinstance(others, Mapping | None):
        expected, got = "others to be a dict of names and models", type(others).__name__
        raise DTypeError(message("report", expected, got, "Pass others={'name': model}"))
    own, found = "this model", dict[str, Subject]()
    for name, given in (others or {}).items():
        model = check_model(f"report: others[{name!r}]", given)
        if model is subject.model:
            own = name
        else:
            _check_alike(f"report: others[{name!r}]", subject.model, model)
            found[name] = replace(read_subject(model, subject.x, subject.target), y=subject.y)
    own += " of the report" * (own in found)
    return {own: subject, **found} if found else {}


def _check_alike(call: str, own: KAN, other: KAN) -> None:
    """Refuse another task, other numbers of features or outputs, and one's names reordered."""
    for what, ours, theirs in (
        ("task", (own.task,), (other.task,)),
        ("feature", own.feature_names, other.feature_names),
        ("output", own.output_names, other.output_names),
        ("class label", own.class_labels, other.class_labels),
    ):
        wrong = len(ours) != len(theirs) or sorted(ours) == sorted(theirs) or what == "task"
        if ours and theirs and ours != theirs and wrong:
            expected, got = (f"{counted(len(n), what)} ({listed([*n])})" for n in (ours, theirs))
            raise InvalidValueError(message(call, expected, got, "Leave the model out"))


def describe_models(analysis: Analysis, models: dict[str, Subject]) -> dict[str, Any]:
    """Compare all models on the same rows by the report's method, its own model first."""
    known, (own, *_) = analysis.attribution, models
    records, values, sizes = [], dict[str, Tensor](), dict[str, Tensor]()
    for name, subject in models.items():
        found = _explained(analysis, subject)
        record = {"name": name, **_described(subject, analysis.subject), "reason": found}
        record |= dict.fromkeys(("importance", "rank_agreement"))
        if isinstance(found, Attribution):
            columns, values[name] = found.grouped(), found.values.double().cpu()
            sizes[name] = columns.values.double().cpu().abs().mean(0, keepdim=True)
            size = zip(columns.features, sizes[name][0].tolist(), strict=True)
            record |= {"importance": dict(size), "reason": None}
            if own in sizes:
                record["rank_agreement"] = rank_agreement(sizes[name], sizes[own])
        records.append(record)
    x = analysis.subject.x[analysis.plan.rows].double().cpu()
    total = torch.stack([torch.zeros_like(x), *values.values()]).abs().sum((0, 1))
    return {
        "background_rows": len(analysis.plan.background),
        "models": records,
        "effects": {  # of the features that matter most over all models
            known.features[i]: {n: partial_effect(x[:, i], one[:, i]) for n, one in values.items()}
            for i in total.argsort(descending=True, stable=True)[:EFFECTS].tolist()
        },
    }


def _explained(analysis: Analysis, subject: Subject) -> Attribution | str:
    """Attribute the rows against the background that was planned, or say why that is not done."""
    plan, request, own = analysis.plan, analysis.request, analysis.attribution
    if subject is analysis.subject and request.attribution is None:
        return own
    x, background = subject.x[plan.rows], plan.background.to(subject.x)
    try:
        if plan.method == "shapley" and request.methods is None:
            seconds = shapley_seconds(subject.model, x, background, subject.target)
            if len(x) * len(background) * seconds > 5 * SHAPLEY_SECONDS:
                return "it would take long on a model of this size; name shapley in methods"
        found = explain(subject, plan.method, background, request, plan.rows)
    except MethodError as error:
        return str(error).partition(": ")[2]
    return replace(found, features=own.features, groups=own.groups)


def _described(subject: Subject, own: Subject) -> dict[str, Any]:
    """Say what a model is, how good, and how close its outputs are to those of the report's own."""
    model, keys, said = subject.model, ["r2"], own.output
    if model.task == "classification":
        keys, said = ["accuracy", "log_loss"], own.logits.argmax(1)
    scores = agreement = None
    if subject.output.isfinite().all():
        scores = measure_performance(subject)
        agreement = measure_performance(replace(subject, y=said))
    return {
        "edges": [edge_words(layer) for layer in model.layers],
        "widths": model.widths,
        "edges_alive": model.edges_alive,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        **{key: scores and scores[key] for key in keys},
        "agreement": agreement and agreement[keys[0]],
    }


def edge_words(layer: KANLinear) -> str:
    """Say what the edges of a layer are, e.g. "series of gaussian"."""
    kind, series = layer.kind, list(dict.fromkeys(getattr(layer, "series", ())))
    if kind == "series":
        kind = "spline" if layer.spline_weight.any() or not series else ""
    return " and ".join([kind] * bool(kind) + [f"series of {listed(series, 3)}"] * bool(series))


def partial_effect(x: Tensor, values: Tensor, groups: int = 12) -> list[list[float]]:
    """Return feature and centered value, averaged over groups of rows alike in x: (group, 2)."""
    distinct, places = x.unique(return_inverse=True)
    group = places * groups // max(groups, len(distinct))
    table = torch.stack([x, values - values.mean()], 1)
    return [table[group == k].mean(0).tolist() for k in group.unique()]


def draw_models(analysis: Analysis, content: dict[str, Any], most: int) -> Iterator[Any]:
    """Draw the importance of features to every model, and the effects of the first features."""
    import pandas as pd

    from kanlens.reporting.drawing import draw
    from kanlens.reporting.figures import draw_comparison

    found, unit = content.get("models", {"models": []}), content["meta"]["unit"]
    sizes = {one["name"]: one["importance"] for one in found["models"] if one["importance"]}
    if not sizes:
        return
    table, frame = pd.DataFrame(sizes), pd.DataFrame({"method": [*sizes]})
    like = replace(analysis.comparison, importance=table, frame=frame)
    yield draw_comparison(replace(analysis, comparison=like), most, by="model")
    caption = "Contribution less its mean, averaged over rows alike in the feature."
    for feature, curves in list(found["effects"].items())[:most]:
        paint, title = partial(_paint_effect, feature, curves, unit), f"Effect of {feature}"
        size = (2.6, 1.9 + 0.15 * len(curves))  # with one line a model above the axes
        yield draw(paint, size, alt=f"{title} in every model", caption=caption, title=title)


def _paint_effect(feature: str, curves: dict[str, Any], unit: str, *, ax: Any) -> None:
    from kanlens.plotting.comparisons import look
    from kanlens.plotting.style import STYLE, in_unit, literal, tidy

    tidy(ax)
    ax.axhline(0, color=STYLE.muted, linewidth=0.7, zorder=1)
    for place, (name, points) in enumerate(curves.items()):
        style = {"color": look(place)["facecolors"], "marker": look(place)["marker"], "ms": 3.5}
        ax.plot(*zip(*points, strict=True), label=literal(name, most=32), **style)
    ax.set(xlabel=literal(feature, most=32), ylabel=f"effect{in_unit(unit)}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
