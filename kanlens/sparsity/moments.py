"""Mean and variance of every edge from the moments of its basis, without the edges' values.

Within a cell of the grid only degree + 1 functions and the base live. Their covariances over the
rows in the cell, and their means there, are all that the data has to say:

    var(phi) = sum_cells share * (mean of phi in the cell - mean of phi)^2
             + sum_cells share * (covariance in the cell, a quadratic form in the weights)

Both are sums of what is not negative, the covariances are taken about the cell's own means, and
the edge's mean is subtracted from its coefficients first (functions that add up to one do not
notice), so that nothing is lost where an edge varies far less than it is high. Everything is
summed in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kanlens.functions.catalog import BASES
from kanlens.model.layers import KANLinear
from kanlens.sparsity.banded import Bands, added_by_cell, pair_products
from kanlens.sparsity.live import Cells

__all__ = ["Moments", "rooted"]

CHUNK = 2**15  # values of one basis function held at once


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of the basis of a layer over the rows of x, in float64.

    Attributes
    ----------
    cells : Cells
        Where the pieces lie.
    share : Tensor, shape (in, cell)
        Share of the rows in each cell.
    means : Tensor, shape (in, cell, degree + 2)
        Means of the living functions, and of the base, over the rows in the cell.
    covariances : Bands
        Of functions within the cells, added up over the cells with their shares.
    constant : Tensor, shape (in,)
        Whether the functions add up to one at every row.
    """

    cells: Cells
    share: Tensor
    means: Tensor
    covariances: Bands
    constant: Tensor

    @classmethod
    def over(cls, layer: KANLinear, x: Tensor) -> Moments:
        """Take the moments of a layer's basis over x (batch, in); differentiable in x.

        Rows are taken in chunks, whose intermediate values are computed anew for the gradient.
        Deviations are added up about the means of a sample of the rows, and what the sample was
        off by is subtracted at the end.
        """
        cells = Cells.of(layer)
        size = max(1, CHUNK // layer.in_features)
        about = _sampled(layer, cells, x.detach()[:: -(-len(x) // size)].double())
        chunks = [part.mT.contiguous() for part in x.double().split(size)]
        totals = _summed(chunks, lambda part: _totals(layer, cells, part, about))
        counts, sums, products = totals.split([1, len(about), len(totals) - len(about) - 1])
        away = sums / counts.detach().clamp_min(1)
        shift = torch.stack(pair_products(list(sums), list(away)))
        runs_out = layer.outside(x) if layer.mode == "zero" else torch.zeros_like(x).bool()
        return cls(
            cells=cells,
            share=counts[0] / len(x),
            means=(about + away).permute(1, 2, 0),
            covariances=Bands.of((products - shift) / len(x), cells),
            constant=~runs_out.any(0),
        )

    def edges(self, layer: KANLinear) -> tuple[Tensor, Tensor]:
        """Return mean and variance of every edge of the layer, shapes (out, in).

        Both are differentiable, once, in the weights and in x.
        """
        weight = layer.base_weights().double()
        coef = F.pad(layer.coefficients().double(), [self.cells.padding] * 2)
        level = (self._over_cells(coef.detach()) * self.share).sum(-1) * self.constant
        coef = coef - level.unsqueeze(-1)  # the variance does not move with it
        height = (self.means[..., -1] * self.share).sum(-1)  # of the base
        inner = self._over_cells(coef)
        inner = inner + weight.unsqueeze(-1) * (self.means[..., -1] - height.unsqueeze(-1))
        mean = (inner * self.share).sum(-1)
        between = ((inner - mean.unsqueeze(-1)).square() * self.share).sum(-1)
        within = self.covariances.form(coef, weight)
        return mean + level + weight * height, between + within

    def _over_cells(self, coef: Tensor) -> Tensor:  # (out, in, basis) -> (out, in, cell)
        """Return the mean of every spline over the rows in each cell."""
        width, n_live = self.cells.count, self.cells.degree + 1
        parts = [coef[..., r : r + width] * self.means[..., r] for r in range(n_live)]
        return torch.stack(parts).sum(0)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """Return covariances and means of all basis functions and the base, the base last.

        Returns
        -------
        covariances : Tensor, shape (in, basis + 1, basis + 1)
        means : Tensor, shape (in, basis + 1)
        """
        n_in, n_basis = self.covariances.mixed.shape
        by_cell = self.means.new_zeros(n_in, self.cells.count, n_basis + 1)
        places = torch.arange(self.cells.count, device=by_cell.device)
        for r in range(self.cells.degree + 1):
            by_cell[:, places, places + r] = self.means[..., r]
        by_cell[..., -1] = self.means[..., -1]
        share = self.share.unsqueeze(-1)
        means = (by_cell * share).sum(1)
        away = by_cell - means.unsqueeze(1)
        found = self.covariances.matrix() + (away * share).mT @ away
        kept = [*range(self.cells.padding, n_basis - self.cells.padding), n_basis]
        return found[:, kept][:, :, kept], means[:, kept]


def rooted(square: Tensor) -> Tensor:
    """Return the square root; where it is zero, and at its corner, so is its gradient.

    Examples
    --------
    >>> rooted(torch.tensor([4.0, 0.0]))
    tensor([2., 0.])
    """
    zero = square <= 0  # NaN stays NaN
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def _summed(chunks: list[Tensor], function: Callable[[Tensor], Tensor]) -> Tensor:
    """Add up what a function makes of the chunks; gradients of several compute it once more."""
    again = len(chunks) > 1 and chunks[0].requires_grad and torch.is_grad_enabled()
    total: Any = 0
    for part in chunks:
        if again:
            found = checkpoint(function, part, use_reentrant=False, preserve_rng_state=False)
        else:
            found = function(part)
        total = total + found
    return cast("Tensor", total)


def _living(layer: KANLinear, cells: Cells, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    cell, values = cells.evaluate(x)
    return cell, [*values, BASES[layer.base_name].value(x)]


@torch.no_grad()
def _sampled(layer: KANLinear, cells: Cells, x: Tensor) -> Tensor:  # (live + 1, in, cell)
    """Return the means of what lives in every cell over a few rows; zero where there are none."""
    cell, values = _living(layer, cells, x.mT.contiguous())
    sums = added_by_cell([torch.ones_like(values[0]), *values], cell, cells)
    return sums[1:] / sums[0].clamp_min(1)


def _totals(layer: KANLinear, cells: Cells, x: Tensor, about: Tensor) -> Tensor:
    """Add up by cell: the points, the deviations of what lives there, and their products."""
    cell, values = _living(layer, cells, x)
    away = [value - mean.gather(1, cell) for value, mean in zip(values, about, strict=True)]
    return added_by_cell([torch.ones_like(x), *away, *pair_products(away)], cell, cells)
