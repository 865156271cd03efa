"""How much one feature alone can change the output: slopes added up, or the additive function."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.certificates import relaxation
from kanlens.certificates.branching import Boxes
from kanlens.certificates.intervals import Interval, meet
from kanlens.certificates.propagation import Propagation
from kanlens.core.analysis import BUDGET
from kanlens.deadlines import NEVER, Deadline

SLICES, FEWEST = 48, 16  # of the domain for a feature, at most and at least
MOST = 768  # for all of them
NUMBERS = 2**30  # that slices of all features may take; there are none where it is more
FINE, COARSE = 256, 32  # slices of one feature's function alone, at most and at least
EDGES = 2**22  # on them


@dataclass(frozen=True, kw_only=True, eq=False)
class Slices:
    """Slices of the whole domain, thin in one feature, and the slopes by it on them.

    Attributes
    ----------
    low, high, slope_low, slope_high : Tensor, shape (slice,)
    """

    low: Tensor
    high: Tensor
    slope_low: Tensor
    slope_high: Tensor


def slices(propagation: Propagation, feature: int, knots: Tensor) -> Slices | None:
    """Bound the slope by one feature on slices of the whole domain that are thin in it.

    None in models so large that this takes too long for all features.
    """
    domain, count = propagation.domain, slice_count(propagation)
    if count * len(domain) * propagation.size > NUMBERS:
        return None
    cuts = _cuts(domain[feature], knots[feature], count)
    lows, highs = domain[:, 0].repeat(len(cuts) - 1, 1), domain[:, 1].repeat(len(cuts) - 1, 1)
    lows[:, feature], highs[:, feature] = cuts[:-1], cuts[1:]
    at_once = max(1, BUDGET // propagation.size)
    parts = [
        propagation.slopes(*ends)
        for ends in zip(lows.split(at_once), highs.split(at_once), strict=True)
    ]
    return Slices(
        low=cuts[:-1],
        high=cuts[1:],
        slope_low=torch.cat([low[:, feature] for low, _ in parts]),
        slope_high=torch.cat([high[:, feature] for _, high in parts]),
    )


def slice_count(propagation: Propagation) -> int:
    """Return in how many slices a feature is cut, knots aside."""
    return min(SLICES, max(FEWEST, MOST // len(propagation.domain)))


def _cuts(ends: Tensor, knots: Tensor, count: int) -> Tensor:  # (cut,)
    """Cut an interval into equal parts, and at knots."""
    low, high = ends
    even = low + (high - low) * torch.linspace(0, 1, count + 1).to(ends)
    inner = knots.clamp(low, high)
    both = torch.cat([even, inner[:: max(1, len(inner) // count)]]).clamp(low, high)
    found: Tensor = torch.unique(both)
    return found


def total_change(boxes: Boxes, thin: Slices | None, feature: int) -> tuple[float, float]:
    """Bound how much the output can rise, and fall, when only one feature grows.

    The rise between two points is the integral of the slope between them, which on every slice of
    the domain is at most the largest slope of the boxes that the slice cuts.

    Parameters
    ----------
    boxes : Boxes
        That cover the domain.
    thin : Slices or None
        What `slices` returns; None: nothing more is known.
    feature : int

    Returns
    -------
    rise, fall : float
        Both at least 0.
    """
    own = Slices(
        low=boxes.low[:, feature],
        high=boxes.high[:, feature],
        slope_low=boxes.slope_low[:, feature],
        slope_high=boxes.slope_high[:, feature],
    )
    known = [own] if thin is None else [own, thin]
    cuts = torch.cat([end for one in known for end in (one.low, one.high)]).unique()
    if len(cuts) < 2:
        return 0.0, 0.0
    most, least = (
        functools.reduce(torch.minimum, [_steepest(one, cuts, sign) for one in known])
        for sign in (1, -1)
    )
    return _largest_gain(most, cuts.diff()), _largest_gain(least, cuts.diff())


def additive_changes(
    propagation: Propagation, apart: Interval, knots: Tensor, deadline: Deadline = NEVER
) -> list[tuple[float, float]] | None:
    """Bound the same by the additive function, and how far the output is from it at most.

    Returns
    -------
    list of tuple of float, or None
        The rise and the fall of every feature, both at least 0; None: there was no time.
    """
    low, high = propagation.domain.T[..., None]
    edges = propagation.additive.numel()
    share = torch.linspace(0, 1, min(FINE, max(COARSE, EDGES // edges)) + 1).to(low)
    cuts = torch.cat([low + (high - low) * share, knots], 1)
    cuts = torch.maximum(torch.minimum(cuts, high), low).sort(1).values.mT  # (cut, in)
    at_once = max(1, BUDGET // (8 * edges))  # 8: control points of an edge on a slice, about
    parts = [
        _additive_terms(propagation, *ends)
        for ends in deadline.paced(
            zip(cuts[:-1].split(at_once), cuts[1:].split(at_once), strict=True)
        )
    ]
    if at_once * len(parts) < len(cuts) - 1:
        return None
    least, most = (torch.cat(ends) for ends in zip(*parts, strict=True))
    rises = (most - least.cummin(0).values).amax(0)
    falls = (most.cummax(0).values - least).amax(0)
    width = apart[1] - apart[0]
    room = 1e-14 * (least.abs().amax(0) + most.abs().amax(0) + width)
    found = (torch.stack([rises, falls], 1) + (width + room)[:, None]).nan_to_num(
        torch.inf, posinf=torch.inf
    )
    return [(rise, fall) for rise, fall in found.tolist()]


def _additive_terms(propagation: Propagation, low: Tensor, high: Tensor) -> Interval:
    """Bound the additive function of each feature on boxes (box, in), shape (box, in)."""
    low, high = meet(propagation.inwards(low, high), propagation.reach[0])
    edges = propagation.enclosures[0].values(low, high)
    weights = propagation.additive[None, None].expand(len(low), -1, -1, -1)
    hull = relaxation.combine(edges, weights).hull()
    return hull[0][:, 0], hull[1][:, 0]


def _steepest(known: Slices, cuts: Tensor, sign: int) -> Tensor:  # (slice,)
    """Return the largest slope, times `sign`, on every slice between cuts."""
    slope = known.slope_high if sign > 0 else -known.slope_low
    found = torch.full_like(cuts[1:], -torch.inf)
    for part in torch.arange(len(slope), device=cuts.device).split(1024):
        left, right = known.low[part], known.high[part]
        inside = (left[:, None] <= cuts[:-1]) & (right[:, None] >= cuts[1:])
        here = torch.where(inside, slope[part][:, None], -torch.inf).amax(0)
        found = torch.maximum(found, here)
    return found


def _largest_gain(slopes: Tensor, widths: Tensor) -> float:
    """Return the largest integral of slopes over consecutive slices, at least 0."""
    steps = slopes * widths
    reached = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
    if not bool(torch.isfinite(reached).all()):
        return float("inf")
    gain = float((reached - reached.cummin(0).values).max())
    return gain + 1e-14 * float(steps.abs().sum()) if gain > 0 else 0.0
