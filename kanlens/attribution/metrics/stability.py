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
    uniform,
)
from kanlens.attribution.result import Moments

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
    move, method = mover(case, RADIUS, uniform), given(case.method)
    output = case.watched() if case.has_output else None

    def changes(part: Case) -> Tensor:
        moved = move(part.x)
        if output is not None:
            evaluated(output, moved)
        return max_sensitivity(method, part.x, part.values, moved)

    return case.score(changes, NEIGHBOURS, output=output)


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
        if view is _hidden:
            given(case.model)
        ratios, offgrid = _ratios(case)
        return Score.of(ratios[VIEWS.index(view), int(worst)], aggregate, offgrid=offgrid)


def _ratios(case: Case) -> tuple[Tensor, float]:
    """Return median and largest ratios at neighbours (view, 2, batch), and the share off grid."""
    if not case.has_output:
        raise MissingPartError("points at which the output is not known")
    if "neighbours" not in case.kept:
        method, move, output = given(case.method), mover(case, NEAR, normal), case.watched()
        views = VIEWS if case.model is not None else VIEWS[:-1]
        floors = [FLOOR * _spread(case, view) for view in views]

        def ratios(part: Case) -> Tensor:
            x, moved, found = part.x, move(part.x), []
            values = attributed(method, moved)
            evaluated(output, moved)
            for view, floor in zip(views, floors, strict=True):
                seen = view(case, x), view(case, moved)
                one = relative_stability(part.values, values, *seen, floor)  # (draws, batch)
                found.append(torch.stack([one.quantile(0.5, dim=0), one.amax(0)]))
            return torch.stack(found)

        case.kept["neighbours"] = case.each(ratios, NEIGHBOURS), output.share
    return case.kept["neighbours"]


def _inputs(case: Case, x: Tensor) -> Tensor:
    return x


def _outputs(case: Case, x: Tensor) -> Tensor:
    return evaluated(case.watched(), x)[..., None]


@torch.no_grad()
def _hidden(case: Case, x: Tensor) -> Tensor:
    model = given(case.model)
    return model.through(0, model.scale_inputs(x))


VIEWS: tuple[View, ...] = (_inputs, _outputs, _hidden)
_relative("ris", _inputs, "the input")
_relative("ris_max", _inputs, "the input; rows are the published RIS", worst=True)
_relative("ros", _outputs, "the output")
_relative("ros_max", _outputs, "the output", worst=True)
_relative("rrs", _hidden, "the first layer's nodes")
_relative("rrs_max", _hidden, "the first layer's nodes", worst=True)


def mover(
    case: Case, size: float, law: Callable[[tuple[int, ...], torch.Generator], Tensor]
) -> Mover:
    """Return what draws neighbours of samples (batch, in), shape (draws, batch, in)."""
    scale, draws = size * _spread(case, _inputs), case.draws()
    if not bool((scale > 0).any()):
        raise MissingPartError("nothing can move")
    return lambda x: displaced(x, scale, NEIGHBOURS, draws, outside=case.leaves, law=law)


def _spread(case: Case, view: View) -> Tensor:
    """Return the standard deviation of a view of all known rows, taken some at a time."""
    total = Moments.over(view(case, part) for part in case.known())
    return (total.squares / total.rows).sqrt()
