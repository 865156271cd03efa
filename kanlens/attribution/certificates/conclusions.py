"""From boxes and samples to statements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.certificates.branching import Boxes, Seen, slices, total_change
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
    """

    propagation: Propagation
    boxes: Boxes
    sample: Sample
    seen: Seen
    knots: Tensor
    additive: AdditiveFunction | None


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
    features = tuple(_feature(found, index) for index in range(model.widths[0]))
    low, high = found.boxes.value()
    rises = [one.rise.value for one in features] + [one.fall.value for one in features]
    values = _finite(torch.cat([found.sample.value, *rises]))
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
    bound = max(high - middle, middle - low) * (1 + 1e-14) + 4e-16 * abs(middle)
    return Additivity(
        distance=Bound(bound=bound, seen=reached),
        least=least_distance(propagation),
        function=function,
    )


def _feature(found: Findings, index: int) -> FeatureCertificate:
    """State what one feature does."""
    low, high = (float(end[index]) for end in found.boxes.slope())
    rise, fall = _pairs(found, index)
    value_low, value_high = (float(end) for end in found.boxes.value())
    width = (value_high - value_low) * (1 + 1e-15)
    thin, blur = slices(found.propagation, index, found.knots), _blur(found)
    changes = (min(change, width) for change in total_change(found.boxes, thin, index))
    up, down = (change + blur if change > 0 else 0.0 for change in changes)
    verdict, remark = _verdict(found, index, (rise, fall), (up, down))
    slope = Range(
        low=low,
        high=high,
        seen_low=float(found.seen.slope_low[index]),
        seen_high=float(found.seen.slope_high[index]),
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


def _blur(found: Findings) -> float:
    """Return the difference of two evaluations that may be rounding."""
    size = max(abs(end) for end in found.seen.value)
    return min(2 * found.propagation.noise, NEGLIGIBLE * size)


def _pairs(found: Findings, index: int) -> tuple[Pair, Pair]:
    """Return the largest rise and fall along one feature, from where its slope was extreme."""
    propagation, slope = found.propagation, found.sample.slope[:, index].nan_to_num(0.0)
    many = min(LINES // 4, len(slope))
    spread = found.sample.x[: LINES // 2]
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
    value = max(abs(float(one)) for one in found.boxes.value())
    if start == end:
        return "constant", "held fixed by the domain"
    if low == 0.0 == high:
        return "constant", "no live path"
    if low >= 0.0:
        return "increasing", ""
    if high <= 0.0:
        return "decreasing", ""
    if max(changes) <= NEGLIGIBLE * value < float("inf"):
        return "constant", "to rounding"
    if pairs[0].rise > _blur(found) and pairs[1].rise < -_blur(found):
        return "neither", ""
    if low == -float("inf") or high == float("inf"):
        return "unknown", "a slope without a bound: a pole, a jump, or an undefined function"
    side = "falls" if pairs[0].rise >= -pairs[1].rise else "rises"
    change = changes[1] if side == "falls" else changes[0]
    return "unknown", f"{side} by at most {change:.3g}, if at all"
