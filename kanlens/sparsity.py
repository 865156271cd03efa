"""Norms of edges and the penalties made of them.

Weights and functions are in the scaled units of the layer; every norm is differentiable in the
weights and has shape (out, in).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.core.layers import EdgeLayer, KANLinear, entropy

__all__ = ["PENALTIES", "entropy", "penalty_value", "raw_l1", "weight_l1"]


def weight_l1(layer: EdgeLayer, x: Tensor | None = None) -> Tensor:  # (out, in)
    """Return the L1 norm of each edge's weights, free of how the edge is written.

    For a spline edge it is mean_k |coefficient_k - c| + |base_weight|, with the scaler multiplied
    into the coefficients and c the mean of the edge. The same function split differently
    between weight and scaler, or a constant moved from one edge of a node to another, leaves it as
    it is; efficient-kan's norm (`raw_l1`) changes by any factor.

    Parameters
    ----------
    layer : EdgeLayer
        The layer.
    x : Tensor, shape (batch, in), optional
        Where the mean is taken, in the scaled units of the layer. Without it the mean is taken
        over the stored quantiles of the training data, else evenly over the grid.

    Returns
    -------
    Tensor, shape (out, in)

    Examples
    --------
    >>> weight_l1(KANLinear(3, 2)).shape
    torch.Size([2, 3])
    """
    return layer.weight_l1(x)


def raw_l1(layer: KANLinear) -> Tensor:  # (out, in)
    """Return efficient-kan's norm, mean_k |spline_weight_k|: no base, no scaler, no gauge.

    It belongs to the weights, not to the function; it is here for comparison.

    Examples
    --------
    >>> raw_l1(KANLinear(3, 2)).shape
    torch.Size([2, 3])
    """
    return layer.spline_weight.abs().mean(-1) * layer.mask


PENALTIES: dict[str, Callable[[EdgeLayer], Tensor]] = {"weight_l1": weight_l1}


def penalty_value(
    layers: list[EdgeLayer] | tuple[EdgeLayer, ...], norm: str, *, entropy_weight: float
) -> Tensor:
    """Return the sum over layers of the edges' norms and of their weighted entropy.

    Parameters
    ----------
    layers : sequence of EdgeLayer
        The layers of a network.
    norm : str
        Key into ``PENALTIES``.
    entropy_weight : float
        Factor of the entropy of each layer's norms, which favours few large edges over many small
        ones.

    Returns
    -------
    Tensor, shape ()

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1.

    Examples
    --------
    >>> penalty_value([KANLinear(1, 1)], "weight_l1", entropy_weight=0.0).item() > 0
    True
    """
    norms = [PENALTIES[norm](layer) for layer in layers]
    return torch.stack([each.sum() + entropy_weight * entropy(each) for each in norms]).sum()
