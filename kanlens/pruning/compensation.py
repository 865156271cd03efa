"""What the edges that are left at a node can make up for when one of them goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.model.function_layer import SPLINE, FunctionLinear
from kanlens.model.layers import KANLinear
from kanlens.model.statistics import LayerStatistics

__all__ = ["factors_for", "scale_edges"]

RIDGE = 1e-3  # of edges in units of their deviation: what two that are alike share between them
FLAT = 1e-6  # share of the largest deviation below which an edge is not used


def factors_for(lost: Tensor, left: Tensor) -> Tensor:  # (n,)
    """Return what edges are multiplied with, so that they make up for one that went.

    The factors minimise the mean square of what is lost, with a small ridge towards 1 that counts
    every edge in units of its own deviation. Means do not count: a bias takes them.

    Parameters
    ----------
    lost : Tensor, shape (batch,)
        Values of the edge that went.
    left : Tensor, shape (batch, n)
        Those of the edges that are left.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    >>> factors_for(x, torch.stack([2 * x, x**2], dim=1)).round(decimals=2)
    tensor([1.5000, 1.0000], dtype=torch.float64)
    """
    target = (lost - lost.mean()).double()
    moves = (left - left.mean(0)).double()
    sizes = moves.square().mean(0).sqrt()
    usable = sizes > FLAT * torch.maximum(sizes.amax(), target.square().mean().sqrt())
    factors = torch.ones_like(sizes)
    if not bool(usable.any()):
        return factors.to(left)
    units = moves[:, usable] / sizes[usable]
    gram = units.mT @ units / len(units)
    right = units.mT @ target / len(units)
    ridge = RIDGE * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factors[usable] += torch.linalg.solve(gram + ridge, right) / sizes[usable]
    return factors.to(left)


@torch.no_grad()
def scale_edges(layer: KANLinear, out: int, factors: Tensor) -> Callable[[], None]:
    """Multiply the edges of one sum of a layer in place, with what the layer remembers of them.

    Parameters
    ----------
    layer : KANLinear
        Changed.
    out : int
        The sum.
    factors : Tensor, shape (in,)
        One per edge.

    Returns
    -------
    callable
        Takes it back, bit for bit.

    Examples
    --------
    >>> layer, x = KANLinear(2, 1), torch.rand(4, 2)
    >>> before = layer(x).detach()
    >>> undo = scale_edges(layer, 0, torch.tensor([2.0, 2.0]))
    >>> torch.allclose(layer(x), 2 * before)
    True
    """
    tensors = _tensors(layer)
    kept = [tensor[out].clone() for tensor in tensors]
    statistics = layer.statistics
    spline = layer.spline_scaler if layer.enable_standalone_scale_spline else layer.spline_weight
    spline[out] *= factors if layer.enable_standalone_scale_spline else factors[:, None]
    layer.base_weight[out] *= factors
    if isinstance(layer, FunctionLinear):
        named = torch.tensor([name != SPLINE for name in layer.functions[out]]).to(factors.device)
        layer.affine[out, :, 2:] *= torch.where(named, factors, 1.0)[:, None]
    if statistics is not None:
        layer.statistics = _scaled(statistics, out, factors.detach().cpu())

    def take_back() -> None:
        with torch.no_grad():
            for tensor, row in zip(tensors, kept, strict=True):
                tensor[out] = row
        layer.statistics = statistics

    return take_back


def _scaled(statistics: LayerStatistics, out: int, factors: Tensor) -> LayerStatistics:
    """Return the statistics of a layer whose edges of one sum are multiplied."""
    mean, std = statistics.edge_mean.clone(), statistics.edge_std.clone()
    mean[out] *= factors
    std[out] *= factors.abs()
    return dataclasses.replace(statistics, edge_mean=mean, edge_std=std)


def _tensors(layer: KANLinear) -> list[Tensor]:
    """Return the tensors that hold the size of a layer's edges."""
    found: list[Tensor] = [layer.base_weight]
    own = layer.enable_standalone_scale_spline
    found.append(layer.spline_scaler if own else layer.spline_weight)
    if isinstance(layer, FunctionLinear):
        found.append(layer.affine)
    return found
