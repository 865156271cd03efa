"""Norms of edges computed from their weights, without data."""

from __future__ import annotations

from torch import Tensor

from kanlens.model.layers import EdgeLayer, KANLinear
from kanlens.sparsity.arguments import check_layer

__all__ = ["raw_l1", "weight_l1"]


def weight_l1(layer: EdgeLayer, x: Tensor | None = None) -> Tensor:  # (out, in)
    """Return the L1 norm of each edge's weights, free of how the edge is written.

    For a spline edge it is ``mean_k |coefficient_k - c| + |base_weight|``, with the scaler
    multiplied into the coefficients and c the mean of the edge; a base that is a straight line
    counts in the coefficients, which can write it, and a base of zero not at all. The same function
    split differently between weight and scaler or between a straight base and the spline, or a
    constant moved from one edge of a node to another, leaves it as it is; efficient-kan's norm
    (`raw_l1`) changes by any factor.

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
    check_layer("weight_l1", layer, "weight_l1")
    return layer.weight_l1(x)


def raw_l1(layer: KANLinear) -> Tensor:  # (out, in)
    """Return efficient-kan's norm, ``mean_k |spline_weight_k|``: no base, no scaler, no gauge.

    It belongs to the weights, not to the function; it is here for comparison. efficient-kan's
    whole penalty is its sum plus its `entropy`.

    Examples
    --------
    >>> raw_l1(KANLinear(3, 2)).shape
    torch.Size([2, 3])
    """
    check_layer("raw_l1", layer, "spline_weight")
    return layer.spline_weight.abs().mean(-1) * layer.mask
