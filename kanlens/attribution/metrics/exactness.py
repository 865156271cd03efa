"""How far an attribution is from adding up, and from exact Shapley values of the same model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Score, given, metric
from kanlens.attribution.metrics.rankings import (
    cleaned,
    correlation,
    dense_ranks,
    ratio,
    spearman,
    top_agreement,
)
from kanlens.model.analysis import live_features

_COST = "exact Shapley values"
_KRISHNA = "S. Krishna et al., The Disagreement Problem in Explainable Machine Learning, 2022"
_higher = partial(metric, "higher", "exact", cost=_COST)
_agreeing = partial(metric, "higher", "exact", cost=_COST, reference=_KRISHNA)


def relative_l1(values: Tensor, exact: Tensor) -> Tensor:
    """Return the L1 distance of each row from the exact one, over its L1 norm."""
    return ratio((values - exact).abs().sum(1), exact.abs().sum(1))


def sign_match(values: Tensor, exact: Tensor) -> Tensor:
    """Return the share of features of each row whose sign is that of the exact value."""
    same = cleaned(values).sign() == cleaned(exact).sign()
    return same.to(values).mean(1)


def rank_correlation(values: Tensor, exact: Tensor) -> Tensor:
    """Return Pearson's correlation of the dense ranks of |value|; NaN where all are equal."""
    ranks = [dense_ranks(cleaned(part)).to(values) for part in (values, exact)]
    return correlation(ranks[0], ranks[1])


def pairwise_rank_agreement(values: Tensor, exact: Tensor) -> Tensor:
    """Return the share of pairs of features that both rank by |value| the same way; NaN for one."""
    i, j = torch.triu_indices(values.shape[1], values.shape[1], 1, device=values.device)
    ours, theirs = (dense_ranks(cleaned(part)) for part in (values, exact))
    same = (ours[:, i] < ours[:, j]) == (theirs[:, i] < theirs[:, j])
    return same.to(values).mean(1)


# --- whether an attribution adds up, and leaves alone what cannot act ----------------------------

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
    live = live_features(given(case.model), case.target).to(given(case.attribution.x).device)
    return case.score(
        lambda part: part.values.abs().masked_fill(live, 0.0).amax(1), aggregate="maximum"
    )


# --- how far it is from exact Shapley values -----------------------------------------------------


@metric("lower", "exact", cost=_COST)
def shapley_error(case: Case) -> Score:
    """Sum of the L1 distances from the exact Shapley values over the sum of their L1 norms."""

    def distances(part: Case) -> Tensor:
        exact = part.exact_values
        return torch.stack([(part.values - exact).abs().sum(1), exact.abs().sum(1)])

    off, size = case.each(distances)
    value = float(ratio(off.sum(), size.sum()))
    return Score(rows=ratio(off, size), value=value, aggregate="ratio of sums")


@_higher()
def shapley_rank(case: Case) -> Score:
    """Spearman's correlation with the exact Shapley values over the features, mean over samples."""
    return _agreement(case, lambda values, exact: spearman(cleaned(values), cleaned(exact)))


def _agreement(case: Case, measure: Callable[[Tensor, Tensor], Tensor]) -> Score:
    """Return the agreement of every sample's values with the exact ones."""
    return case.score(lambda part: measure(part.values, part.exact_values))


@_higher()
def shapley_sign(case: Case) -> Score:
    """Share of features with the sign of the exact value."""
    return _agreement(case, sign_match)


def _of_top(name: str, summary: str, **how: bool) -> None:
    """Register an agreement of the top k with the exact one, in rank and sign if these count."""

    @_agreeing(name=name, summary=summary)
    def score(case: Case) -> Score:
        return _agreement(case, lambda values, exact: top_agreement(values, exact, **how))


_of_top(
    "feature_agreement", "FA, feature agreement: overlap of the top k, area over k up to a quarter"
)
_of_top("sign_agreement", "SA, sign agreement: overlap of the top k with the same sign", sign=True)
_of_top("rank_agreement", "RA, rank agreement: share of the top k at the same rank", rank=True)
_of_top(
    "signed_rank_agreement",
    "SRA, signed rank agreement: share of the top k at the same rank and sign",
    rank=True,
    sign=True,
)


@_agreeing(name="rank_correlation")
def size_rank_correlation(case: Case) -> Score:
    """RC, rank correlation: of the dense ranks of |value| with the exact ones."""
    return _agreement(case, rank_correlation)


@_agreeing(name="pairwise_rank_agreement")
def pairs_in_order(case: Case) -> Score:
    """PRA, pairwise rank agreement: share of pairs in the exact order of |value|."""
    return _agreement(case, pairwise_rank_agreement)
