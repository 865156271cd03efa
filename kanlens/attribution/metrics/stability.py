"""How much an attribution moves when its sample moves a little."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Method, Score, undefined
from kanlens.attribution.metrics.metric import Metric
from kanlens.attribution.metrics.points import displaced, evaluated, normal, uniform

NEIGHBOURS = 8  # of each sample
RADIUS = 0.1  # of the box of `max_sensitivity`, in standard deviations of each feature
NEAR = 1e-3  # standard deviation of neighbours in `ris`, `ros` and `rrs`, in the same
FLOOR = 1e-3  # of a size or deviation: smaller numbers count as this in relative changes
LEAST = 1e-6  # least relative change that an attribution's change is divided by

View = Callable[[Case, Tensor], "Tensor | None"]


def max_sensitivity(method: Method, x: Tensor, values: Tensor, moved: Tensor) -> Tensor:
    """Return the largest |change| of an attribution at moved samples, over its |size|.

    Sizes are Euclidean.

    Parameters
    ----------
    method : callable
        Maps x (batch, in) to values (batch, in).
    x, values : Tensor, shape (batch, in)
        Samples and their attribution.
    moved : Tensor, shape (draws, batch, in)
        Where the samples move to.

    Returns
    -------
    Tensor, shape (batch,)
        NaN where the attribution is zero.

    References
    ----------
    .. [1] C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019.

    Examples
    --------
    >>> x = torch.ones(1, 2)
    >>> max_sensitivity(lambda x: 2 * x, x, 2 * x, 1.5 * x[None])
    tensor([0.5000])
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

    Examples
    --------
    >>> before, after = torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0]])
    >>> relative_change(before, after, torch.tensor(0.1))
    tensor([0.5000])
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
    """Return the relative change of an attribution over that of what the model saw or gave.

    Parameters
    ----------
    values, moved_values : Tensor, shapes (batch, in) and (draws, batch, in)
        Attribution of the samples, and of their neighbours.
    seen, moved_seen : Tensor, shapes (batch, n) and (draws, batch, n)
        Inputs (RIS), outputs (ROS) or values of the first hidden layer (RRS) of the same.
    floor : Tensor, shape (n,)
        Least number that changes of these are divided by. For attributions it is a thousandth of
        the largest |value| of the sample.
    least : float
        Least relative change to divide by.

    Returns
    -------
    Tensor, shape (draws, batch)
        NaN where the attribution is zero.

    References
    ----------
    .. [1] C. Agarwal et al., Rethinking Stability for Attribution-based Explanations, 2022.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> moved = 1.01 * x[None]
    >>> relative_stability(3 * x, 3 * moved, x, moved, torch.zeros(2)).round(decimals=4)
    tensor([[1.]])
    """
    largest = values.abs().amax(-1, keepdim=True)
    change = relative_change(values, moved_values, FLOOR * largest)
    under = relative_change(seen, moved_seen, floor).clamp_min(least)
    return torch.where(largest[:, 0] > 0, change / under, math.nan)


# --- the metrics ---------------------------------------------------------------------------------


def sensitivity_max(case: Case) -> Score:
    """Largest relative change of the values in a box of a tenth of a deviation."""
    moved = _moved(case, RADIUS, uniform)
    if moved is None or case.x is None or case.method is None:
        return undefined(case)
    rows = max_sensitivity(case.method, case.x, case.values, moved)
    return Score.of(rows, offgrid=_offgrid(case, moved))


def ris(case: Case) -> Score:
    """Relative change of the values over that of the input, median over neighbours and samples."""
    return _typical(case, _inputs)


def ris_max(case: Case) -> Score:
    """As `ris`, the largest over neighbours and samples; rows are the published RIS."""
    return _worst(case, _inputs)


def ros(case: Case) -> Score:
    """As `ris`, over the relative change of the output."""
    return _typical(case, _outputs)


def ros_max(case: Case) -> Score:
    """As `ris_max`, over the relative change of the output."""
    return _worst(case, _outputs)


def rrs(case: Case) -> Score:
    """As `ris`, over the relative change of the nodes of the first layer."""
    return _typical(case, _hidden)


def rrs_max(case: Case) -> Score:
    """As `ris_max`, over the relative change of the nodes of the first layer."""
    return _worst(case, _hidden)


def _inputs(case: Case, x: Tensor) -> Tensor | None:
    return x


def _outputs(case: Case, x: Tensor) -> Tensor | None:
    return evaluated(case.watched(), x)[..., None]


def _hidden(case: Case, x: Tensor) -> Tensor | None:
    model = case.model
    return None if model is None else model.through(0, model.scale_inputs(x))


def _typical(case: Case, view: View) -> Score:
    ratios, offgrid = _ratios(case, view)
    if ratios is None:
        return undefined(case)
    return Score.of(ratios.quantile(0.5, dim=0), "median", offgrid=offgrid)


def _worst(case: Case, view: View) -> Score:
    ratios, offgrid = _ratios(case, view)
    if ratios is None:
        return undefined(case)
    return Score.of(ratios.amax(0), "maximum", offgrid=offgrid)


def _moved(
    case: Case, size: float, law: Callable[[tuple[int, ...], torch.Generator], Tensor]
) -> Tensor | None:
    """Return neighbours of the samples, shape (draws, batch, in); None where nothing can move."""
    if case.x is None or case.known is None:
        return None
    scale = size * case.known.std(0, correction=0)
    if not bool((scale > 0).any()):
        return None
    return displaced(case.x, scale, NEIGHBOURS, case.draws(), outside=case.leaves, law=law)


def neighbours(case: Case) -> tuple[Tensor, Tensor, float] | None:
    """Return near neighbours of the samples, their attribution, and the share outside the grids.

    Made once for a case; None without a method, or where nothing can move.
    """
    if case.method is None:
        return None
    if "neighbours" not in case.kept:
        moved = _moved(case, NEAR, normal)
        if moved is not None:
            values = attributed(case.method, moved)
            case.kept["neighbours"] = (moved, values, _offgrid(case, moved))
    return case.kept.get("neighbours")


def _offgrid(case: Case, points: Tensor) -> float:
    """Return the share of values outside their grids at points where a method was asked."""
    if not case.has_output:
        return math.nan
    output = case.watched()
    evaluated(output, points)
    return output.share


def _ratios(case: Case, view: View) -> tuple[Tensor | None, float]:
    """Return `relative_stability` (draws, batch), and what was off the grids; None without it."""
    if case.x is None or case.known is None or not case.has_output:
        return None, math.nan
    with torch.no_grad():
        known, seen = view(case, case.known), view(case, case.x)
    found = None if known is None else neighbours(case)
    if found is None or known is None or seen is None:
        return None, math.nan
    moved, values, offgrid = found
    with torch.no_grad():
        moved_seen = view(case, moved)
    if moved_seen is None:
        return None, math.nan
    floor = FLOOR * known.std(0, correction=0)
    ratios = relative_stability(case.values, values, seen, moved_seen, floor)
    return ratios, offgrid


_COST = "8 attributions a sample, shared by ris, ros and rrs"
_YEH = "C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019"
_AGARWAL = "C. Agarwal et al., Rethinking Stability for Attribution-based Explanations, 2022"

METRICS = (
    Metric(
        name="max_sensitivity",
        function=sensitivity_max,
        direction="lower",
        cost="8 attributions a sample",
        needs=frozenset({"model", "method"}),
        reference=_YEH,
        summary="largest relative change of the values in a box of a tenth of a deviation",
    ),
    Metric(
        name="ris",
        function=ris,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model", "method"}),
        reference=_AGARWAL,
        summary="median relative change of the values over that of the input",
    ),
    Metric(
        name="ris_max",
        function=ris_max,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model", "method"}),
        reference=_AGARWAL,
        summary="the same, the largest over neighbours and samples",
    ),
    Metric(
        name="ros",
        function=ros,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model", "method"}),
        reference=_AGARWAL,
        summary="median relative change of the values over that of the output",
    ),
    Metric(
        name="ros_max",
        function=ros_max,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model", "method"}),
        reference=_AGARWAL,
        summary="the same, the largest over neighbours and samples",
    ),
    Metric(
        name="rrs",
        function=rrs,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model", "method"}),
        reference=_AGARWAL,
        summary="median relative change of the values over that of the first layer's nodes",
    ),
    Metric(
        name="rrs_max",
        function=rrs_max,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model", "method"}),
        reference=_AGARWAL,
        summary="the same, the largest over neighbours and samples",
    ),
)
