"""Stability: change of an attribution under small perturbations of its sample."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Method, MissingPartError, Score, given, metric
from kanlens.attribution.metrics.points import (
    Mover,
    displaced,
    evaluated,
    normal,
    slices,
    uniform,
)

NEIGHBOURS = 8  # of each sample
RADIUS = 0.1  # of the box of `max_sensitivity`, in standard deviations of each feature
NEAR = 1e-3  # standard deviation of neighbours in `ris`, `ros` and `rrs`, in the same
FLOOR = 1e-3  # of a size or deviation: smaller numbers count as this in relative changes
LEAST = 1e-6  # least relative change that an attribution's change is divided by

View = Callable[[Case, Tensor], Tensor]


def max_sensitivity(method: Method, x: Tensor, values: Tensor, moved: Tensor) -> Tensor:
    """Return the largest |change| of an attribution at moved samples, over its |size|.

    Sizes are Euclidean; the samples (batch, in) move to (draws, batch, in). NaN where the
    attribution is zero.

    References
    ----------
    .. [1] C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019.
    """
    change = _length(attributed(method, moved) - values).amax(0)
    size = _length(values)
    return change / torch.where(size > 0, size, math.nan)


def attributed(method: Method, points: Tensor) -> Tensor:
    """Return the attribution of points (..., in), same shape."""
    flat = points.reshape(-1, points.shape[-1])
    return method(flat).detach().to(points).reshape(points.shape)


def relative_change(before: Tensor, after: Tensor, floor: Tensor) -> Tensor:
    """Return the Euclidean size of (after - before) / |before|, entry by entry, over the last axis.

    Entries smaller than `floor` are divided by it, so that zeros do no harm.
    """
    size = torch.maximum(before.abs(), floor)
    change = (after - before) / torch.where(size > 0, size, 1.0)
    return _length(change)


def _length(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return length


def relative_stability(
    values: Tensor,
    moved_values: Tensor,
    seen: Tensor,
    moved_seen: Tensor,
    floor: Tensor,
    *,
    least: float = LEAST,
) -> Tensor:
    """Return the attribution's relative change over that of the input, output or first layer.

    Seen (batch, n) and moved (draws, batch, n) are inputs (RIS), outputs (ROS) or values of the
    first hidden layer (RRS), `floor` (n,) and `least` what is divided by at least. Shape
    (draws, batch), NaN where the attribution is zero.

    References
    ----------
    .. [1] C. Agarwal et al., Rethinking Stability for Attribution-based Explanations, 2022.
    """
    largest = values.abs().amax(-1, keepdim=True)
    change = relative_change(values, moved_values, FLOOR * largest)
    under = relative_change(seen, moved_seen, floor).clamp_min(least)
    return torch.where(largest[:, 0] > 0, change / under, math.nan)


# --- the metrics ---------------------------------------------------------------------------------


@metric(
    "lower",
    "model",
    "method",
    cost="8 attributions a sample",
    of=max_sensitivity,
    name="max_sensitivity",
)
def sensitivity_max(case: Case) -> Score:
    """Largest relative change of the values in a box of a tenth of a deviation."""
    move, x, method, rows = _mover(case, RADIUS, uniform), case.x, given(case.method), []
    output = case.watched() if case.has_output else None
    for part in slices(len(x), NEIGHBOURS * x.shape[1]):
        moved = move(x[part])
        rows.append(max_sensitivity(method, x[part], case.values[part], moved))
        if output is not None:
            evaluated(output, moved)
    return Score.of(torch.cat(rows), offgrid=math.nan if output is None else output.share)


def _relative(name: str, view: View, what: str, *, worst: bool = False) -> None:
    """Register how much the values change over how much a view of the case does."""
    first, aggregate = ("Largest", "maximum") if worst else ("Median", "median")

    @metric(
        "lower",
        "model",
        "method",
        cost="8 attributions a sample, shared by ris, ros and rrs",
        of=relative_stability,
        name=name,
        summary=f"{first} relative change of the values over that of {what}",
    )
    def score(case: Case) -> Score:
        if not case.has_output:
            raise MissingPartError("points at which the output is not known")
        known, x = view(case, case.known), case.x
        moved, values, offgrid = neighbours(case)
        floor = FLOOR * known.std(0, correction=0)
        seen, moved_seen = view(case, x), view(case, moved)
        ratios = relative_stability(case.values, values, seen, moved_seen, floor)  # (draws, batch)
        rows = ratios.amax(0) if worst else ratios.quantile(0.5, dim=0)
        return Score.of(rows, aggregate, offgrid=offgrid)


def _inputs(case: Case, x: Tensor) -> Tensor:
    return x


def _outputs(case: Case, x: Tensor) -> Tensor:
    return evaluated(case.watched(), x)[..., None]


@torch.no_grad()
def _hidden(case: Case, x: Tensor) -> Tensor:
    model = given(case.model)
    return model.through(0, model.scale_inputs(x))


_relative("ris", _inputs, "the input")
_relative("ris_max", _inputs, "the input; rows are the published RIS", worst=True)
_relative("ros", _outputs, "the output")
_relative("ros_max", _outputs, "the output", worst=True)
_relative("rrs", _hidden, "the first layer's nodes")
_relative("rrs_max", _hidden, "the first layer's nodes", worst=True)


def _mover(
    case: Case, size: float, law: Callable[[tuple[int, ...], torch.Generator], Tensor]
) -> Mover:
    """Return what draws neighbours of samples (batch, in), shape (draws, batch, in)."""
    scale, draws = size * case.known.std(0, correction=0), case.draws()
    if not bool((scale > 0).any()):
        raise MissingPartError("nothing can move")
    return lambda x: displaced(x, scale, NEIGHBOURS, draws, outside=case.leaves, law=law)


def neighbours(case: Case) -> tuple[Tensor, Tensor, float]:
    """Return near neighbours of the samples, their attribution, and the share outside the grids."""
    if "neighbours" not in case.kept:
        method, moved = given(case.method), _mover(case, NEAR, normal)(case.x)
        case.kept["neighbours"] = (moved, attributed(method, moved), _offgrid(case, moved))
    return case.kept["neighbours"]


def _offgrid(case: Case, points: Tensor) -> float:
    """Return the share of values outside their grids at points where a method was asked."""
    if not case.has_output:
        return math.nan
    output = case.watched()
    evaluated(output, points)
    return output.share
