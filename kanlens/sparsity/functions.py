"""Norms of edges as functions on data: the paper's L1, and the L2 norm of what varies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kanlens.model.layers import EdgeLayer, KANLinear
from kanlens.sparsity.arguments import check_rows_of
from kanlens.sparsity.moments import Moments, rooted

__all__ = ["activation_l1", "activation_l2", "made_of_splines", "means_and_norms"]

CHUNK = 2**20  # edge values held at once
SMALL = 2**16  # edge values up to which computing them is faster than the moments of the basis


def activation_l1(layer: EdgeLayer, x: Tensor) -> Tensor:  # (out, in)
    """Return the mean over the rows of ``|phi_oi(x_i)|``: the penalty of the paper [1]_, exact.

    A layer that has a method of this name answers by it. For all others the edges' values are
    computed a few rows at a time, for the gradient once more, so that memory does not grow with
    the batch.

    Parameters
    ----------
    layer : EdgeLayer
        The layer.
    x : Tensor, shape (batch, in)
        What reaches the layer, in its scaled units.

    Returns
    -------
    Tensor, shape (out, in)
        Differentiable in the weights and in `x`.

    Raises
    ------
    ShapeError
        If `x` has no rows, or another number of columns.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1.

    Examples
    --------
    >>> activation_l1(KANLinear(3, 2), torch.rand(10, 3)).shape
    torch.Size([2, 3])
    """
    check_rows_of("activation_l1", layer, x)
    own = getattr(layer, "activation_l1", None)
    if own is not None:
        return cast("Tensor", own(x))
    return _mean(layer, x, torch.abs).to(x.dtype)


def activation_l2(layer: EdgeLayer, x: Tensor, centered: bool = True) -> Tensor:  # (out, in)
    """Return the L2 norm of every edge over the rows: the standard deviation of phi_oi(x_i).

    For splines it is a quadratic form of the weights in the covariances of the basis, of which
    only degree + 1 functions live at a point, so that neither time nor memory knows the (batch,
    out, in) tensor (a small one is built where that is faster). It is exact also where an edge
    varies far less than it is high.

    Parameters
    ----------
    layer : EdgeLayer
        The layer.
    x : Tensor, shape (batch, in)
        What reaches the layer, in its scaled units.
    centered : bool
        Whether the mean of the edge is subtracted, as a constant belongs to the node and to no
        edge. Without, the norm is sqrt(mean(phi^2)).

    Returns
    -------
    Tensor, shape (out, in)
        Differentiable in the weights and in `x`; the gradient of an edge that is zero is zero.

    Raises
    ------
    ShapeError
        If `x` has no rows, or another number of columns.

    Examples
    --------
    >>> layer, x = KANLinear(3, 2), torch.rand(50, 3)
    >>> torch.allclose(activation_l2(layer, x), layer.edge_values(x).std(0, correction=0))
    True
    """
    check_rows_of("activation_l2", layer, x)
    return means_and_norms(layer, x, centered)[1].to(x.dtype)


def means_and_norms(layer: EdgeLayer, x: Tensor, centered: bool) -> tuple[Tensor, Tensor]:
    """Return mean and L2 norm of every edge, in float64; only the norm is differentiable in full.

    Examples
    --------
    >>> mean, norm = means_and_norms(KANLinear(3, 2), torch.rand(50, 3), True)
    >>> mean.shape == norm.shape == (2, 3)
    True
    """
    count = len(x) * layer.in_features * layer.out_features
    if count <= SMALL:
        values = layer.edge_values(x).double()
        first = values[:1].detach()  # so that an edge without variation has none by rounding
        mean = (values - first).mean(0)
        away = values - first - mean.detach() if centered else values  # its sum: no gradient
        return first[0] + mean, rooted(away.square().mean(0))
    if made_of_splines(layer):
        mean, variance = Moments.over(layer, x).edges(layer)
        return mean, rooted(variance if centered else variance + mean.square())
    with torch.no_grad():
        first = layer.edge_values(x[:1]).double()
        mean = first[0] + _mean(layer, x, lambda values: values - first)
    start = mean if centered else torch.zeros_like(mean)
    return mean, rooted(_mean(layer, x, lambda values: (values - start).square()))


def made_of_splines(layer: EdgeLayer) -> TypeGuard[KANLinear]:
    """Tell whether every edge of a layer is a spline and a base function, and nothing else.

    Examples
    --------
    >>> made_of_splines(KANLinear(1, 1))
    True
    """
    return getattr(type(layer), "edge_values", None) is KANLinear.edge_values


def _mean(layer: EdgeLayer, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean over the rows of a function of every edge's value, added up in float64."""

    def total(part: Tensor) -> Tensor:
        return function(layer.edge_values(part).double()).sum(0)

    size = max(1, CHUNK // (layer.in_features * layer.out_features))
    parts = x.split(size)
    again = torch.is_grad_enabled() and len(parts) > 1
    sums: Any = 0
    for part in parts:
        if again:
            sums = sums + checkpoint(total, part, use_reentrant=False, preserve_rng_state=False)
        else:
            sums = sums + total(part)
    return cast("Tensor", sums / len(x))
