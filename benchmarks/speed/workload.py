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
    """What a peer has to compute.

    The rows lie inside the grid: outside it, layers differ by design.

    Attributes
    ----------
    cell : Cell
        Its shape.
    knots : Tensor, shape (in, grid_size + 2 * order + 1)
        From -1 to 1, with `order` more at either end; float64.
    coefficients : Tensor, shape (out, in, basis)
        Of the splines.
    base_weight : Tensor, shape (out, in)
        Of silu(x).
    x : Tensor, shape (batch, in)
        The rows.
    cotangent : Tensor, shape (batch, out)
        Gradient of a loss with respect to the output.
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
    """Draw the numbers of a cell.

    Examples
    --------
    >>> cell = Cell(batch=2, in_features=3, out_features=1, grid_size=4)
    >>> draw(cell, torch.Generator().manual_seed(0)).coefficients.shape
    torch.Size([1, 3, 7])
    """

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
    """Return the knots of every input, shape (in, grid_size + 2 * order + 1), float64.

    Examples
    --------
    >>> cell = Cell(batch=1, in_features=1, out_features=1, grid_size=2, order=1)
    >>> knots(cell, torch.Generator())
    tensor([[-2., -1.,  0.,  1.,  2.]], dtype=torch.float64)
    """
    lengths = torch.ones(cell.in_features, cell.grid_size, dtype=torch.float64)
    if not cell.uniform:
        lengths.uniform_(*UNEVEN, generator=generator)
    ends = 2 * lengths.cumsum(1) / lengths.sum(1, keepdim=True) - 1
    inner = torch.cat([-torch.ones(cell.in_features, 1, dtype=torch.float64), ends], 1)
    step = 2 / cell.grid_size
    beyond = step * torch.arange(1, cell.order + 1, dtype=torch.float64)
    return torch.cat([inner[:, :1] - beyond.flip(0), inner, inner[:, -1:] + beyond], 1)
