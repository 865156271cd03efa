"""The numbers of a report as plain JSON types, for page and twin."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from kanlens._checks import version_of
from kanlens._plain_json import to_plain
from kanlens.attribution._attribute import METHODS
from kanlens.attribution._method_runs import RANDOM
from kanlens.attribution._result import Attribution
from kanlens.attribution.metrics import METRICS, Case
from kanlens.data._schema import Feature
from kanlens.model._network import KAN
from kanlens.model._trace import Trace
from kanlens.model._training_record import fingerprint
from kanlens.reporting import _page_records as page_records
from kanlens.reporting._alerts import find_alerts
from kanlens.reporting._analysis import SHOWN, Analysis
from kanlens.reporting._findings import directions, measure_baselines, write_findings
from kanlens.training._constraints import proven_shapes

SCHEMA_VERSION = 1
CHANCE = "Normal random values of the size of the contributions, independent of the model"
PASSED = "of the attribution that was passed"
PACKAGES = ("kanlens", "torch", "captum")
TRAINING = ("best_step", "stopped_because", "metric_name", "metric")


def build_content(analysis: Analysis, *, title: str, generator: str) -> dict[str, Any]:
    """Return an analysis as plain JSON types; `generator` describes the random generator.

    Numbers that are not finite are None. The same input gives the same numbers, except for
    ``comparison["methods"][i]["seconds"]``.
    """
    subject, pruning = analysis.subject, analysis.request.pruning
    history, proven = analysis.request.history, analysis.request.certificate
    flows = analysis.flows
    content = {
        "schema_version": SCHEMA_VERSION,
        "meta": _meta(analysis, title, generator),
        "data": _data(analysis),
        "model": _model(subject.model, analysis.trace),
        "training": history
        and {
            "steps": len(history.history),
            **{name: getattr(history, name) for name in TRAINING},
            "held_out_rows": len(history.held_out),
            "loss": history.loss,
            "validation_loss": history.validation_loss,
            "history": list(history.history),
        },
        "performance": analysis.performance,
        "baselines": measure_baselines(subject, history),
        "importance": _importance(analysis),
        "interactions": page_records.describe_pairs(analysis),
        "flows": flows
        and flows.paths
        and {"method": flows.method, "layers": [flow.abs().mean(0) for flow in flows.paths]},
        "edges": page_records.describe_edges(analysis),
        "formula": analysis.formula and page_records.describe_formula(analysis.formula, subject),
        "formula_refusal": analysis.formula_refusal,
        "certificate": proven and json.loads(proven.to_json()),
        "rows": _rows(analysis),
        "comparison": _comparison(analysis),
        "pruning": pruning
        and {**json.loads(pruning.to_json()), "widths_after": pruning.model.widths},
    }
    if analysis.terms is not None:
        content["growth"] = page_records.describe_growth(analysis.terms, subject.model)
    if subject.model.edits:
        content["edits"] = subject.model.edits
    plain: dict[str, Any] = to_plain(content)
    plain["findings"] = write_findings(plain)
    plain["alerts"] = find_alerts(plain)
    return plain


def _meta(analysis: Analysis, title: str, generator: str) -> dict[str, Any]:
    plan, subject = analysis.plan, analysis.subject
    return {
        "title": title,
        "versions": {name: version_of(name) for name in PACKAGES},
        "target": subject.model.output_names[subject.target],
        "unit": subject.unit,
        "method": plan.method,
        "baseline": analysis.attribution.baseline,
        "background_rows": analysis.background_rows,
        "background_origin": PASSED if analysis.background_rows is None else plan.origin,
        "attributed_rows": len(plan.rows),
        "compared_rows": _compared(analysis)[0],
        "compared_background_rows": _compared(analysis)[1],
        "traced_rows": len(analysis.trace.x),
        "without_interactions": page_records.without_pairs(analysis),
        "generator": generator,
        "model_fingerprint": fingerprint(subject.model.state_dict().values()),
        "data_fingerprint": fingerprint([subject.x]),
    }


def _compared(analysis: Analysis) -> tuple[int, int | None]:
    """Return numbers of rows and background rows of the comparison."""
    rows = len(next(iter(analysis.comparison.attributions.values())).values)
    passed = analysis.request.comparison is not None
    return rows, None if passed else len(analysis.plan.compared_background)


def _data(analysis: Analysis) -> dict[str, Any]:
    subject, record = analysis.subject, analysis.trace
    schema = subject.model.schema
    quantiles = np.quantile(subject.x.double().cpu().numpy(), (0, 0.25, 0.5, 0.75, 1), axis=0)
    rows = zip(schema.features, quantiles.T.tolist(), record.outside[0].tolist(), strict=True)
    features = [
        {
            **{key: getattr(feature, key) for key in ("name", "column", "kind", "unit")},
            **dict(zip(("low", "quarter", "median", "three_quarters", "high"), at, strict=True)),
            "constant": at[0] == at[-1],
            "outside": outside,
        }
        for feature, at, outside in rows
    ]
    return {
        "source": subject.source,
        "rows": subject.rows,
        "index": subject.index,
        "has_target": subject.y is not None,
        "target": schema.target,
        "held_out_rows": subject.held_out,
        "given_away": subject.given_away,
        "features": features,
    }


def _model(model: KAN, record: Trace) -> dict[str, Any]:
    config, certain = json.loads(model.config.to_json()), proven_shapes(model)
    return {
        "widths": model.widths,
        "shape": model.shape,
        "products": [
            {"name": model.node_name(index + 1, nodes.grouping.sums + product), "factors": arity}
            for index, nodes in enumerate(model.nodes)
            for product, arity in enumerate(nodes.grouping.arities)
        ],
        "normalized": any(nodes.normalized for nodes in model.nodes),
        "task": model.task,
        "provenance": model.provenance,
        "class_labels": model.class_labels,
        "constraints": [
            {"column": column, "shape": shape, "proven": column in certain}
            for column, shape in model.constraints.items()
        ],
        "outputs": [{"name": y.name, "unit": y.unit} for y in model.schema.outputs],
        "edges_alive": model.edges_alive,
        "edges_total": sum(layer.mask.numel() for layer in model.layers),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "features_used": int((model.layers[0].mask != 0).any(0).sum()),
        "outside": _outside(model, record),
        "layers": config.get("layers", []),
    }


def _outside(model: KAN, record: Trace) -> dict[str, Any]:
    """Return shares of inputs, hidden units and rows outside the grids."""
    inputs = model.outside(record.x).any(1)
    layers = zip(record.layers[1:], record.inputs[1:], strict=True)
    hidden = [layer.unlearned(x).any(1) for layer, x in layers]
    return {
        "held": bool(model.input_low.isfinite().any()),
        "inputs": float(record.outside[0].mean()),
        "hidden": float(torch.cat(record.outside[1:]).mean()) if hidden else None,
        "all": record.outside_share,
        "rows_with_input": float(inputs.double().mean()),
        "rows_with_hidden": float(torch.stack(hidden).any(0).double().mean()) if hidden else None,
        "units": [
            {"name": model.node_name(level, index), "layer": level, "outside": share}
            for level, shares in enumerate(record.outside)
            for index, share in enumerate(shares.tolist())
            if level > 0
        ],
    }


def _importance(analysis: Analysis) -> dict[str, Any]:
    attribution = analysis.attribution
    grouped, correlations = attribution.grouped(), directions(attribution)
    return {
        "method": attribution.method,
        "meaning": "mean |value|",
        "unit": (attribution.unit or analysis.subject.unit) if attribution.shares else "",
        "target": attribution.target,
        "baseline": attribution.baseline,
        "reference": float(attribution.reference[0]),
        "features": _sizes(attribution, correlations),
        "columns": _sizes(grouped, correlations) if grouped is not attribution else None,
    }


def _sizes(attribution: Attribution, correlations: dict[str, float | None]) -> list[dict[str, Any]]:
    """Return one record per feature, the most important first."""
    table = attribution.to_importance().to_frame().rename(columns={"feature": "name"})
    table["share"] = table["importance"] / (table["importance"].sum() or 1.0)
    table["mean"] = attribution.values.mean(0).cpu().numpy()
    table["direction"] = [correlations.get(name) for name in attribution.features]
    labels = [attribution.levels.get(name) for name in attribution.features]
    table["higher"] = [levels[1] if levels else "a higher value" for levels in labels]
    table = table.sort_values("importance", ascending=False, kind="stable")
    sizes: list[dict[str, Any]] = to_plain(table.to_dict(orient="records"))
    return sizes


def _rows(analysis: Analysis) -> list[dict[str, Any]]:
    subject, explained = analysis.subject, analysis.explained
    features, rows = subject.model.schema.features, []
    for place, (row, reason) in enumerate(analysis.picks):
        x, values = (part.double().cpu() for part in (subject.x[row], explained.values[place]))
        order = values.abs().argsort(descending=True, stable=True).tolist()
        rows.append(
            {
                "row": subject.names[row],
                "reason": reason,
                **_truth(analysis, row),
                "output": float(explained.output[place]),
                "reference": float(explained.reference[place]),
                "gap": float(explained.completeness_gap[place]),
                "contributions": [
                    {
                        "feature": explained.features[i],
                        "value": float(x[i]),
                        "label": _label(features[i], float(x[i])),
                        "contribution": float(values[i]),
                    }
                    for i in order
                ],
            }
        )
    return rows


def _label(feature: Feature, value: float) -> str | None:
    """Return the category that a value of 0 or 1 encodes, None for numbers."""
    return feature.levels[int(value)] if feature.levels and value in (0, 1) else None


def _truth(analysis: Analysis, row: int) -> dict[str, Any]:
    """Return the target and the prediction of one row."""
    subject = analysis.subject
    if subject.model.task == "classification":
        chances = subject.probabilities[row]
        return {
            "actual": None if subject.y is None else subject.labels[int(subject.y[row])],
            "predicted": subject.labels[int(chances.argmax())],
            "probabilities": dict(zip(subject.labels, chances.tolist(), strict=True)),
        }
    actual = None if subject.y is None else float(subject.y[row, subject.target])
    return {"actual": actual, "predicted": float(subject.predicted[row, subject.target])}


def _comparison(analysis: Analysis) -> dict[str, Any]:
    comparison, metrics = analysis.comparison, dict.fromkeys(SHOWN)
    methods = [{**metrics, **record} for record in comparison.frame.to_dict(orient="records")]
    for record in methods:
        case = Case(attribution=comparison.attributions[record["method"]])
        record["relative_gap"] = METRICS["relative_gap"].function(case).value
        method = None if record["method"] == RANDOM else METHODS[record["method"]]
        record["summary"] = CHANCE if method is None else method.summary
        record["reference"] = "" if method is None else method.reference
    rows, background_rows = _compared(analysis)
    left_out = {} if analysis.request.comparison else analysis.plan.left_out
    return {
        "rows": rows,
        "background_rows": background_rows,
        "methods": methods,
        "arrows": {**{name: METRICS[name].arrow for name in SHOWN}, **comparison.arrows},
        "importance": comparison.importance.to_dict(),
        "agreement": comparison.agreement.to_dict(),
        "left_out": {**left_out, **comparison.skipped},
    }
