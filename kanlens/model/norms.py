"""Norms of edges computed from their weights."""

from __future__ import annotations

import torch
from torch import Tensor


def centred_l1(
    coef: Tensor,  # (out, in, basis)
    base_weight: Tensor,  # (out, in)
    mean: Tensor,  # (out, in)
) -> Tensor:  # (out, in)
    """Return mean_k |coef_k - c| + |base_weight| of every edge, c being the edge's mean.

    Examples
    --------
    >>> coef = torch.ones(1, 1, 4)  # a constant edge
    >>> centred_l1(coef, torch.zeros(1, 1), torch.ones(1, 1))
    tensor([[0.]])
    """
    return (coef - mean.unsqueeze(-1)).abs().mean(-1) + base_weight.abs()


def entropy(scores: Tensor) -> Tensor:
    """Return the entropy of scores divided by their sum; finite, with its gradient, at zero.

    Examples
    --------
    >>> round(float(entropy(torch.tensor([1.0, 1.0, 0.0]))), 4)
    0.6931
    """
    tiny = torch.finfo(scores.dtype).tiny
    total = scores.sum()
    share = scores / torch.where(total > tiny**0.5, total, 1.0)  # scores of zero share nothing
    return -(share * share.clamp_min(tiny).log()).sum()
