"""Effects of single features: slopes, rises and falls, verdicts of monotonicity."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from kanlens.certificates._additive_approximation import AdditiveFunction, additive_changes
from kanlens.certificates._bound_propagation import BoundPropagation, BoxBounds
from kanlens.certificates._branch_and_bound import FLAT, SearchBudget
from kanlens.certificates._relaxation import EPS, SUM_EPS, Interval
from kanlens.certificates._sampling import (
    LINES,
    LOCAL_STEPS,
    STOPS,
    WORK,
    EvaluatedPoints,
    Extremes,
    PointPair,
    affordable,
    steepest_pairs,
)
from kanlens.certificates._statements import Bound, FeatureCertificate, Range, Verdict
from kanlens.model._analysis import BUDGET, live_features
from kanlens.model._layer_enclosures import MAX_COORDINATE, encloses

UNBOUNDED = "a slope without a bound: a pole, a jump, or an undefined function"
UNBOUNDED_REASON = (
    f"a slope without a bound: the domain reaches beyond {MAX_COORDINATE:g} in scaled units"
)
STOPPED = "a slope without a bound: the search ended early"
Slices: TypeAlias = tuple[Interval, Interval]  # values of a feature, slopes by it: (slice,)
ROUNDINGS = 100  # an effect of fewer rounding errors of one evaluation counts as none
MAX_SLICES, MIN_SLICES = 48, 16  # of the domain for a feature, at most and at least
ALL_SLICES = 768  # of all features
SLICE_NUMBERS = 2**30  # most numbers that slices of all features may take


@dataclass(frozen=True, eq=False)
class OutputFindings:
    """Bounds on boxes that cover the domain, and samples, of one output."""

    propagation: BoundPropagation
    boxes: BoxBounds
    count: int  # of boxes that were bounded
    decided: bool  # whether nothing was left open
    sample: EvaluatedPoints
    seen: Extremes
    additive: AdditiveFunction | None
    budget: SearchBudget

    @functools.cached_property
    def lacking(self) -> str:
        """Reason why a layer or function has no slope bounds; empty if all have them."""
        for layer in self.propagation.model.layers:
            if not encloses(layer):
                kind = getattr(layer, "kind", type(layer).__name__)
                return f"a layer of kind {kind!r} does not bound its edges (method 'enclosure')"
            for term in layer.edge_terms():
                if term.g.turning(1) is None and bool((term.mask != 0).any()):
                    return f"the slope of {term.g.name!r} has no bound: its extrema are not known"
        return ""

    @property
    def largest(self) -> float:
        """Largest absolute output at evaluated points."""
        return max(abs(end) for end in self.seen.value)

    @property
    def blur(self) -> float:
        """Largest difference between two outputs that rounding can explain."""
        return min(2 * self.propagation.noise, FLAT * self.largest)


def feature_certificates(findings: OutputFindings) -> tuple[FeatureCertificate, ...]:
    """Certify the effects of every feature on the output."""
    ends = [*findings.boxes.slope.hull(), findings.seen.slope_low, findings.seen.slope_high]
    pairs, changes = _pairs(findings), _changes(findings).tolist()
    value_low, value_high = (float(end) for end in findings.boxes.value.hull())
    width, blur = (value_high - value_low) * (1 + EPS), findings.blur
    names, certificates = findings.propagation.model.feature_names, []
    effects = zip(torch.stack(ends, 1).tolist(), pairs, changes, strict=True)
    for index, ((low, high, seen_low, seen_high), pair, change) in enumerate(effects):
        slope = Range(low=low, high=high, seen_low=seen_low, seen_high=seen_high)
        up, down = (min(size, width) + blur if size > 0 else 0.0 for size in change)
        verdict, remark = _verdict(findings, index, slope, pair, (up, down))
        rise, fall = pair
        certificates.append(
            FeatureCertificate(
                name=names[index],
                verdict=verdict,
                slope=slope,
                rises=Bound(bound=up, seen=rise.rise if rise.rise > blur else 0.0),
                falls=Bound(bound=down, seen=-fall.rise if -fall.rise > blur else 0.0),
                rise=rise,
                fall=fall,
                remark=remark,
            )
        )
    return tuple(certificates)


def _changes(findings: OutputFindings) -> Tensor:  # (in, 2)
    """Bound the largest rise and fall of the output along every feature."""
    budget, domain = findings.budget, findings.propagation.domain
    width = domain[:, 1] - domain[:, 0]
    low, high = (end * width * (1 + SUM_EPS) for end in findings.boxes.slope.hull())
    changes = torch.stack([high, -low], 1).clamp(min=0).masked_fill(width[:, None] == 0, 0.0)
    apart = findings.boxes.apart.hull()
    if bool(torch.isfinite(apart.high - apart.low)):
        near = additive_changes(findings.propagation, apart, budget.deadline)
        changes = changes if near is None else torch.minimum(changes, near)
    first, sharp = budget.cost(slice_count(findings.propagation), findings.propagation.size), 0
    for index in budget.deadline.paced(range(len(changes)), first):
        if bool(changes[index].any()):
            total = total_change(findings.boxes, slices(findings.propagation, index), index)
            changes[index] = changes[index].minimum(changes.new_tensor(total))
        sharp = index + 1
    if sharp < len(changes):
        budget.left_out.append("slopes on slices")
    return changes


def _shown(findings: OutputFindings, pair: PointPair, sign: int) -> bool:
    """Return whether the output provably rises (sign 1) or falls along a pair."""
    if sign * pair.rise > 2 * findings.propagation.noise:
        return True
    if findings.budget.deadline.passed or not sign * pair.rise > 0:
        return False
    low, high = findings.propagation.values(pair.x, pair.x)
    if bool(torch.isinf(low).any() | torch.isinf(high).any()):
        return sign * pair.rise > findings.blur  # observed, not proven
    gain = low[1] - high[0] if sign > 0 else low[0] - high[1]
    return bool(gain > 0)


def _pairs(findings: OutputFindings) -> list[tuple[PointPair, PointPair]]:
    """Search for the largest rise and fall along every feature."""
    propagation, budget = findings.propagation, findings.budget
    count = len(propagation.domain)
    all_stops = count * (STOPS + len(LOCAL_STEPS) + propagation.breakpoints.shape[1])
    lines = max(1, affordable(propagation.model, LINES * all_stops, work=16 * WORK) // all_stops)
    first = lines * all_stops / count * budget.row_seconds
    pairs = [_pair(findings, index, lines) for index in budget.deadline.paced(range(count), first)]
    if len(pairs) < count:
        budget.left_out.append("points along lines")
        x, value, _ = findings.sample
        still = PointPair(x=x[:1].repeat(2, 1), value=value[:1].repeat(2))
        pairs += [(still, still)] * (count - len(pairs))
    return pairs


def _pair(findings: OutputFindings, index: int, lines: int) -> tuple[PointPair, PointPair]:
    """Search for the largest rise and fall along one feature, on lines through extreme slopes."""
    propagation, slope = findings.propagation, findings.sample.slope[:, index].nan_to_num(0.0)
    many = min(lines // 4, len(slope))
    extreme = [(sign * slope).topk(many).indices for sign in (1, -1)]
    x = findings.sample.x
    bases = torch.cat([x[torch.cat(extreme)], x[: max(1, lines // 2)]])
    knots = propagation.breakpoints[index]
    return steepest_pairs(propagation.outputs, propagation.domain, index, bases, knots)


def _verdict(
    findings: OutputFindings,
    index: int,
    slope: Range,
    pairs: tuple[PointPair, PointPair],
    changes: tuple[float, float],
) -> tuple[Verdict, str]:
    """Return the verdict on one feature, and a remark if no sign is proven."""
    low, high = slope.low, slope.high
    if findings.propagation.domain[index].diff() == 0:
        return "constant", "held fixed by the domain"
    if low == 0.0 == high:
        live = live_features(findings.propagation.model, findings.propagation.target)
        return "constant", "flat throughout" if bool(live[index]) else "no path of edges"
    if low >= 0.0:
        return "increasing", ""
    if high <= 0.0:
        return "decreasing", ""
    if max(changes) <= min(FLAT * findings.largest, ROUNDINGS * findings.propagation.noise):
        return "constant", "to rounding"
    unbounded = low == -float("inf") or high == float("inf")
    lacking = findings.lacking
    if _shown(findings, pairs[0], 1) and _shown(findings, pairs[1], -1):
        return "neither", lacking if unbounded else ""
    if unbounded:
        why = UNBOUNDED if findings.propagation.bounded else UNBOUNDED_REASON
        return "unknown", lacking or (STOPPED if findings.budget.left_out else why)
    side = "falls" if pairs[0].rise >= -pairs[1].rise else "rises"
    change = changes[1] if side == "falls" else changes[0]
    return "unknown", f"{side} by at most {change:.3g}, if at all"


def slices(propagation: BoundPropagation, feature: int) -> Slices | None:
    """Bound the slope by one feature on thin slices; None for large models."""
    domain, count = propagation.domain, slice_count(propagation)
    if count * len(domain) * propagation.size > SLICE_NUMBERS:
        return None
    low, high = domain[feature]
    even = low + (high - low) * torch.linspace(0, 1, count + 1).to(domain)
    knots = propagation.breakpoints[feature]
    both = torch.cat([even, knots[:: max(1, len(knots) // count)]])
    cuts: Tensor = torch.unique(both.clamp(low, high))
    lows, highs = domain[:, 0].repeat(len(cuts) - 1, 1), domain[:, 1].repeat(len(cuts) - 1, 1)
    lows[:, feature], highs[:, feature] = cuts[:-1], cuts[1:]
    at_once = max(1, BUDGET // propagation.size)
    ends = zip(lows.split(at_once), highs.split(at_once), strict=True)
    parts = [propagation.slopes(*part) for part in ends]
    slope = Interval(*(torch.cat(side)[:, feature] for side in zip(*parts, strict=True)))
    return Interval(cuts[:-1], cuts[1:]), slope


def slice_count(propagation: BoundPropagation) -> int:
    """Return the number of slices of a feature, without cuts at knots."""
    return min(MAX_SLICES, max(MIN_SLICES, ALL_SLICES // len(propagation.domain)))


def total_change(boxes: BoxBounds, thin: Slices | None, feature: int) -> tuple[float, float]:
    """Bound the largest rise and fall along a feature by integrals of slope bounds on boxes."""
    own = Interval(boxes.low, boxes.high).column(feature), boxes.slope.column(feature)
    bounds: list[Slices] = [own] if thin is None else [own, thin]
    cuts = torch.cat([end for sides, _ in bounds for end in sides]).unique()
    most, least = (
        functools.reduce(torch.minimum, [_steepest(part, cuts, sign) for part in bounds])
        for sign in (1, -1)
    )
    return _largest_gain(most, cuts.diff()), _largest_gain(least, cuts.diff())


def _steepest(part_bounds: Slices, cuts: Tensor, sign: int) -> Tensor:  # (slice,)
    """Return the largest slope, times `sign`, on every slice between cuts."""
    (low, high), slopes = part_bounds
    slope = slopes.high if sign > 0 else -slopes.low
    steepest = torch.full_like(cuts[1:], -torch.inf)
    for part in torch.arange(len(slope), device=cuts.device).split(1024):
        inside = (low[part, None] <= cuts[:-1]) & (high[part, None] >= cuts[1:])
        here = torch.where(inside, slope[part][:, None], -torch.inf).amax(0)
        steepest = torch.maximum(steepest, here)
    return steepest


def _largest_gain(slopes: Tensor, widths: Tensor) -> float:
    """Return the largest integral of slopes over adjacent slices, at least 0."""
    steps = slopes * widths
    reached = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
    if not bool(torch.isfinite(reached).all()):
        return float("inf")
    gain = float((reached - reached.cummin(0).values).max())
    return gain + SUM_EPS * float(steps.abs().sum()) if gain > 0 else 0.0
