"""Comparison with other models: structure, scores and importance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens._lazy import pd
from kanlens.attribution._result import Attribution
from kanlens.attribution.metrics import rank_agreement
from kanlens.errors import DTypeError, InvalidValueError, MethodError, rewording
from kanlens.model._analysis import Model, check_model
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.plotting._formats import counted, listed, number
from kanlens.reporting._analysis import Analysis, explain
from kanlens.reporting._planning import SHAPLEY, shapley_evaluations
from kanlens.reporting._report_data import Subject, measure_performance, read_subject, spread

EFFECTS = 4  # features whose effects are drawn
UNCERTAIN = ("standard_error", "bound", "interactions", "paths")  # fields not compared
CHANGED = 5  # rows that are listed because they change most


def read_others(subject: Subject, others: Mapping[str, Model] | None) -> dict[str, Subject]:
    """Return all models by name with the rows, the report's own first; empty without others."""
    if not isinstance(others, Mapping | None):
        expected, got = "to be a dict of names and models", type(others).__name__
        raise DTypeError("report", expected, got, "Pass {'name': model}", argument="others")
    own, subjects = "this model", dict[str, Subject]()
    for name, other in (others or {}).items():
        with rewording("report", part=f"others[{name!r}]"):
            model = check_model("report", other)
            _check_alike(subject.model, model)
        if model is subject.model:
            own = name
        else:
            x = subject.x[:, _columns(subject.model, model)]
            subjects[name] = replace(read_subject(model, x, subject.target), y=subject.y)
    own += " of the report" * (own in subjects)
    return {own: subject, **subjects} if subjects else {}


def _columns(own: KAN, other: KAN) -> list[int]:
    """Return the indices of another model's features among those of the report's model."""
    names = own.feature_names
    if len(names) == len(other.feature_names):
        return [*range(len(names))]
    return [names.index(name) for name in other.feature_names]


def _check_alike(own: KAN, other: KAN) -> None:
    """Refuse a model with another task, other features or outputs, or reordered names."""
    for what, ours, theirs in (
        ("task", (own.task,), (other.task,)),
        ("feature", own.feature_names, other.feature_names),
        ("output", own.output_names, other.output_names),
        ("class label", own.class_labels, other.class_labels),
    ):
        wrong = len(ours) != len(theirs) or sorted(ours) == sorted(theirs) or what == "task"
        fewer = what == "feature" and set(theirs) < set(ours)  # as pruning leaves them
        if ours and theirs and ours != theirs and wrong and not fewer:
            expected, got = (f"{counted(len(n), what)} ({listed([*n])})" for n in (ours, theirs))
            more = what == "feature" and set(ours) < set(theirs)
            advice = "Report on the other, and compare this one" if more else "Leave the model out"
            raise InvalidValueError("report", expected, got, advice)


def describe_models(analysis: Analysis, models: dict[str, Subject]) -> dict[str, Any]:
    """Compare models on the same rows by the method of the report."""
    own, *_ = models
    records, values, sizes = [], dict[str, Tensor](), dict[str, Tensor]()
    for name, subject in models.items():
        result = _explained(analysis, subject)
        record = {"name": name, **_described(subject, analysis.subject), "reason": result}
        record |= dict.fromkeys(("importance", "rank_agreement"))
        record["changes"] = None if name == own else _changes(analysis.subject, subject)
        if isinstance(result, Attribution):
            columns, values[name] = result.grouped(), result.values.double().cpu()
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
        "effects": {  # of the most important features over all models
            analysis.attribution.features[i]: {
                name: partial_effect(x[:, i], table[:, i]) for name, table in values.items()
            }
            for i in total.argsort(descending=True, stable=True)[:EFFECTS].tolist()
        },
    }


def _explained(analysis: Analysis, subject: Subject) -> Attribution | str:
    """Attribute the planned rows and background, or return the reason why not."""
    plan, request, own = analysis.plan, analysis.request, analysis.attribution
    if subject is analysis.subject and request.attribution is None:
        return own
    columns = _columns(analysis.subject.model, subject.model)
    x, background = subject.x[plan.rows], plan.background.to(subject.x)[:, columns]
    try:
        if plan.method == "shapley" and request.methods is None:
            pair = shapley_evaluations(subject.model, x, background, subject.target)
            if len(x) * len(background) * pair > 5 * SHAPLEY:
                return "it would take long on a model of this size; name shapley in methods"
        result = explain(subject, plan.method, background, request, plan.rows)
    except MethodError as error:
        return error.reason
    values = result.values.new_zeros(len(x), len(own.features))  # 0 for features that it lacks
    values[:, columns] = result.values
    fields: dict[str, Any] = {"features": own.features, "groups": own.groups, "values": values}
    fields |= {"x": analysis.subject.x[plan.rows].to(x), **dict.fromkeys(UNCERTAIN)}
    return replace(result, **fields)


def _described(subject: Subject, own: Subject) -> dict[str, Any]:
    """Return structure and scores of a model, and its agreement with the report's model."""
    model, keys, y = subject.model, ["r2"], own.predicted
    if model.task == "classification":
        keys, y = ["accuracy", "log_loss"], own.logits.argmax(1)
    scores = agreement = None
    if subject.output.isfinite().all():
        scores = measure_performance(subject)
        agreement = measure_performance(replace(subject, y=y))
    return {
        "edges": [edge_words(layer) for layer in model.layers],
        "widths": model.widths,
        "edges_alive": model.edges_alive,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        **{key: scores and scores[key] for key in keys},
        "agreement": agreement and agreement[keys[0]],
    }


def _changes(own: Subject, other: Subject) -> dict[str, Any] | None:
    """Return differences of the outputs of two models."""
    outputs = torch.stack([part.output[:, own.target].double().cpu() for part in (own, other)])
    gap = outputs[1] - outputs[0]
    sizes = gap.abs()
    if not gap.isfinite().all():
        return None
    classes = [part.logits.argmax(1) for part in (own, other)] if own.labels else None
    first = sizes.argsort(descending=True, stable=True)[:CHANGED].tolist()
    varies = bool((outputs.amin(1) < outputs.amax(1)).all())
    return {
        "correlation": float(torch.corrcoef(outputs)[0, 1]) if varies else None,
        "mean_difference": float(gap.mean()),
        "mean_size": float(sizes.mean()),
        "largest_size": float(sizes.max()),
        "changed_rows": classes and int((classes[0] != classes[1]).sum()),
        "rows": [
            {"row": own.names[k], "own": y, "other": z, "difference": z - y}
            for k, (y, z) in zip(first, outputs.T[first], strict=True)
        ],
    }


def edge_words(layer: KANLinear) -> str:
    """Return the kind of edges of a layer, e.g. "series of gaussian"."""
    kind, series = layer.edge_kind, list(dict.fromkeys(layer.series))
    if kind == "series":
        kind = "spline" if layer.spline_weight.any() else ""
    return " and ".join([kind] * bool(kind) + [f"series of {listed(series, 3)}"] * bool(series))


def partial_effect(x: Tensor, values: Tensor, groups: int = 12) -> list[list[float]]:
    """Return means of x and centered values (group, 2) over groups of similar x."""
    distinct, places = x.unique(return_inverse=True)
    group = places * groups // max(groups, len(distinct))
    table = torch.stack([x, values - values.mean()], 1)
    return [table[group == k].mean(0).tolist() for k in group.unique()]


def draw_models(
    analysis: Analysis, content: dict[str, Any], most: int, models: dict[str, Subject]
) -> Iterator[Any]:
    """Draw outputs of each model against those of the first, importance and effects."""
    from kanlens.plotting._formulas import scatter_pair
    from kanlens.reporting._drawing import draw
    from kanlens.reporting._figures import POINTS, draw_comparison

    records, unit = content["models"]["models"], content["meta"]["unit"]
    own, *others = models.values()
    picks = spread(own.rows, POINTS)
    for record, other in zip(records[1:], others, strict=True):
        pair = [part.output[picks, own.target].double().cpu().numpy() for part in (own, other)]
        names, change = (records[0]["name"], record["name"]), record["changes"]
        paint: Any = partial(scatter_pair, left=pair[0], right=pair[1], names=names, unit=unit)
        if change is not None:
            alt = f"{names[1]} is {number(change['mean_size'])} from {names[0]} on average"
            caption, title = "On the diagonal, both models agree.", " vs. ".join(names[::-1])
            yield draw(paint, (3.0, 2.9), alt=alt, caption=caption, title=title)
    sizes = {record["name"]: record["importance"] for record in records if record["importance"]}
    if not sizes:
        return
    table, frame = pd.DataFrame(sizes), pd.DataFrame({"method": [*sizes]})
    like = replace(analysis.comparison, importance=table, frame=frame)
    yield draw_comparison(replace(analysis, comparison=like), most)
    caption = "Contribution minus its mean, averaged over rows with similar values of the feature."
    for feature, curves in list(content["models"]["effects"].items())[:most]:
        paint, title = partial(_paint_effect, feature, curves, unit), f"Effect of {feature}"
        size = (2.6, 1.9 + 0.15 * len(curves))  # and a line of the legend for each model
        yield draw(paint, size, alt=f"{title} in every model", caption=caption, title=title)


def _paint_effect(feature: str, curves: dict[str, Any], unit: str, *, ax: Any) -> None:
    from kanlens.plotting._feature_rows import look
    from kanlens.plotting._style import STYLE, label, literal, tidy

    tidy(ax)
    ax.axhline(0, color=STYLE.muted, linewidth=0.7, zorder=1)
    for place, (name, points) in enumerate(curves.items()):
        mark = look(place)
        style = {"color": mark["facecolors"], "marker": mark["marker"], "ms": 3.5}
        ax.plot(*zip(*points, strict=True), label=literal(name, most=32), gid="curve", **style)
    ax.set(xlabel=literal(feature, most=32), ylabel=label("effect", unit))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
