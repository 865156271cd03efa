"""How many features an attribution spreads over."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Score
from kanlens.attribution.metrics.metric import Metric
from kanlens.attribution.metrics.rankings import ratio


def gini_index(values: Tensor) -> Tensor:
    """Return the Gini index of each row's |values|: 0 all equal, near 1 a single one.

    Examples
    --------
    >>> gini_index(torch.tensor([[0.0, 0.0, -4.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    tensor([0.7500, 0.0000])
    """
    sizes = values.abs().sort(1).values
    n = sizes.shape[1]
    places = torch.arange(1, n + 1, device=sizes.device).to(sizes)
    return ratio((sizes * (2 * places - n - 1)).sum(1), n * sizes.sum(1))


def share_entropy(values: Tensor) -> Tensor:
    """Return the entropy of each row's shares |value| / sum of |values|; NaN where all are zero.

    Examples
    --------
    >>> share_entropy(torch.tensor([[1.0, -1.0], [1.0, 0.0]])).exp()
    tensor([2., 1.])
    """
    total = values.abs().sum(1, keepdim=True)
    shares = values.abs() / torch.where(total > 0, total, math.nan)
    found: Tensor = torch.special.entr(shares).sum(1)
    return found


def gini(case: Case) -> Score:
    """Gini index of a sample's |values|."""
    return Score.of(gini_index(case.values))


def entropy(case: Case) -> Score:
    """Entropy of a sample's shares of the sum of |values|."""
    return Score.of(share_entropy(case.values))


def effective_features(case: Case) -> Score:
    """Exponential of the entropy: how many equal features would have the same."""
    return Score.of(share_entropy(case.values).exp())


_CHALASANI = (
    "P. Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training, 2020"
)
_BHATT = "U. Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020"

METRICS = (
    Metric(
        name="gini",
        function=gini,
        direction="none",
        reference=_CHALASANI,
        summary="Gini index of the |values| of a sample: 0 all equal, near 1 a single one",
    ),
    Metric(
        name="entropy",
        function=entropy,
        direction="none",
        reference=_BHATT,
        summary="entropy of the shares of |value| of a sample",
    ),
    Metric(
        name="effective_features",
        function=effective_features,
        direction="none",
        reference=_BHATT,
        summary="number of equal features with the same entropy",
    ),
)
