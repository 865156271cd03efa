"""Certificates: proven statements as frozen results."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from kanlens._display import Displayed, escaped
from kanlens._lazy import pd
from kanlens._plain_json import to_plain
from kanlens.certificates._additive_approximation import AdditiveFunction
from kanlens.certificates._sampling import PointPair

Verdict = Literal["increasing", "decreasing", "constant", "neither", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A proven bound of a nonnegative quantity, and its largest observed value.

    Attributes
    ----------
    bound : float
        No point of the domain exceeds it.
    seen : float
        Reached at a point that was evaluated.
    """

    bound: float
    seen: float


@dataclass(frozen=True, kw_only=True)
class Range:
    """Proven bounds of a quantity, and the observed values.

    Attributes
    ----------
    low, high : float
        The quantity stays between them on the domain.
    seen_low, seen_high : float
        Extremes at the points evaluated; NaN if the quantity is defined at none of them.
    """

    low: float
    high: float
    seen_low: float
    seen_high: float

    @property
    def ratio(self) -> float:
        """Width of the bounds over the observed width; 1 is optimal."""
        width = self.seen_high - self.seen_low
        if math.isnan(width):
            return math.inf
        if width > 0:
            return (self.high - self.low) / width
        return 1.0 if self.high - self.low <= 1e-9 * max(abs(self.high), 1e-300) else math.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureCertificate:
    """Proven effects of one feature on an output inside the domain.

    Attributes
    ----------
    name : str
        The feature.
    verdict : {"increasing", "decreasing", "constant", "neither", "unknown"}
        "increasing": raising the feature alone never lowers the output; "decreasing": never
        raises it; "constant": changes it by no more than rounding; "neither": `rise` and `fall`
        show both; "unknown": not proven within the limits of boxes and time.
    slope : Range
        Range of the derivative, in units of the output per unit of the feature; at kinks, of the
        derivatives from both sides.
    rises, falls : Bound
        Largest rise and fall of the output when only this feature is raised.
    rise, fall : PointPair
        The largest observed rise and fall: two evaluated points that differ in this feature.
    remark : str
        Reason for a missing verdict, or basis of the verdict; may be empty.
    """

    name: str
    verdict: Verdict
    slope: Range
    rises: Bound
    falls: Bound
    rise: PointPair
    fall: PointPair
    remark: str = ""

    @property
    def effect(self) -> Bound:
        """The largest change of the output when only this feature moves."""
        bound = max(self.rises.bound, self.falls.bound)
        return Bound(bound=bound, seen=max(self.rises.seen, self.falls.seen))

    @property
    def lipschitz(self) -> Bound:
        """The largest absolute derivative by this feature."""
        bound = max(abs(self.slope.low), abs(self.slope.high))
        return Bound(bound=bound, seen=max(abs(self.slope.seen_low), abs(self.slope.seen_high)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Additivity:
    """Distance of an output from an additive function on the domain.

    Attributes
    ----------
    distance : Bound
        Largest distance of the output from `function`.
    least : float
        Every additive function differs by at least this much at some point.
    function : AdditiveFunction
        The additive function.
    """

    distance: Bound
    least: float
    function: AdditiveFunction


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputCertificate:
    """Proven statements about one output.

    Attributes
    ----------
    target : str
        Name of the output.
    unit : str
    range : Range
        Range of the output.
    features : tuple of FeatureCertificate
    lipschitz : dict of str to Bound
        For distances of the features in the norms "2", "inf" and "1": the output changes by at
        most the bound times the distance.
    additivity : Additivity
    boxes : int
        Boxes that were bounded.
    decided : bool
        Whether all bounds are within the tolerance of the observed values, and every verdict is
        decided.
    remark : str
        The bounds that time did not suffice for; empty if it did.
    """

    target: str
    unit: str
    range: Range
    features: tuple[FeatureCertificate, ...]
    lipschitz: dict[str, Bound]
    additivity: Additivity
    boxes: int
    decided: bool
    remark: str = ""

    def __str__(self) -> str:
        """Format as text."""
        span, near = self.range, self.additivity
        seen = f"seen {span.seen_low:.6g} to {span.seen_high:.6g}"
        if span.ratio < math.inf:
            seen = f"{seen}, width {span.ratio:.4g} times as seen"
        if math.isnan(span.seen_low):
            seen = "undefined wherever it was evaluated"
        lines = [
            f"{self.target}: between {span.low:.6g} and {span.high:.6g} ({seen});"
            f" {self.boxes} boxes"
        ]
        lines += [f"  {_sentence(feature)}" for feature in self.features]
        lines += [
            f"  moves by at most {bound.bound:.6g} times the {norm}-norm distance"
            f" (seen {bound.seen:.6g})"
            for norm, bound in self.lipschitz.items()
        ]
        lines.append(
            f"  within {near.distance.bound:.6g} of an additive function (seen"
            f" {near.distance.seen:.6g}; none is nearer than {near.least:.6g})"
        )
        return "\n".join(lines + [f"  {self.remark}"] * bool(self.remark))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Certificate(Displayed):
    """Proven statements about a model on a box of its features.

    Attributes
    ----------
    features : tuple of str
        Names, in the order of `domain`.
    domain : Tensor, shape (in, 2)
        Lowest and highest value of each feature.
    outputs : tuple of OutputCertificate
    remark : str
        Scope of the statements.
    between : tuple of str
        Categorical columns that the domain does not fix at one category. The domain then includes
        points between categories, which no table has. The bounds still hold for every category, but
        may be wider than necessary.
    constraints : dict of str to str
        Shape constraints of training by column, if proven at all values of all columns, also
        outside the domain.
    """

    features: tuple[str, ...]
    domain: Tensor
    outputs: tuple[OutputCertificate, ...]
    remark: str = (
        "about the float64 function of the stored weights; bounds are rounded outwards, by more"
        " than float64 evaluation can be off"
    )
    between: tuple[str, ...] = ()
    constraints: dict[str, str] = field(default_factory=dict)

    def _line(self) -> str:
        spans = [f"{o.target} in [{o.range.low:.4g}, {o.range.high:.4g}]" for o in self.outputs]
        state = "decided" if all(output.decided for output in self.outputs) else "not all decided"
        return f"proven for {len(self.features)} features: {', '.join(spans)}; {state}"

    def __getitem__(self, target: str | int) -> OutputCertificate:
        """Return the certificate of one output, by name or index."""
        if isinstance(target, int):
            return self.outputs[target]
        return {output.target: output for output in self.outputs}[target]

    def __str__(self) -> str:
        """Format as text."""
        box = ", ".join(
            f"{name} in [{_digits(low, high, low)}, {_digits(low, high, high)}]"
            for name, (low, high) in zip(self.features, self.domain.tolist(), strict=True)
        )
        shapes = ", ".join(f"{shape} in {name}" for name, shape in self.constraints.items())
        lines = [f"Everywhere: {shapes}, as trained"] * bool(shapes)
        lines += [f"For {box}:", *map(str, self.outputs), *self._notes()]
        return escaped("\n".join(lines))

    def _notes(self) -> list[str]:
        """Return lines on the scope of the statements."""
        columns = ", ".join(repr(name) for name in self.between)
        between = (
            f"(the box includes rows between the categories of {columns}; hold one feature of each"
            " at 1 and the others at 0 for a box of possible rows)"
        )
        return [f"({self.remark})", *[between] * bool(self.between)]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per output and feature.

        Columns: target, feature, verdict, slope_low, slope_high, slope_seen_low, slope_seen_high,
        rises, falls, effect, effect_seen. `attrs["notes"]` has the scope of the statements.
        """
        rows = [
            {
                "target": output.target,
                "feature": feature.name,
                "verdict": feature.verdict,
                **{f"slope_{name}": value for name, value in vars(feature.slope).items()},
                "rises": feature.rises.bound,
                "falls": feature.falls.bound,
                "effect": feature.effect.bound,
                "effect_seen": feature.effect.seen,
            }
            for output in self.outputs
            for feature in output.features
        ]
        frame = pd.DataFrame(rows)
        frame.attrs["notes"] = self._notes()
        return frame

    def to_json(self) -> str:
        """Return the statements as JSON; null means that there is no bound."""
        domain = dict(zip(self.features, self.domain.tolist(), strict=True))
        outputs = []
        for output in self.outputs:
            near = {**vars(output.additivity.distance), "least": output.additivity.least}
            outputs.append({**vars(output), "additivity": near})
        fields = {"domain": domain, "outputs": outputs}
        fields |= {"remark": self.remark, "between": self.between}
        return json.dumps(to_plain({**fields, "constraints": self.constraints}))


def _digits(low: float, high: float, value: float) -> str:
    """Format an end of an interval with enough digits."""
    width, size = high - low, max(abs(low), abs(high))
    needed = 3 + math.ceil(math.log10(size / width)) if width and size < math.inf else 6
    return f"{value:.{min(max(needed, 6), 17)}g}"


def _sentence(feature: FeatureCertificate) -> str:
    effect = f"changes it by at most {feature.effect.bound:.6g}"
    if feature.effect.seen or feature.verdict == "constant":  # else not evaluated
        effect = f"{effect} (seen {feature.effect.seen:.6g})"
    slope = f"slope between {feature.slope.low:.6g} and {feature.slope.high:.6g}"
    up, down = feature.rise.rise, -feature.fall.rise
    words = {
        "increasing": "never lowers it",
        "decreasing": "never raises it",
        "constant": "has no effect on it",
        "neither": f"raises it by {up:.6g} and lowers it by {down:.6g} (seen)",
        "unknown": "no verdict",
    }[feature.verdict]
    remark = f"; {feature.remark}" if feature.remark else ""
    return f"{feature.name}: {words}; {effect}; {slope}{remark}"
