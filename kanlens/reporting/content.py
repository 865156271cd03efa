"""The numbers of a report as plain JSON types: what the page shows and the JSON twin holds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from kanlens.attribution.metrics import METRICS, Case
from kanlens.attribution.registry import METHODS
from kanlens.attribution.result import Attribution
from kanlens.attribution.runs import RANDOM
from kanlens.checks import version_of
from kanlens.data.schema import Feature
from kanlens.model.network import KAN
from kanlens.model.recording import Trace
from kanlens.model.training_record import fingerprint
from kanlens.plain_json import to_plain
from kanlens.reporting import records
from kanlens.reporting.alerts import find_alerts
from kanlens.reporting.analysis import SHOWN, Analysis
from kanlens.reporting.findings import directions, measure_baselines, write_findings

SCHEMA_VERSION = 1
CHANCE = "Normal numbers of the size of the values, which know nothing of the model: the floor"
PASSED = "rows of an attribution that was passed"
PACKAGES = ("kanlens", "torch", "captum")


def build_content(analysis: Analysis, *, title: str, generator: str) -> dict[str, Any]:
    """Write everything that was computed as plain JSON types; `generator` is said in words.

    Numbers that are not finite are None. All are the same for the same input, but
    ``comparison["methods"][i]["seconds"]``.
    """
    subject, pruning = analysis.subject, analysis.request.pruning
    proven = analysis.request.certificate
    content = {
        "schema_version": SCHEMA_VERSION,
        "meta": _meta(analysis, title, generator),
        "data": _data(analysis),
        "model": _model(subject.model, analysis.trace),
        "training": _training(analysis),
        "performance": analysis.performance,
        "baselines": measure_baselines(subject, analysis.request.history),
        "importance": _importance(analysis),
        "interactions": records.describe_pairs(analysis),
        "flows": records.describe_flows(analysis),
        "edges": records.describe_edges(analysis),
        "formula": records.describe_formula(analysis),
        "formula_refusal": analysis.formula_refusal,
        "certificate": proven and json.loads(proven.to_json()),
        "rows": _rows(analysis),
        "comparison": _comparison(analysis),
        "pruning": pruning
        and {**json.loads(pruning.to_json()), "widths_after": pruning.model.widths},
    }
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
        "without_interactions": records.without_pairs(analysis),
        "generator": generator,
        "model_fingerprint": fingerprint(subject.model.state_dict().values()),
        "data_fingerprint": fingerprint([subject.x]),
    }


def _compared(analysis: Analysis) -> tuple[int, int | None]:
    """Return the numbers of rows and, where it is known, of background rows of the comparison."""
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
    config = json.loads(model.config.to_json())
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
        "class_labels": model.class_labels,
        "outputs": [{"name": one.name, "unit": one.unit} for one in model.schema.outputs],
        "edges_alive": model.edges_alive,
        "edges_total": sum(layer.mask.numel() for layer in model.layers),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "features_used": int((model.layers[0].mask != 0).any(0).sum()),
        "outside": _outside(model, record),
        "layers": config.get("layers", []),
    }


def _outside(model: KAN, record: Trace) -> dict[str, Any]:
    """Return the shares of inputs, hidden units and rows outside the grids, or the data if held."""
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


def _training(analysis: Analysis) -> dict[str, Any] | None:
    result = analysis.request.history
    if result is None:
        return None
    return {
        "steps": len(result.history),
        "best_step": result.best_step,
        "stopped_because": result.stopped_because,
        "metric_name": result.metric_name,
        "metric": result.metric,
        "held_out_rows": len(result.held_out),
        "loss": result.loss,
        "validation_loss": result.validation_loss,
        "history": list(result.history),
    }


def _importance(analysis: Analysis) -> dict[str, Any]:
    found = analysis.attribution
    grouped, known = found.grouped(), directions(found)
    return {
        "method": found.method,
        "meaning": "mean |value|",
        "unit": (found.unit or analysis.subject.unit) if found.shares else "",
        "target": found.target,
        "baseline": found.baseline,
        "reference": float(found.reference[0]),
        "features": _sizes(found, known),
        "columns": _sizes(grouped, known) if grouped is not found else None,
    }


def _sizes(found: Attribution, known: dict[str, float | None]) -> list[dict[str, Any]]:
    """Return one record per feature, the most important first."""
    table = found.to_importance().to_frame().rename(columns={"feature": "name"})
    table["share"] = table["importance"] / (table["importance"].sum() or 1.0)
    table["mean"] = found.values.mean(0).cpu().numpy()
    table["direction"] = [known.get(name) for name in found.features]
    sizes: list[dict[str, Any]] = to_plain(table.to_dict(orient="records"))
    return sorted(sizes, key=lambda record: -record["importance"])


def _rows(analysis: Analysis) -> list[dict[str, Any]]:
    subject, found = analysis.subject, analysis.explained
    x, rows = subject.x.double().cpu(), []
    for place, (row, reason) in enumerate(analysis.picks):
        values = found.values[place].double().cpu()
        order = values.abs().argsort(descending=True, stable=True).tolist()
        rows.append(
            {
                "row": subject.names[row],
                "reason": reason,
                **_truth(analysis, row),
                "output": float(found.output[place]),
                "reference": float(found.reference[place]),
                "gap": float(found.completeness_gap[place]),
                "contributions": [
                    {
                        "feature": found.features[i],
                        "value": float(x[row, i]),
                        "label": _label(subject.model.schema.features[i], float(x[row, i])),
                        "contribution": float(values[i]),
                    }
                    for i in order
                ],
            }
        )
    return rows


def _label(feature: Feature, value: float) -> str | None:
    """Return the text that a value of 0 or 1 stands for, None for numbers."""
    if feature.kind != "missing" and (feature.category is None or value not in (0, 1)):
        return None
    if feature.kind == "binary":
        return feature.categories[int(value)]
    return "yes" if value else "no"


def _truth(analysis: Analysis, row: int) -> dict[str, Any]:
    """Return what is known and predicted of one row."""
    subject = analysis.subject
    if subject.model.task == "classification":
        chances = subject.probabilities[row]
        known = None if subject.y is None else subject.labels[int(subject.y[row])]
        return {
            "actual": known,
            "predicted": subject.labels[int(chances.argmax())],
            "probabilities": dict(zip(subject.labels, chances.tolist(), strict=True)),
        }
    actual = None if subject.y is None else float(subject.y[row, subject.target])
    return {"actual": actual, "predicted": float(subject.output[row, subject.target])}


def _comparison(analysis: Analysis) -> dict[str, Any]:
    found = analysis.comparison
    known = dict.fromkeys(SHOWN)
    methods = [{**known, **record} for record in found.frame.to_dict(orient="records")]
    for record in methods:
        case = Case(attribution=found.attributions[record["method"]])
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
        "arrows": {**{name: METRICS[name].arrow for name in known}, **found.arrows},
        "importance": found.importance.to_dict(),
        "agreement": found.agreement.to_dict(),
        "left_out": {**left_out, **found.skipped},
    }
