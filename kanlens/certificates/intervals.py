"""Interval arithmetic on tensors, rounded outwards: pairs (low, high) of one shape.

Ends move by `EPS` = 4e-16 of every term added (float64 is off by at most 1.2e-16), and keep an
exact 0 or a sign that all terms have. NaN becomes infinite ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

EPS = 4e-16

Interval: TypeAlias = tuple[Tensor, Tensor]


def known(low: Tensor, high: Tensor) -> Interval:
    """Replace NaN by infinite ends."""
    return torch.where(low.isnan(), -torch.inf, low), torch.where(high.isnan(), torch.inf, high)


def meet(first: Interval, second: Interval) -> Interval:
    """Intersect two enclosures of the same quantity."""
    low, high = torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])
    return torch.minimum(low, high), torch.maximum(low, high)


def add(interval: Interval, dim: int = -1) -> Interval:
    """Sum intervals along an axis."""
    low, high = interval
    margin = EPS * (low.shape[dim] + 4)
    return known(
        low.sum(dim) - _finite(margin * low.abs().sum(dim)),
        high.sum(dim) + _finite(margin * high.abs().sum(dim)),
    )


def shift(interval: Interval, by: Tensor) -> Interval:
    """Add a number."""
    low, high = interval
    return known(
        low + by - EPS * _finite(low.abs() + by.abs()),
        high + by + EPS * _finite(high.abs() + by.abs()),
    )


def multiply(first: Interval, second: Interval) -> Interval:
    """Multiply intervals; infinite ends stand for numbers without a bound, so 0 times one is 0."""
    corners = torch.stack([a * b for a in first for b in second])
    lost = torch.stack([end.isnan() for end in torch.broadcast_tensors(*first, *second)]).any(0)
    corners = torch.where(corners.isnan(), 0.0, corners)
    low, high = corners.amin(0), corners.amax(0)
    low, high = low - EPS * _finite(low.abs()), high + EPS * _finite(high.abs())
    return low.masked_fill(lost, -torch.inf), high.masked_fill(lost, torch.inf)


def scaled(factor: Tensor, interval: Interval) -> Interval:
    """Multiply an interval by a number."""
    return multiply((factor, factor), interval)


def size(interval: Interval) -> Tensor:
    """Return the magnitude: the largest absolute value."""
    return torch.maximum(interval[0].abs(), interval[1].abs())


def _finite(margin: Tensor) -> Tensor:
    """Return how far a finite end is rounded outwards; 0 for an infinite one."""
    return margin.masked_fill(~torch.isfinite(margin), 0.0)


def with_zero(interval: Interval, where: Tensor) -> Interval:
    """Widen intervals to contain 0 at some places."""
    low, high = interval
    return torch.where(where, low.clamp(max=0), low), torch.where(where, high.clamp(min=0), high)


def stack(intervals: Sequence[Interval], dim: int) -> Interval:
    """Stack intervals along a new axis."""
    return torch.stack([low for low, _ in intervals], dim), torch.stack(
        [high for _, high in intervals], dim
    )


def plus(*intervals: Interval) -> Interval:
    """Add intervals elementwise."""
    return add(stack(intervals, -1))


def hull(interval: Interval) -> Interval:
    """Return the smallest interval that contains a batch of intervals (batch, ...)."""
    return interval[0].amin(0), interval[1].amax(0)


def column(interval: Interval, which: int | list[int] | Tensor = 0) -> Interval:
    """Return the intervals in a column, or in some columns, of (box, n, ...)."""
    return interval[0][:, which], interval[1][:, which]
