"""A layer of splines in torch operations, differentiable to any order, and moments of its edges.

Means of the basis over reference points are kept; they are valid until the grid changes. The
variance of an edge follows from the moments of its basis, without the edge's values:

    var(phi) = sum_cells share * (mean of phi in the cell - mean of phi)^2
             + sum_cells share * (covariance in the cell, a quadratic form in the weights)

A cell is a knot interval, where only degree + 1 B-splines and the base are nonzero. The terms of
both sums, in float64, are not negative, and edge means are subtracted first, so that no digits
cancel.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kanlens.functions._catalog import BASES
from kanlens.model.kernels._choice import recorded
from kanlens.splines import _spline as spline
from kanlens.splines._local_basis import LocalBasis, local_basis
from kanlens.splines._spline import Extrapolation

if TYPE_CHECKING:
    from kanlens.model._edge_layer import EdgeLayer

CHUNK = 2**20  # values of edges, or of their bases, held at once
FINE, SPARSE = 64, 2**13  # basis functions of an input, and their values in all, from which on only
# the nonzero ones are evaluated: 1.2 to 60 times faster
BASIS_CHUNK = 2**15  # values of one basis function held at once
# edge values up to which computing them is faster than the moments of the basis
MAX_DIRECT_VALUES = 2**16
NOISE = 16 * torch.finfo(torch.float64).eps  # of a quadratic form, over its sum of squares

Average = Callable[[Tensor], Tensor]  # of means over some rows, to the mean over all

# By layer: means over its places, and the grid and the state of the layer they are valid for.
_means = WeakKeyDictionary[nn.Module, tuple[Tensor, Tensor, tuple[object, ...]]]()


class LayerBasis(NamedTuple):
    """The B-splines and the base function of a layer."""

    grid: Tensor  # (in, knot)
    degree: int
    extrapolation: Extrapolation
    base: str  # key into BASES


class Weights(NamedTuple):
    """The weight tensors of a layer."""

    spline: Tensor  # (out, in, basis), before `scale`
    scale: Tensor | None  # (out, in)
    base: Tensor  # (out, in)
    bias: Tensor  # (out,)
    mask: Tensor  # (out, in)

    def coefficients(self) -> Tensor:
        """Return the B-spline coefficients of every edge, multiplied by scale and mask."""
        scale = self.mask if self.scale is None else self.mask * self.scale
        return self.spline * scale.unsqueeze(-1)

    def base_weights(self) -> Tensor:
        """Return the weights (out, in) of the base function, multiplied by the mask."""
        return self.base * self.mask

    def packed(self) -> Tensor:
        """Return coefficients and base weights (in, basis + 1, out), the base last."""
        coef, base = self.coefficients().permute(1, 2, 0), self.base_weights().mT.unsqueeze(1)
        return torch.cat([coef, base], 1).contiguous()

    def unpacked(self, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of spline, scale and base weights from that of `packed`."""
        coef, factor, scale = grad[:, :-1].permute(2, 0, 1), self.mask, None
        if self.scale is not None:
            factor = factor * self.scale
            scale = (coef * self.spline).sum(-1) * self.mask
        base = (grad[:, -1].mT * self.mask).contiguous()
        return (coef * factor.unsqueeze(-1)).contiguous(), scale, base


def edge_sum(x: Tensor, weights: Weights, basis: LayerBasis) -> Tensor:
    """Return bias_o + sum_i phi_oi(x_i), (batch, out), for x (batch, in) by matrix products.

    Adding the linear extrapolation separately is faster than extrapolating the basis.
    """
    grid, degree, extrapolation, base = basis
    y = F.linear(BASES[base].value(x), weights.base_weights(), weights.bias)
    coef = weights.coefficients()
    if extrapolation == "zero":
        values = spline.basis(x, grid, degree, extrapolation=extrapolation)
        return y.addmm_(values.flatten(1), coef.flatten(1).mT)
    low, high = spline.grid_ends(grid, degree)
    inside = x.clamp(low, high)
    n_out, _, n_basis = coef.shape
    fine = n_basis >= FINE and (degree + 1) * n_out <= n_basis  # then indexing is faster
    if fine and not torch.compiler.is_compiling() and len(x) * n_basis >= SPARSE:
        y = y + spline.local_sums(inside, coef, grid, degree)
    else:
        y = y + F.linear(spline.basis(inside, grid, degree).flatten(1), coef.flatten(1))
    below, above = spline.end_slopes(grid, degree)  # (in, basis) each
    beyond = x - inside
    y = y + F.linear(beyond.clamp(max=0), (coef * below).sum(-1))
    return y + F.linear(beyond.clamp(min=0), (coef * above).sum(-1))


def mean_absolute_edges(
    x: Tensor, weights: Weights, basis: LayerBasis, *, again: bool = True
) -> Tensor:
    """Return the mean over the rows of |phi_oi(x_i)|, (out, in), for x (batch, in)."""
    grid, degree, extrapolation, base = basis

    def values(part: Tensor) -> Tensor:
        coef = weights.coefficients()
        splines = spline.evaluate(part, coef, grid, degree, extrapolation=extrapolation)
        bases = BASES[base].value(part).unsqueeze(1) * weights.base_weights()
        return (splines + bases).double().abs().sum(0)

    return mean_over_rows(x, values, weights.base.numel(), again=again).to(x.dtype)


def mean_over_rows(
    x: Tensor, function: Callable[[Tensor], Tensor], size: int, *, again: bool = True
) -> Tensor:
    """Return the mean over rows; `function` sums over a chunk, with `size` numbers per row.

    Rows are processed in chunks, with `again` recomputed for the gradient, so that memory does not
    grow with the batch.
    """
    parts = x.split(max(1, CHUNK // size))
    again = again and len(parts) > 1 and torch.is_grad_enabled()
    return summed(parts, function, again=again) / len(x)


def summed(
    chunks: Sequence[Tensor], function: Callable[[Tensor], Tensor], *, again: bool
) -> Tensor:
    """Return the sum of a function over chunks; if `again`, recompute it for the gradient."""
    total: Tensor | int = 0
    for part in chunks:
        total = total + (
            checkpoint(function, part, use_reentrant=False, preserve_rng_state=False)
            if again
            else function(part)
        )
    return cast("Tensor", total)


def basis_means(layer: EdgeLayer, x: Tensor) -> Tensor:  # (in, basis + 1)
    """Return the means over x (batch, in) of the B-splines, and last of the base function."""
    grid, degree, base = layer.grid, layer.spline_order, BASES[layer.base_name]

    def values(part: Tensor) -> Tensor:
        splines = spline.basis(part, grid, degree, extrapolation=layer.extrapolation)
        return torch.cat([splines, base.value(part).unsqueeze(-1)], dim=-1).double().sum(0)

    return mean_over_rows(x, values, grid.numel()).to(x.dtype)


def known_means(layer: EdgeLayer) -> Tensor:  # (in, basis + 1)
    """Return `basis_means` over a layer's `places`, cached: training steps do not change them."""
    grid, options = layer.grid, (layer.spline_order, layer.extrapolation, layer.base_name)
    plain = type(grid) is Tensor and not grid.requires_grad
    if not plain or torch.is_inference_mode_enabled() or recorded():
        return basis_means(layer, layer.places())
    state = layer.statistics, *options, grid.dtype, grid.device
    cached = _means.get(layer)
    if cached is None or cached[2] != state or not torch.equal(cached[1], grid):
        cached = basis_means(layer, layer.places()), grid.clone(), state
        _means[layer] = cached
    return cached[0]


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Sums over points of products of two basis functions, or of one and the base function."""

    bands: Tensor  # (degree + 1, in, basis), of functions k and k + d at [d, :, k]
    mixed: Tensor  # (in, basis), of function k and the base
    base: Tensor  # (in,), of the base with itself

    @classmethod
    def of(cls, products: Tensor, degree: int) -> Bands:
        """Sum products (pair, in, cell), as of `pair_products`, over the cells of each pair."""
        n_live = degree + 1
        pairs = list(itertools.combinations_with_replacement(range(n_live + 1), 2))[:-1]
        rows: list[list[Tensor]] = [[] for _ in range(n_live + 1)]  # the last: with the base
        for (r, s), product in zip(pairs, products, strict=False):
            row = F.pad(product, (r, degree - r))
            rows[s - r if s < n_live else n_live].append(row)
        *bands, mixed = (torch.stack(group).sum(0) for group in rows)
        return cls(bands=torch.stack(bands), mixed=mixed, base=products[-1].sum(-1))

    def form(self, coef: Tensor, weight: Tensor) -> Tensor:  # (out, in, basis), (out, in)
        """Return the quadratic form of every edge (out, in); 0 if within rounding."""
        total = weight * (2 * (coef * self.mixed).sum(-1) + weight * self.base)
        for d, band in enumerate(self.bands[: coef.shape[-1]].unbind()):
            left, right = coef[..., : coef.shape[-1] - d], coef[..., d:]
            pairs = torch.einsum("oik,oik,ik->oi", left, right, band[:, : left.shape[-1]])
            total = total + (2 if d else 1) * pairs
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


def added_by_cell(values: list[Tensor], cell: Tensor, count: int) -> Tensor:
    """Sum each of `values` (in, point) over the points in every cell: (value, in, cell)."""
    empty = values[0].new_zeros(len(cell), count)
    return torch.stack([empty.scatter_add(1, cell, value) for value in values])


def pair_products(values: list[Tensor], others: list[Tensor] | None = None) -> list[Tensor]:
    """Return values[r] * others[s] for all r <= s; by default `others` are `values`."""
    right = values if others is None else others
    places = itertools.combinations_with_replacement(range(len(values)), 2)
    return [values[r] * right[s] for r, s in places]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of the basis of a layer over the rows of x, in float64."""

    share: Tensor  # (in, cell), of the rows in each cell
    means: Tensor  # (in, cell, degree + 2), of the nonzero functions and the base, in the cell
    covariances: Bands  # within the cells, added up over the cells with their shares
    constant: Tensor  # (in,), whether the functions add up to one at every row

    @classmethod
    def over(cls, layer: EdgeLayer, x: Tensor) -> Moments:
        """Return the moments of a layer's basis over x (batch, in); differentiable in x.

        Deviations from the means of a sample of the rows are summed, and corrected for the error of
        these means.
        """
        degree, grid = layer.spline_order, layer.grid.double()
        basis = local_basis(grid, degree, extrapolation=layer.extrapolation)
        size = max(1, BASIS_CHUNK // layer.in_features)
        about = grid.new_zeros(degree + 2, layer.in_features, layer.grid_size)
        sample = _totals(layer, basis, x.detach()[:: -(-len(x) // size)], about)
        about = sample[1 : degree + 3] / sample[0].clamp_min(1)
        chunks = x.split(size)
        again = len(chunks) > 1 and x.requires_grad and torch.is_grad_enabled()
        totals = summed(chunks, lambda part: _totals(layer, basis, part, about), again=again)
        counts, sums, products = totals.split([1, len(about), len(totals) - len(about) - 1])
        away = sums / counts.detach().clamp_min(1)
        shift = torch.stack(pair_products(list(sums), list(away)))
        ends = x.detach() if layer.extrapolation == "zero" else x.detach()[:0]
        return cls(
            share=counts[0] / len(x),
            means=(about + away).permute(1, 2, 0),
            covariances=Bands.of((products - shift) / len(x), degree),
            constant=~layer.outside(ends).any(0),
        )

    def edges(self, layer: EdgeLayer) -> tuple[Tensor, Tensor]:
        """Return mean and variance (out, in) of every edge, differentiable in weights and x."""
        weight = layer.base_weights().double()
        coef = layer.coefficients().double()
        level = (self._over_cells(coef.detach()) * self.share).sum(-1) * self.constant
        coef = coef - level.unsqueeze(-1)  # the variance does not depend on it
        height = (self.means[..., -1] * self.share).sum(-1)  # of the base
        inner = self._over_cells(coef)
        inner = inner + weight.unsqueeze(-1) * (self.means[..., -1] - height.unsqueeze(-1))
        mean = (inner * self.share).sum(-1)
        between = ((inner - mean.unsqueeze(-1)).square() * self.share).sum(-1)
        return mean + level + weight * height, between + self.covariances.form(coef, weight)

    def _over_cells(self, coef: Tensor) -> Tensor:  # (out, in, basis) -> (out, in, cell)
        """Return the mean of every spline over the rows in each cell."""
        count, n_live = self.share.shape[1], self.means.shape[2] - 1
        parts = [coef[..., r : r + count] * self.means[..., r] for r in range(n_live)]
        return torch.stack(parts).sum(0)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """Return covariances (in, basis + 1, basis + 1) and means (in, basis + 1); base last."""
        (n_in, count), n_basis = self.share.shape, self.covariances.mixed.shape[1]
        by_cell = self.means.new_zeros(n_in, count, n_basis + 1)
        places = torch.arange(count, device=by_cell.device)
        for r in range(n_basis - count + 1):
            by_cell[:, places, places + r] = self.means[..., r]
        by_cell[..., -1] = self.means[..., -1]
        share = self.share.unsqueeze(-1)
        means = (by_cell * share).sum(1)
        away = by_cell - means.unsqueeze(1)
        return self.covariances.matrix() + (away * share).mT @ away, means


def rooted(square: Tensor) -> Tensor:
    """Return the square root, with gradient 0 at 0."""
    zero = square <= 0  # NaN stays NaN
    return torch.where(zero, 0.0, torch.where(zero, 1.0, square).sqrt())


def _totals(layer: EdgeLayer, basis: LocalBasis, x: Tensor, about: Tensor) -> Tensor:
    """Sum by cell: points, deviations of the nonzero functions, and products of these."""
    x = x.double().mT.contiguous()
    cell, values = basis.evaluate(x)
    values.append(BASES[layer.base_name].value(x))
    away = [value - mean.gather(1, cell) for value, mean in zip(values, about, strict=True)]
    return added_by_cell([torch.ones_like(x), *away, *pair_products(away)], cell, layer.grid_size)


def means_and_norms(
    layer: EdgeLayer, x: Tensor, centered: bool = True, average: Average | None = None
) -> tuple[Tensor, Tensor]:
    """Return mean and L2 norm (out, in) of edges in float64; do not differentiate the mean.

    `average` maps means over x, a part of the rows, to means over all rows.
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
    """Return mean and second moment of every edge; their gradients for many rows need `slopes`."""
    count = len(x) * layer.in_features * layer.out_features
    if count <= MAX_DIRECT_VALUES:
        values = layer.edge_values(x).double()
        first = values[:1].detach()  # so that a constant edge has variance 0
        mean = (values - first).mean(0)
        away = values - first - mean.detach() if centered else values  # sums to 0: no gradient
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
    return mean_over_rows(x, lambda part: function(layer.edge_values(part).double()).sum(0), size)
