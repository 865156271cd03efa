"""From boxes and samples to statements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.certificates.branching import Boxes, Budget, Seen
from kanlens.attribution.certificates.changes import additive_changes, slices, total_change
from kanlens.attribution.certificates.propagation import Propagation
from kanlens.attribution.certificates.sampling import (
    LINES,
    NORMS,
    Pair,
    Sample,
    dual_norms,
    steepest_pairs,
)
from kanlens.attribution.certificates.separable import AdditiveFunction, least_distance
from kanlens.attribution.certificates.statements import (
    Additivity,
    Bound,
    FeatureCertificate,
    OutputCertificate,
    Range,
    Verdict,
)
from kanlens.attribution.problem import live_features
from kanlens.core.enclosures import encloses
from kanlens.core.functions import FUNCTIONS
from kanlens.core.network import KAN

UNBOUNDED = "a slope without a bound: a pole, a jump, or an undefined function"
ROUNDINGS = 100  # times the rounding of one evaluation is no effect
NEGLIGIBLE = 1e-9  # an effect this small next to the output's size is none


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
    near = additive_changes(found.propagation, found.boxes.apart(), found.knots)
    features = tuple(_feature(found, index, changes) for index, changes in enumerate(near))
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
        additivity=_additivity(found),
        boxes=count,
        decided=decided and all(one.verdict != "unknown" for one in features),
    )


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
        least=least_distance(propagation),
        function=function,
    )


def _feature(found: Findings, index: int, near: tuple[float, float]) -> FeatureCertificate:
    """State what one feature does; `near` bounds its effect by that in the additive function."""
    low, high = (float(end[index]) for end in found.boxes.slope())
    rise, fall = _pairs(found, index)
    value_low, value_high = (float(end) for end in found.boxes.value())
    width = (value_high - value_low) * (1 + 1e-15)
    blur = _blur(found)
    changes = (min(change, width) for change in _changes(found, index, near))
    up, down = (change + blur if change > 0 else 0.0 for change in changes)
    verdict, remark = _verdict(found, index, (rise, fall), (up, down))
    slopes = _defined(found.sample.slope[:, index])
    slope = Range(
        low=low,
        high=high,
        seen_low=float(slopes.amin()),
        seen_high=float(slopes.amax()),
    )
    return FeatureCertificate(
        name=found.propagation.model.feature_names[index],
        verdict=verdict,
        slope=slope,
        rises=Bound(bound=up, seen=rise.rise if rise.rise > blur else 0.0),
        falls=Bound(bound=down, seen=-fall.rise if -fall.rise > blur else 0.0),
        rise=rise,
        fall=fall,
        remark=remark,
    )


def _changes(found: Findings, index: int, near: tuple[float, float]) -> list[float]:
    """Bound how much the output can rise, and fall, along one feature."""
    if not bool(found.propagation.domain[index].diff()):
        return [0.0, 0.0]
    thin = None if found.budget.deadline.passed else slices(found.propagation, index, found.knots)
    by_slope = total_change(found.boxes, thin, index)
    return [min(pair) for pair in zip(by_slope, near, strict=True)]


def _blur(found: Findings) -> float:
    """Return the difference of two evaluations that may be rounding."""
    return min(2 * found.propagation.noise, NEGLIGIBLE * _largest(found))


def _largest(found: Findings) -> float:
    return max(abs(end) for end in found.seen.value)


def _shown(found: Findings, pair: Pair, sign: int) -> bool:
    """Tell whether the output rises (falls, for sign -1) from the one point to the other."""
    low, high = found.propagation.values(pair.x, pair.x)
    if bool(torch.isinf(low).any() | torch.isinf(high).any()):
        return sign * pair.rise > _blur(found)  # seen only
    gain = low[1] - high[0] if sign > 0 else low[0] - high[1]
    return bool(gain > 0)


def _pairs(found: Findings, index: int) -> tuple[Pair, Pair]:
    """Return the largest rise and fall along one feature, from where its slope was extreme."""
    propagation, slope = found.propagation, found.sample.slope[:, index].nan_to_num(0.0)
    lines = LINES // 8 if found.budget.deadline.passed else LINES
    many = min(lines // 4, len(slope))
    spread = found.sample.x[: lines // 2]
    bases = torch.cat(
        [
            found.sample.x[slope.topk(many).indices],
            found.sample.x[(-slope).topk(many).indices],
            spread,
        ]
    )

    def rows(x: Tensor) -> Tensor:
        y: Tensor = propagation.model(x)[:, propagation.target]
        return y

    return steepest_pairs(rows, propagation.domain, index, bases, found.knots[index])


def _verdict(
    found: Findings, index: int, pairs: tuple[Pair, Pair], changes: tuple[float, float]
) -> tuple[Verdict, str]:
    """Decide what can be said of one feature, and why no more."""
    low, high = (float(end[index]) for end in found.boxes.slope())
    start, end = found.propagation.domain[index].tolist()
    if start == end:
        return "constant", "held fixed by the domain"
    if low == 0.0 == high:
        model, target = found.propagation.model, found.propagation.target
        live = bool(live_features(model, target)[index])
        return "constant", "flat throughout" if live else "no live path"
    if low >= 0.0:
        return "increasing", ""
    if high <= 0.0:
        return "decreasing", ""
    if max(changes) <= min(NEGLIGIBLE * _largest(found), ROUNDINGS * found.propagation.noise):
        return "constant", "to rounding"
    unbounded = low == -float("inf") or high == float("inf")
    lacking = _lacking(found.propagation.model)
    if _shown(found, pairs[0], 1) and _shown(found, pairs[1], -1):
        return "neither", lacking if unbounded else ""
    if unbounded:
        return "unknown", lacking or UNBOUNDED
    side = "falls" if pairs[0].rise >= -pairs[1].rise else "rises"
    change = changes[1] if side == "falls" else changes[0]
    return "unknown", f"{side} by at most {change:.3g}, if at all"


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
