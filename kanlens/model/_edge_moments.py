"""Mean and variance of every edge from the moments of its basis, without the edges' values.

    var(phi) = sum_cells share * (mean of phi in the cell - mean of phi)^2
             + sum_cells share * (covariance in the cell, a quadratic form in the weights)

Only degree + 1 functions and the base are nonzero in a cell. The terms of both sums, in float64,
are not negative, and edge means are subtracted first, so that no digits cancel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanlens.functions._catalog import BASES
from kanlens.model._kan_linear import EdgeLayer
from kanlens.model._spline_forward import mean_over_rows, summed
from kanlens.splines._cells import Cells

CHUNK = 2**15  # values of one basis function held at once
# edge values up to which computing them is faster than the moments of the basis
MAX_DIRECT_VALUES = 2**16
NOISE = 16 * torch.finfo(torch.float64).eps  # of a form, relative to the sum of its squares

Average = Callable[[Tensor], Tensor]  # of means over some rows, to the mean over all


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Products of basis functions and one more function (the base), summed over points."""

    bands: Tensor  # (degree + 1, in, basis), of functions k and k + d at [d, :, k]
    mixed: Tensor  # (in, basis), of function k and the base
    base: Tensor  # (in,), of the base with itself

    @classmethod
    def of(cls, products: Tensor, cells: Cells) -> Bands:
        """Add up products (pair, in, cell) of `pair_products` by basis function."""
        n_live, n_basis = cells.degree + 1, cells.count + cells.degree
        pairs = list(itertools.combinations_with_replacement(range(n_live + 1), 2))[:-1]
        rows: list[list[Tensor]] = [[] for _ in range(n_live + 1)]  # the last: with the base
        for (r, s), product in zip(pairs, products, strict=False):
            row = F.pad(product, (r, n_basis - cells.count - r))
            rows[s - r if s < n_live else n_live].append(row)
        *bands, mixed = (torch.stack(group).sum(0) for group in rows)
        return cls(bands=torch.stack(bands), mixed=mixed, base=products[-1].sum(-1))

    def form(self, coef: Tensor, weight: Tensor) -> Tensor:
        """Return the quadratic form of every edge (out, in), differentiable once.

        `coef` is (out, in, basis), and `weight`, of the base, (out, in). A form within rounding is
        zero, and so is its gradient.
        """
        total = cast("Any", _BandedForm).apply(coef, self.bands)
        total = total + weight * (2 * (coef * self.mixed).sum(-1) + weight * self.base)
        size = (coef.detach().square() * self.bands[0].detach()).sum(-1)
        size = size + weight.detach().square() * self.base.detach()
        return torch.where(total <= NOISE * size, 0.0, total)  # NaN stays NaN

    def matrix(self) -> Tensor:
        """Return the products as dense matrices, the base last: (in, basis + 1, basis + 1)."""
        n_in, n_basis = self.mixed.shape
        matrix = self.mixed.new_zeros(n_in, n_basis + 1, n_basis + 1)
        for d, band in enumerate(self.bands):
            places = torch.arange(n_basis - d, device=band.device)
            matrix[:, places, places + d] = matrix[:, places + d, places] = band[:, : n_basis - d]
        matrix[:, :-1, -1] = matrix[:, -1, :-1] = self.mixed
        matrix[:, -1, -1] = self.base
        return matrix


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


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of the basis of a layer over the rows of x, in float64."""

    cells: Cells
    share: Tensor  # (in, cell), of the rows in each cell
    means: Tensor  # (in, cell, degree + 2), of the nonzero functions and the base, in the cell
    covariances: Bands  # within the cells, added up over the cells with their shares
    constant: Tensor  # (in,), whether the functions add up to one at every row

    @classmethod
    def over(cls, layer: EdgeLayer, x: Tensor) -> Moments:
        """Return the moments of a layer's basis over x (batch, in); differentiable in x.

        Deviations are added up about the means of a sample of the rows, and the error of these
        means is subtracted at the end.
        """
        cells = Cells.of(layer.grid, layer.spline_order, layer.extrapolation)
        size = max(1, CHUNK // layer.in_features)
        about = _sampled(layer, cells, x.detach()[:: -(-len(x) // size)].double())
        chunks = x.split(size)
        again = len(chunks) > 1 and x.requires_grad and torch.is_grad_enabled()
        totals = summed(chunks, lambda part: _totals(layer, cells, part, about), again=again)
        counts, sums, products = totals.split([1, len(about), len(totals) - len(about) - 1])
        away = sums / counts.detach().clamp_min(1)
        shift = torch.stack(pair_products(list(sums), list(away)))
        ends = x.detach() if layer.extrapolation == "zero" else x.detach()[:0]  # that runs out
        return cls(
            cells=cells,
            share=counts[0] / len(x),
            means=(about + away).permute(1, 2, 0),
            covariances=Bands.of((products - shift) / len(x), cells),
            constant=~layer.outside(ends).any(0),
        )

    def edges(self, layer: EdgeLayer) -> tuple[Tensor, Tensor]:
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
        """Return covariances (in, basis + 1, basis + 1) and means (in, basis + 1); base last."""
        n_in, n_basis = self.covariances.mixed.shape
        by_cell = self.means.new_zeros(n_in, self.cells.count, n_basis + 1)
        places = torch.arange(self.cells.count, device=by_cell.device)
        for r in range(self.cells.degree + 1):
            by_cell[:, places, places + r] = self.means[..., r]
        by_cell[..., -1] = self.means[..., -1]
        share = self.share.unsqueeze(-1)
        means = (by_cell * share).sum(1)
        away = by_cell - means.unsqueeze(1)
        matrix = self.covariances.matrix() + (away * share).mT @ away
        real = [*range(self.cells.padding, n_basis - self.cells.padding), n_basis]
        return matrix[:, real][:, :, real], means[:, real]


def rooted(square: Tensor) -> Tensor:
    """Return the square root, of gradient zero where it is zero."""
    zero = square <= 0  # NaN stays NaN
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def _living(layer: EdgeLayer, cells: Cells, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    cell, values = cells.evaluate(x)
    return cell, [*values, BASES[layer.base_name].value(x)]


@torch.no_grad()
def _sampled(layer: EdgeLayer, cells: Cells, x: Tensor) -> Tensor:  # (live + 1, in, cell)
    """Return the means of each cell's nonzero functions over a few rows; zero without rows."""
    cell, values = _living(layer, cells, x.mT.contiguous())
    sums = added_by_cell([torch.ones_like(values[0]), *values], cell, cells)
    return sums[1:] / sums[0].clamp_min(1)


def _totals(layer: EdgeLayer, cells: Cells, x: Tensor, about: Tensor) -> Tensor:
    """Add up by cell: points, deviations of the nonzero functions, and their products."""
    x = x.double().mT.contiguous()
    cell, values = _living(layer, cells, x)
    away = [value - mean.gather(1, cell) for value, mean in zip(values, about, strict=True)]
    return added_by_cell([torch.ones_like(x), *away, *pair_products(away)], cell, cells)


def means_and_norms(
    layer: EdgeLayer, x: Tensor, centered: bool = True, average: Average | None = None
) -> tuple[Tensor, Tensor]:
    """Return mean and L2 norm of every edge in float64; the mean has no full gradient.

    With `average` they are over all rows that it averages over; x is a part of these.
    """
    mean, square = _mean_and_square(layer, x, centered, bool(average))
    if average is not None and centered:
        whole = average(mean).detach()
        off = torch.where((mean - whole).abs() <= NOISE * whole.abs(), 0.0, mean - whole)
        mean, square = whole, square + off.square()
    return mean, rooted(square if average is None else average(square))


def _mean_and_square(
    layer: EdgeLayer, x: Tensor, centered: bool, slopes: bool
) -> tuple[Tensor, Tensor]:
    """Return the mean of every edge, of many rows with `slopes` only, and its second moment."""
    count = len(x) * layer.in_features * layer.out_features
    if count <= MAX_DIRECT_VALUES:
        values = layer.edge_values(x).double()
        first = values[:1].detach()  # so that an edge without variation has none by rounding
        mean = (values - first).mean(0)
        away = values - first - mean.detach() if centered else values  # its sum: no gradient
        return first[0] + mean, away.square().mean(0)
    if layer.splines_alone:
        mean, variance = Moments.over(layer, x).edges(layer)
        return mean, variance if centered else variance + mean.square()
    with torch.set_grad_enabled(slopes and torch.is_grad_enabled()):
        first = layer.edge_values(x[:1]).detach().double()
        mean = first[0] + mean_over_edges(layer, x, lambda values: values - first)
    start = mean.detach() if centered else torch.zeros_like(mean)
    return mean, mean_over_edges(layer, x, lambda values: (values - start).square())


def mean_over_edges(layer: EdgeLayer, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean over the rows of a function of every edge's value in float64."""
    size = layer.in_features * max(layer.out_features, layer.degrees_of_freedom)
    return mean_over_rows(x, lambda part: function(layer.edge_values(part).double()), size)
