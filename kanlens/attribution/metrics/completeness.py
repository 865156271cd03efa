"""Whether an attribution adds up, and leaves alone what cannot act."""

from __future__ import annotations

from kanlens.attribution.metrics.case import Case, Score, undefined
from kanlens.attribution.metrics.metric import Metric
from kanlens.attribution.metrics.rankings import ratio
from kanlens.model.analysis import live_features


def mean_gap(case: Case) -> Score:
    """Mean |completeness gap|, in the units of the output."""
    return Score.of(case.attribution.completeness_gap.double().abs())


def max_gap(case: Case) -> Score:
    """Largest |completeness gap|, in the units of the output."""
    return Score.of(case.attribution.completeness_gap.double().abs(), "maximum")


def relative_gap(case: Case) -> Score:
    """Sum of |completeness gap| over sum of |output - reference|; rows as in `sample_gap`."""
    found = case.attribution
    change = (found.output - found.reference).double().abs().sum()
    value = float(ratio(found.completeness_gap.double().abs().sum(), change))
    return Score(rows=found.relative_gap.double(), value=value, aggregate="ratio of sums")


def sample_gap(case: Case) -> Score:
    """Mean of each sample's |gap| / (|output - reference| + 0.001 deviations of the output)."""
    return Score.of(case.attribution.relative_gap.double())


def dummy(case: Case) -> Score:
    """Largest |value| of a feature without a live path to the output; 0 where there is none."""
    if case.model is None or case.x is None:
        return undefined(case)
    live = live_features(case.model, case.target).to(case.values.device)
    return Score.of(case.values.abs().masked_fill(live, 0.0).amax(1), "maximum")


_PUBLISHED = "M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017"

METRICS = (
    Metric(
        name="mean_gap",
        function=mean_gap,
        direction="lower",
        reference=_PUBLISHED,
        summary="mean |completeness gap|",
    ),
    Metric(
        name="max_gap",
        function=max_gap,
        direction="lower",
        reference=_PUBLISHED,
        summary="largest |completeness gap|",
    ),
    Metric(
        name="relative_gap",
        function=relative_gap,
        direction="lower",
        reference=_PUBLISHED,
        summary="sum of |completeness gap| over sum of |output - reference|",
    ),
    Metric(
        name="sample_gap",
        function=sample_gap,
        direction="lower",
        reference=_PUBLISHED,
        summary="mean of |gap| / (|output - reference| + 0.001 deviations of the output)",
    ),
    Metric(
        name="dummy",
        function=dummy,
        direction="lower",
        needs=frozenset({"model"}),
        reference=_PUBLISHED,
        summary="largest |value| of a feature without a live path to the output",
    ),
)
