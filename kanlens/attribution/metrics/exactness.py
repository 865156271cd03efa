"""How far an attribution is from exact Shapley values of the same model."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Score, undefined
from kanlens.attribution.metrics.metric import Metric
from kanlens.attribution.metrics.rankings import (
    cleaned,
    correlation,
    dense_ranks,
    rank_agreement,
    ratio,
    spearman,
    top_agreement,
)


def relative_l1(values: Tensor, exact: Tensor) -> Tensor:
    """Return the L1 distance of each row from the exact one, over its L1 norm.

    Examples
    --------
    >>> relative_l1(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 2.0]]))
    tensor([0.2500])
    """
    return ratio((values - exact).abs().sum(1), exact.abs().sum(1))


def sign_match(values: Tensor, exact: Tensor) -> Tensor:
    """Return the share of features of each row whose sign is that of the exact value.

    Examples
    --------
    >>> sign_match(torch.tensor([[1.0, -2.0]]), torch.tensor([[2.0, 2.0]]))
    tensor([0.5000])
    """
    same = cleaned(values).sign() == cleaned(exact).sign()
    return same.to(values).mean(1)


def rank_correlation(values: Tensor, exact: Tensor) -> Tensor:
    """Return Pearson's correlation of the dense ranks of |value|; NaN where all are equal.

    Examples
    --------
    >>> rank_correlation(torch.tensor([[3.0, -2.0]]), torch.tensor([[-3.0, 2.0]]))
    tensor([1.])
    """
    ranks = [dense_ranks(cleaned(part)).to(values) for part in (values, exact)]
    return correlation(ranks[0], ranks[1])


def pairwise_rank_agreement(values: Tensor, exact: Tensor) -> Tensor:
    """Return the share of pairs of features that both rank by |value| the same way; NaN for one.

    Examples
    --------
    >>> pairwise_rank_agreement(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[3.0, 1.0, 2.0]]))
    tensor([0.6667])
    """
    i, j = torch.triu_indices(values.shape[1], values.shape[1], 1, device=values.device)
    ours, theirs = (dense_ranks(cleaned(part)) for part in (values, exact))
    same = (ours[:, i] < ours[:, j]) == (theirs[:, i] < theirs[:, j])
    return same.to(values).mean(1)


# --- the metrics ---------------------------------------------------------------------------------


def shapley_error(case: Case) -> Score:
    """Sum of the L1 distances from the exact values over the sum of their L1 norms."""
    exact = case.exact_values
    if exact is None:
        return undefined(case)
    value = float(ratio((case.values - exact).abs().sum(), exact.abs().sum()))
    return Score(rows=relative_l1(case.values, exact), value=value, aggregate="ratio of sums")


def shapley_rank(case: Case) -> Score:
    """Spearman's correlation with the exact values over the features, mean over samples."""
    exact = case.exact_values
    if exact is None:
        return undefined(case)
    rows = spearman(cleaned(case.values), cleaned(exact))
    value = rank_agreement(cleaned(case.values), cleaned(exact))
    return Score(rows=rows, value=value)


def shapley_sign(case: Case) -> Score:
    """Share of features with the sign of the exact value, see `sign_match`."""
    exact = case.exact_values
    return undefined(case) if exact is None else Score.of(sign_match(case.values, exact))


def feature_agreement(case: Case) -> Score:
    """Share of the largest features that are the exact values' largest, see `top_agreement`."""
    return _at_the_top(case)


def sign_agreement(case: Case) -> Score:
    """As `feature_agreement`, with the same sign."""
    return _at_the_top(case, sign=True)


def place_agreement(case: Case) -> Score:
    """As `feature_agreement`, at the same place."""
    return _at_the_top(case, rank=True)


def signed_place_agreement(case: Case) -> Score:
    """As `feature_agreement`, at the same place with the same sign."""
    return _at_the_top(case, rank=True, sign=True)


def _at_the_top(case: Case, *, rank: bool = False, sign: bool = False) -> Score:
    exact = case.exact_values
    if exact is None:
        return undefined(case)
    return Score.of(top_agreement(case.values, exact, rank=rank, sign=sign))


def shapley_size_rank(case: Case) -> Score:
    """Correlation of the ranks of |value| with the exact ones, see `rank_correlation`."""
    exact = case.exact_values
    return undefined(case) if exact is None else Score.of(rank_correlation(case.values, exact))


def shapley_pairs(case: Case) -> Score:
    """Share of pairs of features in the exact order, see `pairwise_rank_agreement`."""
    exact = case.exact_values
    if exact is None or case.values.shape[1] < 2:
        return undefined(case)
    return Score.of(pairwise_rank_agreement(case.values, exact))


_EXACT = "exact Shapley values"
_KRISHNA = "S. Krishna et al., The Disagreement Problem in Explainable Machine Learning, 2022"

METRICS = (
    Metric(
        name="shapley_error",
        function=shapley_error,
        direction="lower",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        summary="L1 distance from the exact Shapley values over their L1 norm",
    ),
    Metric(
        name="shapley_rank",
        function=shapley_rank,
        direction="higher",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        summary="Spearman correlation with the exact Shapley values, mean over samples",
    ),
    Metric(
        name="shapley_sign",
        function=shapley_sign,
        direction="higher",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        summary="share of features with the sign of the exact value",
    ),
    Metric(
        name="feature_agreement",
        function=feature_agreement,
        direction="higher",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        reference=_KRISHNA,
        summary="FA: share of the largest k that is right, area over k up to a quarter",
    ),
    Metric(
        name="sign_agreement",
        function=sign_agreement,
        direction="higher",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        reference=_KRISHNA,
        summary="SA: feature agreement with the same sign",
    ),
    Metric(
        name="rank_agreement",
        function=place_agreement,
        direction="higher",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        reference=_KRISHNA,
        summary="RA: feature agreement at the same rank",
    ),
    Metric(
        name="signed_rank_agreement",
        function=signed_place_agreement,
        direction="higher",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        reference=_KRISHNA,
        summary="SRA: feature agreement at the same rank with the same sign",
    ),
    Metric(
        name="rank_correlation",
        function=shapley_size_rank,
        direction="higher",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        reference=_KRISHNA,
        summary="RC: correlation of the dense ranks of |value| with the exact ones",
    ),
    Metric(
        name="pairwise_rank_agreement",
        function=shapley_pairs,
        direction="higher",
        cost=_EXACT,
        needs=frozenset({"exact"}),
        reference=_KRISHNA,
        summary="PRA: share of pairs of features in the exact order of |value|",
    ),
)
