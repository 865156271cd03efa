"""Before the first step: the way back when it fails, the scaling, the range, and the memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import check_choice
from kanlens.data.source import Source
from kanlens.data.tables import Table
from kanlens.errors import InvalidValueError
from kanlens.model.network import KAN
from kanlens.model.statistics import deviations
from kanlens.resources import check_memory
from kanlens.training.options import FitOptions

QUANTILES = (0.05, 0.95)
FENCE = 10.0  # spans between these quantiles that a feature may reach beyond them
SPARE = (5, 30)  # of the outermost values, at most so many, and one of so many rows
HISTORY = 20  # steps and slopes that LBFGS keeps
REFIT = 3000  # numbers that moving the grid of one input takes; measured: 3900
VALUES = 5  # numbers kept for one input of a layer and one row; measured: 6 to 12


@contextlib.contextmanager
def unchanged_on_failure(model: KAN) -> Iterator[None]:
    """Put a model back as it was when the block raises: tensors, names, scaling, statistics."""
    schema, scaled, background, record = model.schema, model.scaled, model.background, model.record
    statistics = [layer.statistics for layer in model.layers]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        yield
    except BaseException:
        model.load_state_dict(state)
        model.schema, model.scaled, model.background = schema, scaled, background
        model.record = record
        for layer, known in zip(model.layers, statistics, strict=True):
            layer.statistics = known
        raise


def settle_scaling(model: KAN, x: Tensor, y: Tensor, scale: bool | None) -> None:
    """Set the scaling from data, unless settled: features span the grid, targets vary by 1."""
    x = x.clamp(model.input_low, model.input_high)
    low, high = x.amin(0), x.amax(0)
    if scale is False or (scale is None and model.scaled):
        model.scaled = True
        return
    grid_low, grid_high = model.layers[0].domain()
    ratio = (high - low) / (grid_high - grid_low)
    tiny = torch.finfo(x.dtype).eps * torch.maximum(low.abs(), high.abs())
    ratio = torch.where(high - low > tiny, ratio, torch.ones_like(ratio))
    middle, grid_middle = (low + high) / 2, (grid_low + grid_high) / 2
    model.input_scale.copy_(ratio)
    model.input_shift.copy_(middle - grid_middle * ratio)
    if model.task == "regression":
        deviation = deviations(y)
        model.output_shift.copy_(y.mean(0))
        model.output_scale.copy_(torch.where(deviation > 0, deviation, 1.0))
    model.scaled = True


def settle_range(model: KAN, x: Tensor, *, beyond: bool = False) -> None:
    """Have features held in the range of x (batch, in), cut off at `FENCE` beyond `QUANTILES`.

    Where most values are equal, the quantiles are those of the distinct ones. A range that there is
    grows; a model that holds no features stays as it is. With `beyond` a range goes on by the span
    of its outermost values, `SPARE` of them: as far as the next ones are likely to lie.
    """
    if not model.holds_inputs:
        return
    ends = np.quantile(x.cpu().double().numpy(), QUANTILES, axis=0)  # (2, in)
    for i in np.flatnonzero(ends[0] == ends[1]):
        ends[:, i] = np.quantile(x[:, i].unique().cpu().double().numpy(), QUANTILES)
    room = FENCE * (ends[1] - ends[0])
    least, most = (torch.as_tensor(end).to(x) for end in (ends[0] - room, ends[1] + room))
    few = 1 + min(SPARE[0], len(x) // SPARE[1]) * beyond
    last, first = x.topk(few, dim=0).values, x.topk(few, dim=0, largest=False).values
    free = least == most  # of a constant column
    low, high = first[0] - (first[-1] - first[0]), last[0] + (last[0] - last[-1])
    low = low.where(free, low.maximum(least))
    high = high.where(free, high.minimum(most))
    known = model.input_low.isfinite() & model.input_high.isfinite()
    model.input_low.copy_(torch.where(known, low.minimum(model.input_low), low))
    model.input_high.copy_(torch.where(known, high.maximum(model.input_high), high))


def row_weights(given: Any, x: Tensor) -> Tensor | None:  # (batch,)
    """Return weights of the rows x (batch, in), with mean 1; None when none are given."""
    if given is None:
        return None
    weights = torch.as_tensor(given).detach().to(x)
    fine = weights.shape == (len(x),) and bool(weights.isfinite().all() & (weights >= 0).all())
    if not fine or not bool(weights.any()):
        expected = f"sample_weight to be {len(x)} numbers of at least 0, not all 0"
        got = f"shape {tuple(weights.shape)}" if weights.shape != (len(x),) else "other numbers"
        raise InvalidValueError("fit", expected, got, "Give one weight for each row")
    return weights / weights.mean()


def labelled(data: Any, groups: Any) -> tuple[Any, Any]:
    """Return data without the column of groups, and the labels (batch,) of their rows or None."""
    if isinstance(data, Table):
        groups = data.groups if groups is None else groups
        if not isinstance(groups, str):
            return data, groups
        check_choice("fit", "groups", groups, data.frame.columns)
        features = [one.name for one in data.schema.features if one.column != groups]
        return data.keep(features), data.frame[groups]
    if groups is not None and isinstance(data, Source):
        expected, advice = "groups of rows that memory holds", "Allow more max_memory"
        raise InvalidValueError("fit", expected, f"{data.rows:,} rows", advice)
    if isinstance(groups, str) and hasattr(data[0], "columns"):
        check_choice("fit", "groups", groups, data[0].columns)
        return (data[0].drop(columns=groups), data[1]), data[0][groups]
    return data, groups


def check_footprint(model: KAN, options: FitOptions, x: Tensor) -> None:
    """Refuse to train on x (batch, in) where weights, optimizer and hidden values do not fit.

    Only what is sure to be taken counts: measured from 10 to 2000 rows and up to 200,000 nodes,
    training takes 1.2 to 1.5 times as much. Memory of other devices is not looked at.
    """
    if x.device.type != "cpu":
        return
    weights = sum(parameter.numel() for parameter in model.parameters())
    copies = 3 + 2 * (HISTORY if options.optimizer == "lbfgs" else 1)
    widest = max(layer.in_features for layer in model.layers)
    points = (REFIT if options.grid_updates else 0) + VALUES * len(x)
    needed = x.element_size() * (copies * weights + points * widest)
    what = f"training of {list(model.widths)} on {len(x):,} rows"
    check_memory("fit", needed, what, "Take fewer nodes or rows")
