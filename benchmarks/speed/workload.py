"""One layer as numbers: knots, coefficients and rows, the same for every peer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from benchmarks.speed.cells import Cell
from benchmarks.speed.reference import Expected, spline_layer

UNEVEN = (0.5, 1.5)  # shortest and longest interval of a non-uniform grid, before scaling


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The numbers of a layer that every peer has to compute with.

    The rows x (batch, in) lie inside the grid: outside it, layers differ by design. Knots (in,
    knot) are float64 and go from -1 to 1, with `order` more at either end; coefficients (out, in,
    basis) are of the splines, base weights (out, in) of silu(x). The cotangent (batch, out) is the
    gradient of a loss with respect to the output.
    """

    cell: Cell
    knots: Tensor
    coefficients: Tensor
    base_weight: Tensor
    x: Tensor
    cotangent: Tensor

    @cached_property
    def expected(self) -> Expected:
        """What a B-spline layer gives, in float64."""
        return spline_layer(
            self.x.double(),
            self.knots,
            self.coefficients.double(),
            self.base_weight.double(),
            self.cotangent.double(),
        )


def draw(cell: Cell, generator: torch.Generator, device: str = "cpu") -> Workload:
    """Draw the numbers of a cell."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    size, dtype = cell.in_features**-0.5, getattr(torch, cell.dtype)
    rows = torch.rand(cell.batch, cell.in_features, generator=generator)
    return Workload(
        cell=cell,
        knots=knots(cell, generator).to(device),
        coefficients=size * normal(cell.out_features, cell.in_features, cell.basis),
        base_weight=size * normal(cell.out_features, cell.in_features),
        x=(2 * rows - 1).to(device, dtype),
        cotangent=normal(cell.batch, cell.out_features),
    )


def knots(cell: Cell, generator: torch.Generator) -> Tensor:
    """Return the knots of every input, shape (in, grid_size + 2 * order + 1), float64."""
    lengths = torch.ones(cell.in_features, cell.grid_size, dtype=torch.float64)
    if not cell.uniform:
        lengths.uniform_(*UNEVEN, generator=generator)
    ends = 2 * lengths.cumsum(1) / lengths.sum(1, keepdim=True) - 1
    inner = torch.cat([-torch.ones(cell.in_features, 1, dtype=torch.float64), ends], 1)
    step = 2 / cell.grid_size
    beyond = step * torch.arange(1, cell.order + 1, dtype=torch.float64)
    return torch.cat([inner[:, :1] - beyond.flip(0), inner, inner[:, -1:] + beyond], 1)
