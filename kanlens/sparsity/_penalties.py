"""Penalties that training can add to its loss, and group soft-thresholding of edges.

Penalties are sums of norms of edges, and of their entropy; the threshold is the group lasso's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from kanlens._checks import check_columns, check_positive, check_rows
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model._kan_linear import EdgeLayer, entropy
from kanlens.model._spline_forward import Average, means_and_norms
from kanlens.sparsity._norms import activation_l1, activation_l2, curvature, raw_l1, weight_l1


@dataclass(frozen=True)
class Penalty:
    """A norm that training can sum over all edges.

    Attributes
    ----------
    name : str
        Key into ``PENALTIES``.
    norm : callable
        Maps a layer and its inputs (batch, in), None unless `needs_inputs`, to norms (out, in).
    reference : str
        Publication or program.
    needs_inputs : bool
        Whether the norm depends on the values of the functions on data.
    concentrates : bool
        Whether the entropy of the norms belongs to the penalty: it favors few large edges.
    """

    name: str
    norm: Callable[[Any, Any], Tensor]
    reference: str
    needs_inputs: bool = False
    concentrates: bool = True

    def over(self, layer: EdgeLayer, x: Tensor | None, average: Average | None) -> Tensor:
        """Return the norms (out, in) over all rows; `average` is over processes, None for one."""
        if average is None:
            return self.norm(layer, x)
        if self.norm is activation_l2:  # the only root of a mean
            return activation_l2(layer, cast("Tensor", x), average=average)
        return average(self.norm(layer, x))


_ALL = (
    Penalty(
        "activation_l1",
        activation_l1,
        "Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1",
        needs_inputs=True,
    ),
    Penalty(
        "activation_l2",
        activation_l2,
        "Yuan and Lin, Model selection and estimation in regression, 2006",
        needs_inputs=True,
    ),
    Penalty(
        "curvature",
        lambda layer, x: curvature(layer),
        "Reinsch, Smoothing by spline functions, 1967",
        concentrates=False,
    ),
    Penalty("raw_l1", lambda layer, x: raw_l1(layer), "efficient-kan, regularization_loss, 2024"),
    Penalty(
        "weight_l1",
        lambda layer, x: weight_l1(layer),
        "efficient-kan's norm of the function instead of the weights",
    ),
)
PENALTIES: dict[str, Penalty] = {penalty.name: penalty for penalty in _ALL}


def penalty_value(
    layers: Sequence[EdgeLayer],
    norm: str | Mapping[str, float],
    *,
    entropy_weight: float,
    inputs: Sequence[Tensor] | None = None,
    node_weights: Sequence[Tensor] | None = None,
    average: Average | None = None,
) -> Tensor:
    """Return the sum over layers of the edges' norms and of their weighted entropy.

    Parameters
    ----------
    layers : sequence of EdgeLayer
        The layers of a network.
    norm : str or mapping of str to float
        Key into ``PENALTIES``, or several with their weights.
    entropy_weight : float
        Factor of the entropy of each layer's norms, which favors few large edges over many small
        ones. Curvature has none.
    inputs : sequence of Tensor, each of shape (batch, in), optional
        Inputs of each layer, for norms of the functions on data, which are means over the rows.
    node_weights : sequence of Tensor, each of shape (out,), optional
        Factor of the norms of all edges that end in one output of a layer; curvature has none.
    average : callable, optional
        As for `activation_l2`, if `inputs` are a part of the rows.

    Raises
    ------
    InvalidValueError
        If a norm needs inputs and `inputs` is None.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1.

    Examples
    --------
    >>> from kanlens import KANLinear
    >>> penalty_value([KANLinear(1, 1)], "weight_l1", entropy_weight=0.0).item() > 0
    True
    """
    weights = {norm: 1.0} if isinstance(norm, str) else norm
    needy = [name for name in weights if PENALTIES[name].needs_inputs]
    if needy and inputs is None:
        expected, advice = f"the inputs of every layer for {needy[0]}", "Pass inputs"
        raise InvalidValueError("penalty_value", expected, "none", advice)
    total = layers[0].bias.new_zeros(())
    for name, weight in weights.items():
        penalty = PENALTIES[name]
        for index, layer in enumerate(layers):
            norms = penalty.over(layer, inputs[index] if inputs else None, average)
            if penalty.concentrates and node_weights is not None:
                norms = norms * node_weights[index].unsqueeze(1)
            total = total + weight * norms.sum()
            if penalty.concentrates and entropy_weight:
                total = total + weight * entropy_weight * entropy(norms)
    return total


@torch.no_grad()
def prox_group(
    layer: EdgeLayer, x: Tensor, strength: float, *, centered: bool = True
) -> Tensor:  # (out, in)
    """Group soft-thresholding of every edge by `strength`, in place.

    With w the weights of an edge (coefficients and base together) and G the covariances (if not
    `centered`, second moments) of its basis, the norm is ||w||_G = sqrt(w' G w), and
    v = max(0, 1 - strength / ||w||_G) * w the minimizer [1]_ of
    ``1/2 ||v - w||_G^2 + strength * ||v||_G``. After a gradient step in the same metric, this is a
    step of proximal gradient descent [2]_. With the centered norm, the mean of the removed part is
    added to the bias of the sum.

    Parameters
    ----------
    layer : EdgeLayer
        A layer of splines; weights of unmasked edges and biases of their sums change. An edge that
        becomes zero keeps its `spline_scaler`, so that a gradient can bring it back.
    x
        As for `activation_l1`, which raises the same errors.
    strength : float
        Threshold in the units of the norm: the step size times the factor of the penalty.
    centered : bool
        Whether the norm is the standard deviation, else sqrt(mean(phi^2)).

    Returns
    -------
    Tensor, shape (out, in)
        Factor ``max(0, 1 - strength / ||w||_G)`` applied to each edge; 1 for masked edges.

    Raises
    ------
    MethodError
        If some edges of the layer are not splines.
    InvalidValueError
        If `strength` is negative or not finite.

    References
    ----------
    .. [1] M. Yuan and Y. Lin, Model selection and estimation in regression with grouped
       variables, 2006.
    .. [2] N. Parikh and S. Boyd, Proximal Algorithms, 2014, section 6.5.

    Examples
    --------
    >>> from kanlens import KANLinear
    >>> layer, x = KANLinear(3, 2), torch.rand(50, 3)
    >>> bool((prox_group(layer, x, 100.0) == 0).all()), bool(layer.spline_weight.any())
    (True, False)
    """
    if not layer.splines_alone:
        got, advice = f"one of kind {layer.edge_kind!r}", "Train it without a proximal step"
        raise MethodError("prox_group", "a layer of splines", got, advice)
    check_columns("prox_group", x, layer.in_features)
    check_rows("prox_group", x)
    check_positive("prox_group", "strength", strength, zero=True)
    mean, norm = means_and_norms(layer, x, centered)
    return shrink(layer, mean if centered else torch.zeros_like(mean), norm, strength)


@torch.no_grad()
def shrink(layer: EdgeLayer, mean: Tensor, norm: Tensor, strength: float | Tensor) -> Tensor:
    """Soft-threshold edges, moving the removed means to the bias; return factors (out, in)."""
    left = (norm - strength).clamp_min(0)
    taken = torch.as_tensor(strength, device=norm.device) > 0
    factor = torch.where(left > 0, left / norm, torch.where(taken, 0.0, 1.0).to(norm))
    factor = torch.where(layer.mask != 0, factor, 1.0)
    layer.bias.add_(((1 - factor) * mean).sum(1).to(layer.bias))
    scale = factor.to(layer.mask)
    layer.spline_weight.mul_(scale.unsqueeze(-1))
    layer.base_weight.mul_(scale)
    return scale
