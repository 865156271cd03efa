"""Where the distance between a formula and its model comes from, edge by edge.

Edges are replaced one after the other, from the inputs on, so that the parts add up row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.model.network import KAN
from kanlens.symbolic.assignment import function_edges
from kanlens.symbolic.composition import Array, Expr, evaluator, feature_symbols
from kanlens.symbolic.joint_refit import live_functions

AFTERWARDS = ("refit", "formula")  # steps that follow those of edges or layers
_MOST_EDGES = 400  # that get a line each; beyond, a layer gets one
_MOST_ROWS = 5000


@dataclass(frozen=True, kw_only=True, eq=False)
class BudgetLine:
    """What one step on the way from the model to the formula did to the outputs.

    Attributes
    ----------
    step : str
        ``"edge 0:2:1 (sin)"`` for the edge of layer 0 to node 2 from node 1 that became a sine,
        ``"layer 0"`` for all its edges where there are many, ``"refit"`` for the refit of all
        numbers, ``"formula"`` for rewriting, exact constants and terms left out.
    mean : tuple of float
        Mean change of each output. Over the lines they add up to the mean difference.
    mean_absolute, max_absolute : float
        Mean and largest absolute change, over all outputs.
    """

    step: str
    mean: tuple[float, ...]
    mean_absolute: float
    max_absolute: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorBudget:
    """The parts of the difference between formula and model, row by row."""

    steps: tuple[str, ...]
    parts: Array  # (step, batch, out): they add up to `difference`
    difference: Array  # (batch, out): formula minus model

    @property
    def mean_difference(self) -> tuple[float, ...]:
        """Mean of formula minus model of each output, over the rows of `lines`."""
        good = self._good
        return tuple(self.difference[good].mean(axis=0).tolist()) if good.any() else ()

    @property
    def _good(self) -> Any:
        """Which rows are finite after every step, (batch,)."""
        return np.isfinite(self.parts).all(axis=(0, 2))

    def lines(self) -> tuple[BudgetLine, ...]:
        """Return one line per step; rows that are not finite after every step are left out."""
        good = self._good
        parts = self.parts[:, good] if good.any() else np.zeros_like(self.parts[:, :1])
        means, sizes = parts.mean(axis=1).tolist(), np.abs(parts)
        columns = means, sizes.mean(axis=(1, 2)).tolist(), sizes.max(axis=(1, 2)).tolist()
        return tuple(
            BudgetLine(step=step, mean=tuple(mean), mean_absolute=size, max_absolute=most)
            for step, mean, size, most in zip(self.steps, *columns, strict=True)
        )


@torch.no_grad()
def error_budget(
    model: KAN, replaced: KAN, refitted: KAN, expressions: tuple[Expr, ...], x: Tensor
) -> ErrorBudget:
    """Split the difference between a formula and a model into parts that add up."""
    pick = torch.linspace(0, len(x) - 1, min(len(x), _MOST_ROWS)).round().long()
    x = x[pick]
    steps, parts = [], []
    last = start = model(x)
    for step, output in _replacements(model, replaced, x):
        steps.append(step)
        parts.append((output - last).numpy(force=True))
        last = output
    moved = refitted(x)
    values = evaluator(expressions, feature_symbols(model))(x.numpy(force=True))
    parts += [(moved - last).numpy(force=True), values - moved.numpy(force=True)]
    return ErrorBudget(
        steps=(*steps, *AFTERWARDS),
        parts=np.stack(parts),
        difference=values - start.numpy(force=True),
    )


def _replacements(model: KAN, replaced: KAN, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield every step of the replacement and the outputs after it."""
    hidden = model.scale_inputs(x)
    few = len(function_edges(replaced)) <= _MOST_EDGES
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
