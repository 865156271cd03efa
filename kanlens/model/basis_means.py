"""Means of a layer's basis where it has none of its own rows: constant while its grid stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kanlens.functions.catalog import BASES
from kanlens.model.edge_sum import CHUNK, summed
from kanlens.splines import spline

if TYPE_CHECKING:
    from kanlens.model.edge_layer import EdgeLayer
    from kanlens.model.statistics import LayerStatistics


class BasisMeans(NamedTuple):
    """Means over some places of every function of a basis, and what they were worked out for."""

    splines: Tensor  # (in, basis)
    base: Tensor  # (in,)
    grid: Tensor
    statistics: LayerStatistics | None
    options: tuple[object, ...]


_known: WeakKeyDictionary[nn.Module, BasisMeans] = WeakKeyDictionary()


def basis_means(layer: EdgeLayer, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of the basis (in, basis) and of the base function (in,) over x."""
    knots, degree, base = layer.grid, layer.spline_order, BASES[layer.base_name]

    def total(part: Tensor) -> Tensor:
        basis = spline.basis(part, knots, degree, extrapolation=layer.extrapolation)
        found = [one.sum(0, dtype=torch.float64) for one in (basis, base.value(part).unsqueeze(-1))]
        return torch.cat(found, dim=-1)

    parts = x.split(max(1, CHUNK // knots.numel()))
    again = len(parts) > 1 and torch.is_grad_enabled()
    means = (summed(parts, total, again=again) / len(x)).to(x.dtype)
    return means[..., :-1], means[..., -1]


def known_means(layer: EdgeLayer) -> tuple[Tensor, Tensor]:
    """Return the means over the places of a layer; a step of training moves weights alone."""
    grid, statistics = layer.grid, layer.statistics
    if grid.requires_grad or torch.is_inference_mode_enabled() or _recorded(grid):
        return basis_means(layer, layer.places())
    options = layer.spline_order, layer.extrapolation, layer.base_name, grid.dtype, grid.device
    known = _known.get(layer)
    if (
        known is None
        or known.statistics is not statistics
        or known.options != options
        or not torch.equal(known.grid, grid)
    ):
        means = basis_means(layer, layer.places())
        known = BasisMeans(*means, grid.clone(), statistics, options)
        _known[layer] = known
    return known.splines, known.base


def _recorded(grid: Tensor) -> bool:
    """Tell whether torch records or changes operations, of which none may be left out."""
    return (
        type(grid) is not Tensor
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.is_functorch_wrapped_tensor(grid)
        or torch.utils._python_dispatch._get_current_dispatch_mode() is not None
        or torch.is_autocast_enabled("cpu")
    )
