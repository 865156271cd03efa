"""Exactness: completeness gap, and distance from exact Shapley values."""

from __future__ import annotations

import torch

from kanlens.attribution.metrics._evaluation import Case, Score, metric, needed
from kanlens.attribution.metrics._rankings import cleaned, ratio, spearman
from kanlens.model._analysis import live_features

_AXIOMS = "M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017"
_SHAPLEY = "S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017"


@metric("lower", reference=_AXIOMS)
def max_gap(case: Case) -> Score:
    """Largest |completeness gap|, in the units of the output."""
    return Score.of(case.attribution.completeness_gap.double().abs(), largest=True)


@metric("lower", reference=_AXIOMS)
def relative_gap(case: Case) -> Score:
    """Sum of |completeness gap| over sum of |output - reference|."""
    attribution = case.attribution
    change = (attribution.output - attribution.reference).double().abs().sum()
    value = float(ratio(attribution.completeness_gap.double().abs().sum(), change))
    return Score(rows=attribution.relative_gap.double(), value=value)


@metric("lower", "model", reference=_AXIOMS)
def dummy(case: Case) -> Score:
    """Largest |value| of a feature without a path to the output; 0 if every feature has one."""
    live = live_features(needed(case.model), case.target).to(needed(case.attribution.x).device)
    return case.score(lambda part: part.values.abs().masked_fill(live, 0.0).amax(1), largest=True)


@metric("lower", "exact", reference=_SHAPLEY)
def shapley_error(case: Case) -> Score:
    """Sum of the L1 distances from the exact Shapley values over the sum of their L1 norms."""

    def distances(part: Case) -> torch.Tensor:
        exact = part.exact_values
        return torch.stack([(part.values - exact).abs().sum(1), exact.abs().sum(1)])

    off, size = case.each(distances)
    value = float(ratio(off.sum(), size.sum()))
    return Score(rows=ratio(off, size), value=value)


@metric("higher", "exact", reference=_SHAPLEY)
def shapley_rank(case: Case) -> Score:
    """Spearman's correlation with the exact Shapley values over the features, mean over samples."""
    return case.score(lambda part: spearman(cleaned(part.values), cleaned(part.exact_values)))
