"""Where the distance between a formula and its model comes from, edge by edge.

The edges are replaced one after the other, from the inputs to the outputs; what the outputs move
by at one step is that edge's part. The steps telescope: together with what refitting the numbers
and rewriting the formula changed, the parts add up to the whole distance, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.model.function_layer import SPLINE, FunctionLinear
from kanlens.model.network import KAN
from kanlens.symbolic.composition import Array, Expr, evaluator, feature_symbols

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
    """The parts of the difference between formula and model, row by row.

    Attributes
    ----------
    steps : tuple of str
    parts : ndarray, shape (step, batch, out)
        They add up to ``difference``.
    difference : ndarray, shape (batch, out)
        Formula minus model.
    """

    steps: tuple[str, ...]
    parts: Array
    difference: Array

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
        found = []
        for step, part in zip(self.steps, self.parts[:, good], strict=True):
            size = np.abs(part) if len(part) else np.zeros((1, part.shape[1]))
            mean = part.mean(axis=0) if len(part) else size[0]
            found.append(
                BudgetLine(
                    step=step,
                    mean=tuple(mean.tolist()),
                    mean_absolute=float(size.mean()),
                    max_absolute=float(size.max()),
                )
            )
        return tuple(found)


@torch.no_grad()
def error_budget(
    model: KAN, replaced: KAN, refitted: KAN, expressions: tuple[Expr, ...], x: Tensor
) -> ErrorBudget:
    """Split the difference between a formula and a model into parts that add up.

    Parameters
    ----------
    model : KAN
        In float64.
    replaced : KAN
        `model` with functions on edges, its other numbers unchanged.
    refitted : KAN
        `replaced` after the refit of its numbers.
    expressions : tuple of Expr
        One per output, in the symbols of `feature_symbols`.
    x : Tensor, shape (batch, in)
        In the units of the data; at most 5000 rows, spread evenly, are used.

    Returns
    -------
    ErrorBudget
    """
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
        steps=(*steps, "refit", "formula"),
        parts=np.stack(parts),
        difference=values - start.numpy(force=True),
    )


def _replacements(model: KAN, replaced: KAN, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield every step of the replacement and the outputs after it."""
    hidden = model.scale_inputs(x)
    edges = [_changed(replaced, index) for index in range(len(model.layers))]
    each = sum(len(found) for found in edges) <= _MOST_EDGES
    for index, found in enumerate(edges):
        old, new = model.layers[index], replaced.layers[index]
        if each and found:
            gap = new.edge_values(hidden) - old.edge_values(hidden)
            sums = old(hidden)
            for o, i, name in found:
                sums = sums.clone()
                sums[:, o] += gap[:, o, i]
                yield f"edge {index}:{o}:{i} ({name})", _onwards(model, index, sums)
        elif found:
            yield f"layer {index}", _onwards(model, index, new(hidden))
        hidden = replaced.through(index, hidden)


def _changed(replaced: KAN, index: int) -> list[tuple[int, int, str]]:
    """Return out, in and function of the live edges of a layer that are functions."""
    layer = replaced.layers[index]
    if not isinstance(layer, FunctionLinear):
        return []
    return [
        (o, i, name)
        for o, row in enumerate(layer.functions)
        for i, name in enumerate(row)
        if name != SPLINE and bool(layer.mask[o, i] != 0)
    ]


def _onwards(model: KAN, index: int, sums: Tensor) -> Tensor:
    """Return the outputs of a model from the sums of one of its layers."""
    return model.scale_outputs(model.run(model.nodes[index](sums), start=index + 1))
