"""Cached means of a layer's basis over reference points; valid until the grid changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kanlens.functions._catalog import BASES
from kanlens.model._spline_forward import mean_over_rows
from kanlens.splines import _spline as spline

if TYPE_CHECKING:
    from kanlens.model._edge_layer import EdgeLayer


Means: TypeAlias = "tuple[Tensor, Tensor]"  # of a basis (in, basis), and of its base (in,)

# By layer: the means, and the grid and the state of the layer that they are valid for.
_cache: WeakKeyDictionary[nn.Module, tuple[Means, Tensor, tuple[object, ...]]]
_cache = WeakKeyDictionary()


def basis_means(layer: EdgeLayer, x: Tensor) -> Means:
    """Return the means of the basis (in, basis) and of the base function (in,) over x."""
    knots, degree, base = layer.grid, layer.spline_order, BASES[layer.base_name]

    def values(part: Tensor) -> Tensor:
        basis = spline.basis(part, knots, degree, extrapolation=layer.extrapolation)
        return torch.cat([basis, base.value(part).unsqueeze(-1)], dim=-1).double()

    means = mean_over_rows(x, values, knots.numel()).to(x.dtype)
    return means[..., :-1], means[..., -1]


def known_means(layer: EdgeLayer) -> Means:
    """Return the means over the places of a layer; a training step changes weights alone."""
    grid = layer.grid
    if grid.requires_grad or torch.is_inference_mode_enabled() or _recorded(grid):
        return basis_means(layer, layer.places())
    options = layer.spline_order, layer.extrapolation, layer.base_name, grid.dtype, grid.device
    cached, state = _cache.get(layer), (layer.statistics, *options)
    if cached is None or cached[2] != state or not torch.equal(cached[1], grid):
        cached = basis_means(layer, layer.places()), grid.clone(), state
        _cache[layer] = cached
    return cached[0]


def _recorded(grid: Tensor) -> bool:
    """Return whether torch is tracing, compiling or transforming: caching is unsafe then."""
    return (
        type(grid) is not Tensor
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_functorch_wrapped_tensor(grid)
        or torch.utils._python_dispatch._get_current_dispatch_mode() is not None
        or torch.is_autocast_enabled("cpu")
    )
