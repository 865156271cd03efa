"""Statistics of the training data, stored in a model, in the scaled units of each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.splines._spline import quantiles

LEVELS = 33  # quantiles kept per input, evenly spaced from 0 to 1
EXPECTED = 6  # expected rows near a pair of values, if independent; the chance of none is 0.25%


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerStatistics:
    """Distribution of a layer's inputs and edge values over the training data, on the CPU."""

    quantiles: Tensor  # (in, 33): of each input at 0, 1/32, ..., 1
    edge_mean: Tensor  # (out, in)
    edge_std: Tensor  # (out, in)

    @property
    def input_low(self) -> Tensor:
        """Smallest value of each input, shape (in,)."""
        return self.quantiles[:, 0]

    @property
    def input_high(self) -> Tensor:
        """Largest value of each input, shape (in,)."""
        return self.quantiles[:, -1]

    def reached(self, x: Tensor) -> Tensor:
        """Return the mask of x (batch, in) in, or just outside, the range of training data."""
        low, high = self.input_low.to(x), self.input_high.to(x)
        room = 0.01 * (high - low)  # as `KANLinear.update_grid` leaves it
        return (x >= low - room) & (x <= high + room)

    def select(self, out: Tensor, in_: Tensor) -> LayerStatistics:
        """Return the statistics of a layer that keeps only outputs `out` and inputs `in_`."""
        return LayerStatistics(
            quantiles=self.quantiles[in_],
            edge_mean=self.edge_mean[out][:, in_],
            edge_std=self.edge_std[out][:, in_],
        )


def empty_pairs(places: Sequence[Sequence[int]], x: Tensor, rows: Tensor) -> Tensor:
    """Return the mask (batch, column, column) of pairs of values that no row comes near.

    `places` are the features of each column; `rows` (row, in) are the data. Two values of a
    column are near if at most a certain share of `rows` lies between them in rank; two categories
    never are. With this share, `EXPECTED` rows are near the ends of two columns if independent.
    Only pairs of which independence predicts at least as many are in the mask.
    """
    count, rows = len(rows), rows.to(x)
    if count < 4 * EXPECTED + 1:  # different categories would be near
        return torch.zeros(len(x), len(places), len(places), dtype=torch.bool)
    ordered = rows.mT.sort(1).values.contiguous()

    def ranks(values: Tensor) -> Tensor:  # (batch, in) -> (in, batch), shares of the rows
        below, up_to = (
            torch.searchsorted(ordered, values.mT.contiguous(), right=right)
            for right in (False, True)
        )
        return (below + up_to) / (2 * count)

    own, others = ranks(x), ranks(rows)
    share = math.sqrt(EXPECTED / count)
    gaps = ((own[:, :, None] - others[:, None]).abs() <= share + 1e-9).double()
    near = torch.stack([gaps[list(place)].amin(0) for place in places], 1)
    alone = near.sum(2)
    judged = alone[:, :, None] * alone[:, None] >= EXPECTED * count
    return judged & (near @ near.mT == 0)


def summarize(x: Tensor, mean: Tensor, std: Tensor) -> LayerStatistics:
    """Return the statistics of a layer from inputs (batch, in) and edge moments (out, in)."""
    levels = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    return LayerStatistics(
        quantiles=quantiles(x.detach().cpu(), levels).mT.contiguous(),
        edge_mean=mean.detach().cpu(),
        edge_std=std.detach().cpu(),
    )


def deviations(y: Tensor) -> Tensor:  # (batch, out) -> (out,)
    """Return the standard deviation of every column; 0 if within rounding."""
    info, size = torch.finfo(y.dtype), y.abs().amax(0)
    size = torch.where(size > 0, size, 1.0).log2().floor().exp2()  # squares must not underflow
    part = (y / size).std(0, correction=0)
    varies = (part > info.eps * (y / size).abs().amax(0)) & (part * size > info.tiny)
    return torch.where(varies, part * size, 0.0)
