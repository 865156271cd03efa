"""Ranks of features by their values, and what two rankings share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NOISE = 1e-12  # of a sample's largest |value|: less than this is rounding, and counts as zero
SHARE = 0.25  # of all features: how many are at the top


def cleaned(values: Tensor) -> Tensor:
    """Return values (batch, in) in which rounding next to the largest of a sample is zero.

    Examples
    --------
    >>> cleaned(torch.tensor([[1.0, 1e-17]], dtype=torch.float64))
    tensor([[1., 0.]], dtype=torch.float64)
    """
    sizes = values.abs()
    return torch.where(sizes > NOISE * sizes.amax(1, keepdim=True), values, 0.0)


def average_ranks(values: Tensor) -> Tensor:
    """Rank each row from 1 upwards; equal values share the mean of their ranks.

    Examples
    --------
    >>> average_ranks(torch.tensor([[3.0, 1.0, 3.0]]))
    tensor([[2.5000, 1.0000, 2.5000]])
    """
    values = values.contiguous()
    rising = values.sort(1).values
    below = torch.searchsorted(rising, values)
    upto = torch.searchsorted(rising, values, right=True)
    return (below + upto + 1).to(values) / 2


def dense_ranks(values: Tensor) -> Tensor:
    """Rank each row by size, the largest |value| first; equal ones share a rank, without gaps.

    Examples
    --------
    >>> dense_ranks(torch.tensor([[3.0, -1.0, -3.0]]))
    tensor([[1, 2, 1]])
    """
    falling, order = values.abs().sort(1, descending=True)
    new = torch.ones_like(order)
    new[:, 1:] = (falling[:, 1:] < falling[:, :-1]).long()
    return torch.empty_like(order).scatter_(1, order, new.cumsum(1))


def order_by_size(values: Tensor) -> Tensor:
    """Return the features of each row, the largest |value| first; equal ones stay in order.

    Examples
    --------
    >>> order_by_size(torch.tensor([[1.0, -3.0, 1.0]]))
    tensor([[1, 0, 2]])
    """
    return values.abs().argsort(dim=1, descending=True, stable=True)


def top(values: Tensor, count: int) -> Tensor:
    """Tell which features of each row are among its `count` largest |values|.

    Examples
    --------
    >>> top(torch.tensor([[1.0, -3.0, 2.0]]), 2)
    tensor([[False,  True,  True]])
    """
    chosen = order_by_size(values)[:, :count]
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, chosen, True)


def count_of(share: float, n_in: int) -> int:
    """Return how many features a share of all is: at least one.

    Examples
    --------
    >>> count_of(0.25, 8), count_of(0.25, 2), count_of(1.0, 3)
    (2, 1, 3)
    """
    return max(1, min(n_in, round(n_in * share)))


def correlation(a: Tensor, b: Tensor, *, dim: int = 1) -> Tensor:
    """Return Pearson's correlation along an axis; NaN where one side does not vary.

    Examples
    --------
    >>> correlation(torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 3.0]]))
    tensor([-1.])
    """
    left, right = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    sizes = [part.square().mean(dim).sqrt() for part in (left, right)]
    varies = sizes[0] > NOISE * a.abs().amax(dim)
    varies &= sizes[1] > NOISE * b.abs().amax(dim)
    found = (left * right).mean(dim) / (sizes[0] * sizes[1])
    return torch.where(varies, found.clamp(-1, 1), math.nan)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation of each pair of rows; NaN where all values are equal.

    Examples
    --------
    >>> spearman(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.1, 0.2, 9.0]]))
    tensor([1.], dtype=torch.float64)
    """
    return correlation(average_ranks(a.double()), average_ranks(b.double()))


def rank_agreement(a: Tensor, b: Tensor) -> float:
    """Return Spearman's correlation of two attributions over the features, averaged over samples.

    Parameters
    ----------
    a, b : Tensor, shape (batch, in)
        Signed values of the same samples and features.

    Returns
    -------
    float
        From -1 to 1. Samples whose values are all equal are left out; NaN when none is left.

    Examples
    --------
    >>> rank_agreement(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.1, 0.2, 9.0]]))
    1.0
    """
    rows = spearman(a.detach(), b.detach())
    known = rows[~rows.isnan()]
    return round(float(known.mean()), 12) if len(known) else math.nan


def top_agreement(
    values: Tensor,
    exact: Tensor,
    *,
    share: float = SHARE,
    area: bool = True,
    rank: bool = False,
    sign: bool = False,
) -> Tensor:
    """Return the share of the k largest features that two rankings by |value| have in common.

    Parameters
    ----------
    values, exact : Tensor, shape (batch, in)
        The two attributions.
    share : float
        k as a share of the features; at least one feature.
    area : bool
        Mean over 1, ..., k (area under the curve) instead of k alone.
    rank : bool
        Whether a feature must also stand at the same place; equal sizes share a place.
    sign : bool
        Whether it must also have the same sign.

    Returns
    -------
    Tensor, shape (batch,)
        From 0 to 1.

    References
    ----------
    .. [1] S. Krishna et al., The Disagreement Problem in Explainable Machine Learning, 2022.
    .. [2] C. Agarwal et al., OpenXAI: Towards a Transparent Evaluation of Model Explanations, 2022.

    Examples
    --------
    >>> a, b = torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.tensor([[3.0, 0.0, -1.0, 2.0]])
    >>> top_agreement(a, b, share=0.5, area=False)
    tensor([0.5000])
    """
    values, exact = cleaned(values), cleaned(exact)
    fits = torch.ones_like(values, dtype=torch.bool)
    if sign:
        fits &= values.sign() == exact.sign()
    if rank:
        fits &= dense_ranks(values) == dense_ranks(exact)
    most = count_of(share, values.shape[1])
    parts = []
    for k in range(1 if area else most, most + 1):
        ours, theirs = top(values, k), top(exact, k)
        parts.append((ours & theirs & fits).sum(1).to(values) / k)
    return over_counts(parts)


def over_counts(parts: list[Tensor]) -> Tensor:
    """Return the area under a curve over 1, 2, ... features, per unit of its length.

    Examples
    --------
    >>> over_counts([torch.tensor([0.0]), torch.tensor([1.0])])
    tensor([0.5000])
    """
    stack = torch.stack(parts)
    if len(parts) == 1:
        return stack[0]
    return torch.trapezoid(stack, dim=0) / (len(parts) - 1)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole; 0 / 0 is 0, since there was nothing to miss.

    Examples
    --------
    >>> ratio(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 2.0]))
    tensor([0.0000,    inf, 0.5000])
    """
    return torch.where((whole == 0) & (part == 0), 0.0, part / whole)
