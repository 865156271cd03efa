"""A model in plain words and numbers."""

from __future__ import annotations

from typing import Any

from kanlens.model.network import KAN


def describe(model: KAN) -> dict[str, Any]:
    """Return what there is to say of a model, as plain JSON types."""
    configs = model.config.layers
    named = [row for config in configs for row in config.functions]
    return {
        "widths": list(model.widths),
        "shape": repr(list(model.shape)),
        "products": sum(len(nodes.grouping.arities) for nodes in model.nodes),
        "task": model.task,
        "target": model.schema.target,
        "outputs": list(model.output_names),
        "classes": list(model.class_labels),
        "edges": sum(config.in_features * config.out_features for config in configs),
        "edges_alive": model.edges_alive,
        "symbolic_edges": sum(name != "spline" for row in named for name in row),
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "grid_size": [config.grid_size for config in configs],
        "spline_order": [config.spline_order for config in configs],
        "base_activation": [config.base_activation for config in configs],
        "extrapolation": [config.extrapolation for config in configs],
        "beyond_range": "held at its end" if model.holds_inputs else "as the first layer goes on",
        "features": _features(model),
    }


def _features(model: KAN) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    known = model.feature_range
    for index, feature in enumerate(model.schema.features):
        facts: dict[str, Any] = {"name": feature.name, "kind": feature.kind, "unit": feature.unit}
        if known is not None:
            facts["low"], facts["high"] = (float(ends[index]) for ends in known)
        found.append(facts)
    return found
