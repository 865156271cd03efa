"""Quadratic forms of splines: banded matrices of products of basis functions, one per input."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanlens.sparsity.live import Cells

__all__ = ["Bands", "added_by_cell", "pair_products"]

NOISE = 16 * torch.finfo(torch.float64).eps  # of a form, relative to the sum of its squares


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Products of basis functions, and of one function more (the base), added up over points.

    Attributes
    ----------
    bands : Tensor, shape (degree + 1, in, basis)
        Of functions k and k + d, at [d, :, k].
    mixed : Tensor, shape (in, basis)
        Of function k and the base.
    base : Tensor, shape (in,)
        Of the base with itself.
    """

    bands: Tensor
    mixed: Tensor
    base: Tensor

    @classmethod
    def of(cls, products: Tensor, cells: Cells) -> Bands:
        """Add what `pair_products` returns, shape (pair, in, cell), up by basis function."""
        n_live, n_basis = cells.degree + 1, cells.count + cells.degree
        pairs = list(itertools.combinations_with_replacement(range(n_live + 1), 2))[:-1]
        rows: list[list[Tensor]] = [[] for _ in range(n_live + 1)]  # the last: with the base
        for (r, s), product in zip(pairs, products, strict=False):
            row = F.pad(product, (r, n_basis - cells.count - r))
            rows[s - r if s < n_live else n_live].append(row)
        totals = [torch.stack(found).sum(0) for found in rows]
        base = products[-1].sum(-1)
        return cls(bands=torch.stack(totals[:-1]), mixed=totals[-1], base=base)

    def form(self, coef: Tensor, weight: Tensor) -> Tensor:
        """Return the quadratic form of every edge; zero, with its gradient, where it is noise.

        Parameters
        ----------
        coef : Tensor, shape (out, in, basis)
            Coefficients.
        weight : Tensor, shape (out, in)
            Of the base.

        Returns
        -------
        Tensor, shape (out, in)
            Differentiable once.
        """
        total = cast("Any", _BandedForm).apply(coef, self.bands)
        total = total + weight * (2 * (coef * self.mixed).sum(-1) + weight * self.base)
        size = (coef.detach().square() * self.bands[0].detach()).sum(-1)
        size = size + weight.detach().square() * self.base.detach()
        return torch.where(total <= NOISE * size, 0.0, total)  # NaN stays NaN

    def matrix(self) -> Tensor:
        """Return the products as dense matrices, the base last: (in, basis + 1, basis + 1)."""
        n_in, n_basis = self.mixed.shape
        found = self.mixed.new_zeros(n_in, n_basis + 1, n_basis + 1)
        for d, band in enumerate(self.bands):
            places = torch.arange(n_basis - d, device=band.device)
            found[:, places, places + d] = found[:, places + d, places] = band[:, : n_basis - d]
        found[:, :-1, -1] = found[:, -1, :-1] = self.mixed
        found[:, -1, -1] = self.base
        return found


def added_by_cell(values: list[Tensor], cell: Tensor, cells: Cells) -> Tensor:
    """Add each of `values` (in, point) up over the points in every cell: (value, in, cell)."""
    n_in = len(cell)
    starts = cells.count * torch.arange(n_in, device=cell.device)
    where = (cell + starts.unsqueeze(-1)).flatten()
    empty = values[0].new_zeros(n_in * cells.count)
    sums = [empty.scatter_add(0, where, value.flatten()) for value in values]
    return torch.stack(sums).view(len(values), n_in, cells.count)


def pair_products(values: list[Tensor], others: list[Tensor] | None = None) -> list[Tensor]:
    """Return the product of every two of `values`, or of one and a later one of `others`."""
    right = values if others is None else others
    places = itertools.combinations_with_replacement(range(len(values)), 2)
    return [values[r] * right[s] for r, s in places]


class _BandedForm(torch.autograd.Function):
    """The quadratic form of (out, in, basis) coefficients in a banded matrix per input."""

    @staticmethod
    def forward(ctx: Any, coef: Tensor, bands: Tensor) -> Tensor:
        n = coef.shape[-1]
        product = coef * bands[0]
        for d in range(1, min(len(bands), n)):
            band = bands[d, :, : n - d]
            product[..., : n - d] += band * coef[..., d:]
            product[..., d:] += band * coef[..., : n - d]
        ctx.save_for_backward(coef, bands, product)
        return (product * coef).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None]:
        coef, bands, product = ctx.saved_tensors
        by_coef = 2 * grad.unsqueeze(-1) * product
        if not ctx.needs_input_grad[1]:
            return by_coef, None
        n, weighted = coef.shape[-1], grad.unsqueeze(-1) * coef
        by_bands = torch.zeros_like(bands)
        for d in range(min(len(bands), n)):
            pair = weighted[..., : n - d] * coef[..., d:]
            by_bands[d, :, : n - d] = pair.sum(0) * (1 if d == 0 else 2)
        return by_coef, by_bands
