"""Decomposition of the difference between a formula and its model.

Edges are replaced one after the other, from the inputs on, so that the parts add up row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.model._network import KAN
from kanlens.symbolic._assignment import function_edges
from kanlens.symbolic._composition import Array, Expr, evaluator, feature_symbols
from kanlens.symbolic._joint_refit import live_functions

_MAX_EDGES = 400  # with a line each; in larger networks, one per layer
_MAX_ROWS = 5000


@dataclass(frozen=True, kw_only=True, eq=False)
class BudgetLine:
    """Change of the outputs by one step from the model to the formula.

    Attributes
    ----------
    step : str
        ``"edge 0:2:1 (sin)"`` for the edge of layer 0 to node 2 from node 1 that became a sine,
        ``"layer 0"`` for all its edges where there are many, ``"refit"`` for the refit of all
        numbers, ``"formula"`` for rewriting, exact constants and terms left out.
    mean : tuple of float
        Mean change of each output; their sum over the lines is the mean difference.
    mean_absolute, max_absolute : float
        Mean and largest absolute change, over all outputs.
    """

    step: str
    mean: tuple[float, ...]
    mean_absolute: float
    max_absolute: float


def deviations_from(model: KAN, x: Tensor, values: Array, output: Array) -> dict[str, Any]:
    """Return the distances from a model on finite rows, and the share of rows out of range."""
    if model.feature_range is None:
        outside = model.outside(x)
    else:
        low, high = model.feature_range
        slack = 1e-6 * (high - low)
        outside = (x < low - slack) | (x > high + slack)
    facts = {"outside_share": float(outside.any(1).double().mean())}
    good = np.isfinite(values).all(axis=1)
    if not good.any():
        return facts | dict.fromkeys(("max_deviation", "mean_deviation", "relative_rmse"), np.inf)
    gap, deviation = np.abs(values - output)[good], output.std(axis=0)
    deviation = np.where(deviation > 1e-12 * np.abs(output).max(axis=0), deviation, 1.0)
    errors, names = np.sqrt(np.square(gap).mean(axis=0)) / deviation, model.output_names
    return facts | {
        "max_deviation": float(gap.max()),
        "mean_deviation": float(gap.mean()),
        "relative_rmse": float(errors.max()),
        "worst_output": names[int(errors.argmax())] if len(names) > 1 else None,
    }


def error_budget(
    model: KAN, replaced: KAN, refitted: KAN, expressions: tuple[Expr, ...], x: Tensor
) -> tuple[tuple[BudgetLine, ...], tuple[float, ...]]:
    """Return one line per step, and the mean difference of each output."""
    steps, parts, difference = error_parts(model, replaced, refitted, expressions, x)
    finite = np.isfinite(parts).all(axis=(0, 2))
    total = tuple(difference[finite].mean(axis=0).tolist()) if finite.any() else ()
    parts = parts[:, finite] if finite.any() else np.zeros_like(parts[:, :1])
    means, sizes = parts.mean(axis=1).tolist(), np.abs(parts)
    columns = means, sizes.mean(axis=(1, 2)).tolist(), sizes.max(axis=(1, 2)).tolist()
    lines = (
        BudgetLine(step=step, mean=tuple(mean), mean_absolute=size, max_absolute=most)
        for step, mean, size, most in zip(steps, *columns, strict=True)
    )
    return tuple(lines), total


@torch.no_grad()
@np.errstate(invalid="ignore")
def error_parts(
    model: KAN, replaced: KAN, refitted: KAN, expressions: tuple[Expr, ...], x: Tensor
) -> tuple[list[str], Array, Array]:
    """Return steps, their changes (step, batch, out), and the total."""
    x = x[torch.linspace(0, len(x) - 1, min(len(x), _MAX_ROWS)).round().long()]
    states = [*_replacements(model, replaced, x), ("refit", refitted(x))]
    values = evaluator(expressions, feature_symbols(model))(x.numpy(force=True))
    outputs = np.stack([*(output.numpy(force=True) for _, output in states), values])
    steps = [*(name for name, _ in states[1:]), "formula"]
    return steps, np.diff(outputs, axis=0), values - outputs[0]


def _replacements(model: KAN, replaced: KAN, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield names and outputs: the model, then after each replacement of edges."""
    yield "model", model(x)
    hidden = model.scale_inputs(x)
    few = len(function_edges(replaced)) <= _MAX_EDGES
    for index in range(len(model.layers)):
        old, new = model.layers[index], replaced.layers[index]
        functions = live_functions(new)
        if functions and few:
            gap, sums = new.edge_values(hidden) - old.edge_values(hidden), old(hidden)
            for o, i, name in functions:
                sums = sums.clone()
                sums[:, o] += gap[:, o, i]
                yield f"edge {index}:{o}:{i} ({name})", _onwards(model, index, sums)
        elif functions:
            yield f"layer {index}", _onwards(model, index, new(hidden))
        hidden = replaced.through(index, hidden)


def _onwards(model: KAN, index: int, sums: Tensor) -> Tensor:
    """Return the outputs of a model from the sums of one of its layers."""
    return model.scale_outputs(model.run(model.nodes[index](sums), start=index + 1))
