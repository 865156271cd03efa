"""Whether an attribution adds up, and leaves alone what cannot act."""

from __future__ import annotations

from functools import partial

from kanlens.attribution.metrics.case import Case, Score, given, metric
from kanlens.attribution.metrics.rankings import ratio
from kanlens.model.analysis import live_features

_lower = partial(
    metric,
    "lower",
    reference="M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017",
)


@_lower()
def mean_gap(case: Case) -> Score:
    """Mean |completeness gap|, in the units of the output."""
    return Score.of(case.attribution.completeness_gap.double().abs())


@_lower()
def max_gap(case: Case) -> Score:
    """Largest |completeness gap|, in the units of the output."""
    return Score.of(case.attribution.completeness_gap.double().abs(), "maximum")


@_lower()
def relative_gap(case: Case) -> Score:
    """Sum of |completeness gap| over sum of |output - reference|; rows as in `sample_gap`."""
    found = case.attribution
    change = (found.output - found.reference).double().abs().sum()
    value = float(ratio(found.completeness_gap.double().abs().sum(), change))
    return Score(rows=found.relative_gap.double(), value=value, aggregate="ratio of sums")


@_lower()
def sample_gap(case: Case) -> Score:
    """Mean of each sample's |gap| / (|output - reference| + 0.001 deviations of the output)."""
    return Score.of(case.attribution.relative_gap.double())


@_lower("model")
def dummy(case: Case) -> Score:
    """Largest |value| of a feature without a live path to the output; 0 where there is none."""
    live = live_features(given(case.model), case.target).to(case.x.device)
    return Score.of(case.values.abs().masked_fill(live, 0.0).amax(1), "maximum")
