"""From boxes and samples to statements."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.certificates.branching import FLAT, Boxes, Budget, Seen
from kanlens.certificates.changes import (
    additive_changes,
    slice_count,
    slices,
    total_change,
)
from kanlens.certificates.propagation import Propagation
from kanlens.certificates.sampling import (
    LINES,
    NEAR,
    NORMS,
    STOPS,
    Pair,
    Sample,
    affordable,
    dual_norms,
    steepest_pairs,
)
from kanlens.certificates.separable import QUADS, AdditiveFunction, least_distance
from kanlens.certificates.statements import (
    Additivity,
    Bound,
    FeatureCertificate,
    OutputCertificate,
    Range,
    Verdict,
)
from kanlens.core.analysis import live_features, rows_at_once
from kanlens.core.enclosures import FARTHEST, encloses
from kanlens.core.functions import FUNCTIONS
from kanlens.core.network import KAN

UNBOUNDED = "a slope without a bound: a pole, a jump, or an undefined function"
FAR = f"a slope without a bound: the domain reaches beyond {FARTHEST:g} in scaled units"
STOPPED = "a slope without a bound in the time there was"
ROUNDINGS = 100  # times the rounding of one evaluation is no effect


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """All that was found about one output.

    Attributes
    ----------
    propagation : Propagation
    boxes : Boxes
        That cover the domain.
    sample : Sample
    seen : Seen
    knots : Tensor, shape (in, knot)
    additive : AdditiveFunction or None
        The output itself, when it is additive by its structure.
    budget : Budget
        Once it is used up, what only sharpens statements is left out.
    """

    propagation: Propagation
    boxes: Boxes
    sample: Sample
    seen: Seen
    knots: Tensor
    additive: AdditiveFunction | None
    budget: Budget

    @functools.cached_property
    def live(self) -> Tensor:
        """Which features have a live path to the output, shape (in,)."""
        return live_features(self.propagation.model, self.propagation.target)

    @functools.cached_property
    def fixed(self) -> set[int]:
        """Which features the domain holds fixed."""
        low, high = self.propagation.domain.T
        return set((low == high).nonzero().flatten().tolist())

    @functools.cached_property
    def lacking(self) -> str:
        """What the model does not say of its slopes."""
        return _lacking(self.propagation.model)


def seen(sample: Sample, apart: Tensor) -> Seen:
    """Return the extremes of a sample; `apart` (point,) is its distance from an additive function.

    Examples
    --------
    >>> one = torch.ones(1, 1)
    >>> seen(Sample(x=one, value=one[0], slope=one), one[0]).value
    (1.0, 1.0)
    """
    value = _finite(sample.value)
    slope = torch.where(torch.isfinite(sample.slope), sample.slope, torch.nan)
    low = slope.nan_to_num(torch.inf).amin(0)
    high = slope.nan_to_num(-torch.inf).amax(0)
    none = torch.isinf(low)
    rest = _finite(apart)
    norms = dual_norms(slope.nan_to_num(0.0))
    return Seen(
        value=(float(value.amin()), float(value.amax())),
        apart=(float(rest.amin()), float(rest.amax())),
        slope_low=low.masked_fill(none, 0.0),
        slope_high=high.masked_fill(none, 0.0),
        norms=norms.amax(0),
    )


def output_certificate(found: Findings, *, count: int, decided: bool) -> OutputCertificate:
    """State what the boxes prove."""
    model, target = found.propagation.model, found.propagation.target
    additivity, features = _additivity(found), _features(found)
    low, high = found.boxes.value()
    rises = [one.rise.value for one in features] + [one.fall.value for one in features]
    values = _defined(torch.cat([found.sample.value, *rises]))
    norms = found.boxes.norms().amax(0)
    return OutputCertificate(
        target=model.output_names[target],
        unit=model.schema.outputs[target].unit,
        range=Range(
            low=float(low),
            high=float(high),
            seen_low=float(values.amin()),
            seen_high=float(values.amax()),
        ),
        features=features,
        lipschitz={
            name: Bound(bound=_up(float(bound)), seen=float(reached))
            for name, bound, reached in zip(NORMS, norms, found.seen.norms, strict=True)
        },
        additivity=additivity,
        boxes=count,
        decided=decided and all(one.verdict != "unknown" for one in features),
        remark=_stopped(found.budget),
    )


def _stopped(budget: Budget) -> str:
    """Say what there was no time for."""
    why = "interrupted" if budget.stop.happened else "stopped at the time limit"
    return f"{why}, without {', '.join(budget.left_out)}" if budget.left_out else ""


def _defined(values: Tensor) -> Tensor:
    """Leave out what is not defined; NaN when nothing is left."""
    good = values[torch.isfinite(values)]
    return good if len(good) else values.new_full((1,), torch.nan)


def _finite(values: Tensor) -> Tensor:
    """Leave out what is not defined; a single 0 when nothing is left."""
    good = values[torch.isfinite(values)]
    return good if len(good) else values.new_zeros(1)


def _up(value: float) -> float:
    return value * (1 + 1e-14)


def _additivity(found: Findings) -> Additivity:
    """State how far the output is from an additive function."""
    propagation = found.propagation
    if found.additive is not None:
        return Additivity(distance=Bound(bound=0.0, seen=0.0), least=0.0, function=found.additive)
    low, high = (float(end) for end in found.boxes.apart())
    middle = 0.5 * (low + high) if high - low < float("inf") else 0.0
    function = AdditiveFunction(
        model=propagation.model,
        target=propagation.target,
        weights=propagation.additive,
        constant=middle,
    )
    reached = max(abs(end - middle) for end in found.seen.apart)
    if not bool(torch.isfinite(found.sample.value).any()):
        reached = 0.0
    bound = max(high - middle, middle - low) * (1 + 1e-14) + 4e-16 * abs(middle)
    return Additivity(
        distance=Bound(bound=bound, seen=reached),
        least=_least(found),
        function=function,
    )


def _least(found: Findings) -> float:
    """Return what no additive function can be nearer than, as far as there is time to look."""
    model = found.propagation.model
    count = affordable(model, QUADS)
    if not found.budget.allows("rectangles", 4 * count * found.budget.row_seconds):
        return 0.0
    return least_distance(found.propagation, count, rows_at_once(model))


def _features(found: Findings) -> tuple[FeatureCertificate, ...]:
    """State what every feature does."""
    slopes, pairs, changes = _slopes(found), _pairs(found), _changes(found)
    value_low, value_high = (float(end) for end in found.boxes.value())
    width, blur = (value_high - value_low) * (1 + 1e-15), _blur(found)
    names, made = found.propagation.model.feature_names, []
    for index, (slope, pair, change) in enumerate(zip(slopes, pairs, changes, strict=True)):
        up, down = (min(one, width) + blur if one > 0 else 0.0 for one in change)
        verdict, remark = _verdict(found, index, slope, pair, (up, down))
        rise, fall = pair
        made.append(
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
    return tuple(made)


def _slopes(found: Findings) -> list[Range]:
    """Return the bounds of the slope by every feature."""
    slope = found.sample.slope
    good = torch.isfinite(slope)
    least = torch.where(good, slope, torch.inf).amin(0)
    most = torch.where(good, slope, -torch.inf).amax(0)
    some = good.any(0)
    ends = [*found.boxes.slope(), least.where(some, torch.nan), most.where(some, torch.nan)]
    return [
        Range(low=low, high=high, seen_low=seen_low, seen_high=seen_high)
        for low, high, seen_low, seen_high in torch.stack(ends, 1).tolist()
    ]


def _changes(found: Findings) -> list[tuple[float, float]]:
    """Bound how much the output can rise, and fall, along every feature."""
    budget, domain = found.budget, found.propagation.domain
    width = domain[:, 1] - domain[:, 0]
    low, high = (end * width * (1 + 1e-14) for end in found.boxes.slope())
    rough = torch.stack([high, -low], 1).clamp(min=0).masked_fill(width[:, None] == 0, 0.0)
    changes = [(up, down) for up, down in rough.tolist()]
    apart = found.boxes.apart()
    if bool(torch.isfinite(apart[1] - apart[0])):
        near = additive_changes(found.propagation, apart, found.knots, budget.deadline)
        changes = [_both(*pair) for pair in zip(changes, near or changes, strict=True)]
    first, sharp = budget.cost(slice_count(found.propagation), found.propagation.size), 0
    for index in budget.deadline.paced(range(len(changes)), first):
        if changes[index] != (0.0, 0.0):
            thin = slices(found.propagation, index, found.knots)
            changes[index] = _both(changes[index], total_change(found.boxes, thin, index))
        sharp = index + 1
    if sharp < len(changes):
        budget.left_out.append("slopes on slices")
    return changes


def _both(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return min(first[0], second[0]), min(first[1], second[1])


def _blur(found: Findings) -> float:
    """Return the difference of two evaluations that may be rounding."""
    return min(2 * found.propagation.noise, FLAT * _largest(found))


def _largest(found: Findings) -> float:
    return max(abs(end) for end in found.seen.value)


def _shown(found: Findings, pair: Pair, sign: int) -> bool:
    """Tell whether the output rises (falls, for sign -1) from the one point to the other."""
    if sign * pair.rise > 2 * found.propagation.noise:
        return True
    if found.budget.deadline.passed or not sign * pair.rise > 0:
        return False
    low, high = found.propagation.values(pair.x, pair.x)
    if bool(torch.isinf(low).any() | torch.isinf(high).any()):
        return sign * pair.rise > _blur(found)  # seen only
    gain = low[1] - high[0] if sign > 0 else low[0] - high[1]
    return bool(gain > 0)


def _pairs(found: Findings) -> list[tuple[Pair, Pair]]:
    """Return the largest rise and fall along every feature; none where there is no time."""
    propagation, budget = found.propagation, found.budget
    count = len(propagation.domain)
    all_stops = count * (STOPS + len(NEAR) + found.knots.shape[1])
    lines = max(1, affordable(propagation.model, LINES * all_stops, times=16) // all_stops)
    first = lines * all_stops / count * budget.row_seconds
    pairs = [_pair(found, index, lines) for index in budget.deadline.paced(range(count), first)]
    if len(pairs) < count:
        budget.left_out.append("points along lines")
        still = Pair(x=found.sample.x[:1].repeat(2, 1), value=found.sample.value[:1].repeat(2))
        pairs += [(still, still)] * (count - len(pairs))
    return pairs


def _pair(found: Findings, index: int, lines: int) -> tuple[Pair, Pair]:
    """Return the largest rise and fall along one feature, from where its slope was extreme."""
    propagation, slope = found.propagation, found.sample.slope[:, index].nan_to_num(0.0)
    many = min(lines // 4, len(slope))
    spread = found.sample.x[: max(1, lines // 2)]
    bases = torch.cat(
        [
            found.sample.x[slope.topk(many).indices],
            found.sample.x[(-slope).topk(many).indices],
            spread,
        ]
    )

    def rows(x: Tensor) -> Tensor:
        parts = x.split(rows_at_once(propagation.model))
        return torch.cat([propagation.model(part)[:, propagation.target] for part in parts])

    return steepest_pairs(rows, propagation.domain, index, bases, found.knots[index])


def _verdict(
    found: Findings,
    index: int,
    slope: Range,
    pairs: tuple[Pair, Pair],
    changes: tuple[float, float],
) -> tuple[Verdict, str]:
    """Decide what can be said of one feature, and why no more."""
    low, high = slope.low, slope.high
    if index in found.fixed:
        return "constant", "held fixed by the domain"
    if low == 0.0 == high:
        return "constant", "flat throughout" if bool(found.live[index]) else "no live path"
    if low >= 0.0:
        return "increasing", ""
    if high <= 0.0:
        return "decreasing", ""
    if max(changes) <= min(FLAT * _largest(found), ROUNDINGS * found.propagation.noise):
        return "constant", "to rounding"
    unbounded = low == -float("inf") or high == float("inf")
    lacking = found.lacking
    if _shown(found, pairs[0], 1) and _shown(found, pairs[1], -1):
        return "neither", lacking if unbounded else ""
    if unbounded:
        return "unknown", lacking or _why_unbounded(found)
    side = "falls" if pairs[0].rise >= -pairs[1].rise else "rises"
    change = changes[1] if side == "falls" else changes[0]
    return "unknown", f"{side} by at most {change:.3g}, if at all"


def _why_unbounded(found: Findings) -> str:
    """Say why a slope of functions that are bounded has no bound."""
    if found.budget.left_out:
        return STOPPED
    return UNBOUNDED if found.propagation.bounded else FAR


def _lacking(model: KAN) -> str:
    """Name what a layer, or a registered function, does not say and slopes would need; or ""."""
    for layer in model.layers:
        if not encloses(layer):
            kind = getattr(layer, "kind", type(layer).__name__)
            return f"a layer of kind {kind!r} does not bound its edges (method 'enclosure')"
        table = getattr(layer, "functions", ())
        for names, row in zip(table, (layer.mask != 0).tolist(), strict=False):
            for name, live in zip(names, row, strict=True):
                if live and name in FUNCTIONS and FUNCTIONS[name].slope_turning is None:
                    return f"the slope of {name!r} has no bound: where it turns is not known"
    return ""
