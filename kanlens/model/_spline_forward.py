"""A spline layer and the norms of its edges in torch operations, differentiable to any order.

Means of the basis over reference points are kept; they are valid until the grid changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kanlens.functions._catalog import BASES
from kanlens.model.kernels._choice import recorded
from kanlens.splines import _spline as spline
from kanlens.splines._spline import Extrapolation

if TYPE_CHECKING:
    from kanlens.model._edge_layer import EdgeLayer

CHUNK = 2**20  # values of edges, or of their bases, held at once
FINE, SPARSE = 64, 2**13  # functions of an input, and values of all, from which only the nonzero
# ones are evaluated: 1.2 to 60 times faster

# By layer: means over its places, and the grid and the state of the layer they are valid for.
_means: WeakKeyDictionary[nn.Module, tuple[Tensor, Tensor, tuple[object, ...]]]
_means = WeakKeyDictionary()


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
    if _is_sparse(x, coef, degree):
        y = y + spline.local_sums(inside, coef, grid, degree)
    else:
        y = y + F.linear(spline.basis(inside, grid, degree).flatten(1), coef.flatten(1))
    below, above = spline.end_slopes(grid, degree)  # (in, basis) each
    beyond = x - inside
    y = y + F.linear(beyond.clamp(max=0), (coef * below).sum(-1))
    return y + F.linear(beyond.clamp(min=0), (coef * above).sum(-1))


def _is_sparse(x: Tensor, coef: Tensor, degree: int) -> bool:
    """Return whether evaluation of the nonzero basis functions alone is faster."""
    n_out, _, n_basis = coef.shape
    fine = n_basis >= FINE and (degree + 1) * n_out <= n_basis
    return fine and not torch.compiler.is_compiling() and len(x) * n_basis >= SPARSE


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
    """Return the mean over the rows of a function that needs `size` numbers per row.

    Rows are processed in chunks, with `again` recomputed for the gradient, so that memory does not
    grow with the batch.
    """
    parts = x.split(max(1, CHUNK // size))
    again = again and len(parts) > 1 and torch.is_grad_enabled()
    return summed(parts, function, again=again) / len(x)


def summed(
    chunks: Sequence[Tensor], function: Callable[[Tensor], Tensor], *, again: bool
) -> Tensor:
    """Return the sum of a function over chunks, recomputed for gradients with `again`."""
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
