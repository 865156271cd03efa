"""Concentration: the number of features that an attribution spreads over."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kanlens.attribution.metrics._evaluation import Case, Score, metric
from kanlens.attribution.metrics._rankings import ratio


def gini_index(values: Tensor) -> Tensor:
    """Return the Gini index of each row's |values|: 0 all equal, near 1 a single one.

    References
    ----------
    .. [1] P. Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training,
       2020 (sparseness).
    """
    sizes = values.abs().sort(1).values
    n = sizes.shape[1]
    places = torch.arange(1, n + 1, device=sizes.device).to(sizes)
    return ratio((sizes * (2 * places - n - 1)).sum(1), n * sizes.sum(1))


def share_entropy(values: Tensor) -> Tensor:
    """Return the entropy of each row's shares |value| / sum of |values|; NaN where all are zero.

    References
    ----------
    .. [1] U. Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020.
    """
    total = values.abs().sum(1, keepdim=True)
    shares = values.abs() / torch.where(total > 0, total, math.nan)
    entropy: Tensor = torch.special.entr(shares).sum(1)
    return entropy


@metric("none", of=gini_index)
def gini(case: Case) -> Score:
    """Gini index of the |values| of a sample: 0 all equal, near 1 a single one."""
    return case.score(lambda part: gini_index(part.values))


@metric("none", of=share_entropy)
def effective_features(case: Case) -> Score:
    """Exponential of the entropy of a sample's |values|: the number of equally large features."""
    return case.score(lambda part: share_entropy(part.values).exp())
