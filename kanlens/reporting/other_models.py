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
from kanlens.errors import DTypeError, InvalidValueError, MethodError, rewording
from kanlens.model.analysis import Model, check_model
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.plotting.formats import counted, listed, number
from kanlens.reporting.analysis import Analysis, explain
from kanlens.reporting.planning import SHAPLEY, shapley_evaluations
from kanlens.reporting.subject import Subject, measure_performance, read_subject, spread

EFFECTS = 4  # features whose effects are drawn
UNCERTAIN = ("standard_error", "bound", "interactions", "paths")  # not compared
CHANGED = 5  # rows that are listed because they change most


def read_others(subject: Subject, others: Mapping[str, Model] | None) -> dict[str, Subject]:
    """Return all models on the rows of the report, its own first; nothing without others."""
    if not isinstance(others, Mapping | None):
        expected, got = "to be a dict of names and models", type(others).__name__
        raise DTypeError("report", expected, got, "Pass {'name': model}", argument="others")
    own, found = "this model", dict[str, Subject]()
    for name, given in (others or {}).items():
        with rewording("report", part=f"others[{name!r}]"):
            model = check_model("report", given)
            _check_alike(subject.model, model)
        if model is subject.model:
            own = name
        else:
            x = subject.x[:, _columns(subject.model, model)]
            found[name] = replace(read_subject(model, x, subject.target), y=subject.y)
    own += " of the report" * (own in found)
    return {own: subject, **found} if found else {}


def _columns(own: KAN, other: KAN) -> list[int]:
    """Return which feature of one model each of the other's is: by position, fewer by name."""
    names = own.feature_names
    if len(names) == len(other.feature_names):
        return [*range(len(names))]
    return [names.index(name) for name in other.feature_names]


def _check_alike(own: KAN, other: KAN) -> None:
    """Refuse another task, other numbers of features or outputs, and one's names reordered."""
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
            advice = "Report on that one, and compare this one" if more else "Leave the model out"
            raise InvalidValueError("report", expected, got, advice)


def describe_models(analysis: Analysis, models: dict[str, Subject]) -> dict[str, Any]:
    """Compare all models on the same rows by the report's method, its own model first."""
    known, (own, *_) = analysis.attribution, models
    records, values, sizes = [], dict[str, Tensor](), dict[str, Tensor]()
    for name, subject in models.items():
        found = _explained(analysis, subject)
        record = {"name": name, **_described(subject, analysis.subject), "reason": found}
        record |= dict.fromkeys(("importance", "rank_agreement"))
        record["changes"] = None if name == own else _changes(analysis.subject, subject)
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
    columns = _columns(analysis.subject.model, subject.model)
    x, background = subject.x[plan.rows], plan.background.to(subject.x)[:, columns]
    try:
        if plan.method == "shapley" and request.methods is None:
            pair = shapley_evaluations(subject.model, x, background, subject.target)
            if len(x) * len(background) * pair > 5 * SHAPLEY:
                return "it would take long on a model of this size; name shapley in methods"
        found = explain(subject, plan.method, background, request, plan.rows)
    except MethodError as error:
        return error.reason
    values = found.values.new_zeros(len(x), len(own.features))  # what it lacks does nothing
    values[:, columns] = found.values
    known: dict[str, Any] = {"features": own.features, "groups": own.groups, "values": values}
    known |= {"x": analysis.subject.x[plan.rows].to(x), **dict.fromkeys(UNCERTAIN)}
    return replace(found, **known)


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


def _changes(own: Subject, other: Subject) -> dict[str, Any] | None:
    """Say how far the output of another model is from that of the report's own, row by row."""
    said = torch.stack([one.output[:, own.target].double().cpu() for one in (own, other)])
    gap, sizes = said[1] - said[0], (said[1] - said[0]).abs()
    if not gap.isfinite().all():
        return None
    classes = [one.logits.argmax(1) for one in (own, other)] if own.labels else None
    first = sizes.argsort(descending=True, stable=True)[:CHANGED].tolist()
    varies = bool((said.amin(1) < said.amax(1)).all())
    return {
        "correlation": float(torch.corrcoef(said)[0, 1]) if varies else None,
        "mean_difference": float(gap.mean()),
        "mean_size": float(sizes.mean()),
        "largest_size": float(sizes.max()),
        "changed_rows": classes and int((classes[0] != classes[1]).sum()),
        "rows": [
            {"row": own.names[k], "own": said[0, k], "other": said[1, k], "difference": gap[k]}
            for k in first
        ],
    }


def edge_words(layer: KANLinear) -> str:
    """Say what the edges of a layer are, e.g. "series of gaussian"."""
    kind, series = layer.edge_kind, list(dict.fromkeys(layer.series))
    if kind == "series":
        kind = "spline" if layer.spline_weight.any() else ""
    return " and ".join([kind] * bool(kind) + [f"series of {listed(series, 3)}"] * bool(series))


def partial_effect(x: Tensor, values: Tensor, groups: int = 12) -> list[list[float]]:
    """Return feature and centered value, averaged over groups of rows alike in x: (group, 2)."""
    distinct, places = x.unique(return_inverse=True)
    group = places * groups // max(groups, len(distinct))
    table = torch.stack([x, values - values.mean()], 1)
    return [table[group == k].mean(0).tolist() for k in group.unique()]


def draw_models(
    analysis: Analysis, content: dict[str, Any], most: int, models: dict[str, Subject] | None = None
) -> Iterator[Any]:
    """Draw what every model says beside the first, and what its features matter and do."""
    import pandas as pd

    from kanlens.plotting.formulas import scatter_pair
    from kanlens.reporting.drawing import draw
    from kanlens.reporting.figures import POINTS, draw_comparison

    found, unit = content.get("models", {"models": []}), content["meta"]["unit"]
    own, *others = models.values() if models else [analysis.subject]
    picks = spread(own.rows, POINTS)
    for one, other in zip(found["models"][1:], others, strict=False):
        said = [each.output[picks, own.target].double().cpu().numpy() for each in (own, other)]
        names, change = (found["models"][0]["name"], one["name"]), one["changes"]
        paint: Any = partial(scatter_pair, left=said[0], right=said[1], names=names, unit=unit)
        if change is not None:
            alt = f"{names[1]} is {number(change['mean_size'])} from {names[0]} on average"
            caption, title = "On the line, both models say the same.", " beside ".join(names[::-1])
            yield draw(paint, (3.0, 2.9), alt=alt, caption=caption, title=title)
    sizes = {one["name"]: one["importance"] for one in found["models"] if one["importance"]}
    if not sizes:
        return
    table, frame = pd.DataFrame(sizes), pd.DataFrame({"method": [*sizes]})
    like = replace(analysis.comparison, importance=table, frame=frame)
    yield draw_comparison(replace(analysis, comparison=like), most)
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
        ax.plot(*zip(*points, strict=True), label=literal(name, most=32), gid="curve", **style)
    ax.set(xlabel=literal(feature, most=32), ylabel=f"effect{in_unit(unit)}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
