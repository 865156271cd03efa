"""Rankings of features by |value|: agreement, and concentration on few features."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kanlens.attribution.metrics._evaluation import Case, Score, metric
from kanlens.model._analysis import BUDGET

NOISE = 1e-12  # of a sample's largest |value|: less than this is rounding, and counts as zero
SHARE = 0.25  # of all features that are at the top


def cleaned(values: Tensor) -> Tensor:
    """Return values (batch, in); those within rounding of zero, per sample, become 0."""
    sizes = values.abs()
    return torch.where(sizes > NOISE * sizes.amax(1, keepdim=True), values, 0.0)


def top(values: Tensor, count: int) -> Tensor:
    """Return the mask of the `count` largest |values| of each row; of equal ones the first."""
    order = values.abs().argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, order[:, :count], True)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation of each pair of rows; NaN where one side does not vary."""
    left, right = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    sizes = [part.square().mean(1).sqrt() for part in (left, right)]
    varies = sizes[0] > NOISE * a.abs().amax(1)
    varies &= sizes[1] > NOISE * b.abs().amax(1)
    coefficients = (left * right).mean(1) / (sizes[0] * sizes[1])
    return torch.where(varies, coefficients.clamp(-1, 1), math.nan)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation of each pair of rows; NaN where all values are equal."""
    from scipy.stats import rankdata

    at_once = max(1, BUDGET // (16 * a.shape[1]))  # 16: ranks and the arrays of sorting
    parts = []
    for pair in zip(a.split(at_once), b.split(at_once), strict=True):
        ranks = (rankdata(part.cpu().double().numpy(), axis=1) for part in pair)
        parts.append(correlation(*(torch.from_numpy(part).to(a.device) for part in ranks)))
    return torch.cat(parts)


def rank_agreement(a: Tensor, b: Tensor) -> float:
    """Return Spearman's correlation over the features, averaged over samples."""
    return round(float(spearman(a.detach(), b.detach()).nanmean()), 12)


def over_counts(parts: list[Tensor]) -> Tensor:
    """Return the area under a curve over 1, 2, ... features, per unit of its length."""
    stack = torch.stack(parts)
    if len(parts) == 1:
        return stack[0]
    return torch.trapezoid(stack, dim=0) / (len(parts) - 1)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole; 0 / 0 is 0."""
    return torch.where((whole == 0) & (part == 0), 0.0, part / whole)


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
