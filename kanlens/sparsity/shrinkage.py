"""The proximal step of the group lasso on edges: what is small becomes exactly zero."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.checks import check_columns, check_positive, check_rows, message
from kanlens.errors import MethodError
from kanlens.model.layers import EdgeLayer, KANLinear
from kanlens.sparsity.functions import made_of_splines, means_and_norms

__all__ = ["prox_group"]


@torch.no_grad()
def prox_group(
    layer: EdgeLayer, x: Tensor, strength: float, *, centered: bool = True
) -> Tensor:  # (out, in)
    """Take `strength` off the L2 norm of every edge, in place; what is below becomes zero.

    With w the weights of an edge (coefficients and base together) and G the covariances of its
    basis, the norm is ||w||_G = sqrt(w' G w), and this is the minimiser [1]_ of

        1/2 ||v - w||_G^2 + strength * ||v||_G   over v.

    For a given norm of v the distance is least along w, so v = s * w, and s is the minimiser of
    1/2 (1 - s)^2 ||w||_G^2 + strength * s * ||w||_G: s = max(0, 1 - strength / ||w||_G). It scales
    the function, whatever its knots, scaler or scale. Followed after a gradient step in the same
    metric, it is a step of proximal gradient descent.

    Of the centred norm, which does not see constants, the mean of what is taken off is added to
    the bias of the node, so that only the varying part of the function is lost.

    Parameters
    ----------
    layer : EdgeLayer
        A layer of splines; `spline_weight`, `base_weight` and `bias` change. An edge that becomes
        zero keeps its scaler, so that a gradient can bring it back. Masked edges stay as they are.
    x : Tensor, shape (batch, in)
        What reaches the layer, in its scaled units.
    strength : float
        What is taken off, in the units of the norm: the step size times the factor of the penalty.
    centered : bool
        Whether the norm is the standard deviation, else sqrt(mean(phi^2)).

    Returns
    -------
    Tensor, shape (out, in)
        The factor s of every edge.

    Raises
    ------
    MethodError
        If some edges of the layer are no splines.
    ShapeError
        If `x` has no rows, or another number of columns.
    InvalidValueError
        If `strength` is negative or not finite.

    References
    ----------
    .. [1] M. Yuan and Y. Lin, Model selection and estimation in regression with grouped
       variables, 2006.
    .. [2] N. Parikh and S. Boyd, Proximal Algorithms, 2014, section 6.5.

    Examples
    --------
    >>> layer, x = KANLinear(3, 2), torch.rand(50, 3)
    >>> bool((prox_group(layer, x, 100.0) == 0).all()), bool(layer.spline_weight.any())
    (True, False)
    """
    if not made_of_splines(layer):
        got, advice = type(layer).__name__, "Train it without a proximal step"
        raise MethodError(message("prox_group", "a layer of splines", got, advice))
    check_columns("prox_group", x, layer.in_features)
    check_rows("prox_group", x)
    check_positive("prox_group", "strength", strength, zero=True)
    mean, norm = means_and_norms(layer, x, centered)
    return shrink(layer, mean if centered else torch.zeros_like(mean), norm, strength)


@torch.no_grad()
def shrink(layer: KANLinear, mean: Tensor, norm: Tensor, strength: float | Tensor) -> Tensor:
    """Take `strength` off edges of known norms (out, in); the bias keeps their means (out, in).

    Returns
    -------
    Tensor, shape (out, in)
        The factor of every edge.
    """
    left = (norm - strength).clamp_min(0)
    taken = torch.as_tensor(strength, device=norm.device) > 0
    factor = torch.where(left > 0, left / norm, torch.where(taken, 0.0, 1.0).to(norm))
    factor = torch.where(layer.mask != 0, factor, 1.0)
    layer.bias.add_(((1 - factor) * mean).sum(1).to(layer.bias))
    scale = factor.to(layer.mask)
    layer.spline_weight.mul_(scale.unsqueeze(-1))
    layer.base_weight.mul_(scale)
    return scale
