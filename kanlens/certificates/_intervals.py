"""Interval arithmetic on tensors, rounded outwards.

Ends move outwards by a margin, and keep an exact 0 or a sign that all terms have. NaN becomes
infinite ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

EPS = 4e-16  # margin of one operation, of each term; float64 is off by at most 1.2e-16
SUM_EPS = 1e-14  # margin of a sum or norm over features or slices
MODEL_EPS = 1e-13  # margin of a sum of a layer as the model evaluates it, of the sizes of its terms


class Interval(NamedTuple):
    """Intervals between ends of one shape."""

    low: Tensor
    high: Tensor

    @classmethod
    def known(cls, low: Tensor, high: Tensor) -> Interval:
        """Replace NaN by infinite ends."""
        return cls(
            torch.where(low.isnan(), -torch.inf, low), torch.where(high.isnan(), torch.inf, high)
        )

    @classmethod
    def stack(cls, intervals: Sequence[Interval], dim: int) -> Interval:
        """Stack intervals along a new axis."""
        return cls(*(torch.stack(ends, dim) for ends in zip(*intervals, strict=True)))

    @property
    def size(self) -> Tensor:
        """The magnitude: the largest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def meet(self, other: Interval) -> Interval:
        """Intersect two enclosures of the same quantity."""
        low, high = torch.maximum(self.low, other.low), torch.minimum(self.high, other.high)
        return Interval(torch.minimum(low, high), torch.maximum(low, high))

    def total(self, dim: int = -1) -> Interval:
        """Sum intervals along an axis."""
        margin = EPS * (self.low.shape[dim] + 4)
        return Interval.known(
            self.low.sum(dim) - _finite(margin * self.low.abs().sum(dim)),
            self.high.sum(dim) + _finite(margin * self.high.abs().sum(dim)),
        )

    def plus(self, *others: Interval) -> Interval:
        """Add intervals elementwise."""
        return Interval.stack([self, *others], -1).total()

    def shift(self, by: Tensor) -> Interval:
        """Add a number."""
        return Interval.known(
            self.low + by - EPS * _finite(self.low.abs() + by.abs()),
            self.high + by + EPS * _finite(self.high.abs() + by.abs()),
        )

    def times(self, other: Interval) -> Interval:
        """Multiply intervals, with 0 times an infinite end = 0."""
        corners = torch.stack([a * b for a in self for b in other])
        lost = torch.stack([end.isnan() for end in torch.broadcast_tensors(*self, *other)]).any(0)
        corners = torch.where(corners.isnan(), 0.0, corners)
        low, high = corners.amin(0), corners.amax(0)
        low, high = low - EPS * _finite(low.abs()), high + EPS * _finite(high.abs())
        return Interval(low.masked_fill(lost, -torch.inf), high.masked_fill(lost, torch.inf))

    def scaled(self, factor: Tensor) -> Interval:
        """Multiply by a number."""
        return Interval(factor, factor).times(self)

    def with_zero(self, where: Tensor) -> Interval:
        """Widen intervals to contain 0 at some places."""
        low, high = self.low.clamp(max=0), self.high.clamp(min=0)
        return Interval(torch.where(where, low, self.low), torch.where(where, high, self.high))

    def hull(self) -> Interval:
        """Return the hull of a batch of intervals (batch, ...)."""
        return Interval(self.low.amin(0), self.high.amax(0))

    def column(self, which: int | list[int] | Tensor = 0) -> Interval:
        """Return one column, or some columns, of intervals (box, n, ...)."""
        return Interval(self.low[:, which], self.high[:, which])

    def unsqueeze(self, dim: int) -> Interval:
        """Return the intervals with a new axis of length 1."""
        return Interval(self.low.unsqueeze(dim), self.high.unsqueeze(dim))


def _finite(margin: Tensor) -> Tensor:
    """Return how far a finite end is rounded outwards; 0 for an infinite one."""
    return margin.masked_fill(~torch.isfinite(margin), 0.0)
