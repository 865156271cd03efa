"""The penalties that training can add to its loss: sums of norms of edges, and of their entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kanlens.checks import message
from kanlens.errors import InvalidValueError
from kanlens.model.layers import EdgeLayer, entropy
from kanlens.sparsity.bending import curvature
from kanlens.sparsity.functions import activation_l1, activation_l2
from kanlens.sparsity.weights import raw_l1, weight_l1

__all__ = ["PENALTIES", "Penalty", "penalty_value"]


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A norm that training can add up over all edges.

    Attributes
    ----------
    name : str
        Key into ``PENALTIES``.
    norm : callable
        A layer and what reaches it (batch, in), None unless `needs_inputs`, to norms (out, in).
    needs_inputs : bool
        Whether the norm is of the functions on data.
    concentrates : bool
        Whether the entropy of the norms belongs to the penalty: it favours few large edges.
    reference : str
        Where it comes from.
    """

    name: str
    norm: Callable[[Any, Any], Tensor]
    needs_inputs: bool
    concentrates: bool
    reference: str


_ALL = (
    Penalty(
        name="activation_l1",
        norm=activation_l1,
        needs_inputs=True,
        concentrates=True,
        reference="Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1",
    ),
    Penalty(
        name="activation_l2",
        norm=activation_l2,
        needs_inputs=True,
        concentrates=True,
        reference="Yuan and Lin, Model selection and estimation in regression, 2006",
    ),
    Penalty(
        name="curvature",
        norm=lambda layer, x: curvature(layer),
        needs_inputs=False,
        concentrates=False,
        reference="Reinsch, Smoothing by spline functions, 1967",
    ),
    Penalty(
        name="raw_l1",
        norm=lambda layer, x: raw_l1(layer),
        needs_inputs=False,
        concentrates=True,
        reference="efficient-kan, regularization_loss, 2024",
    ),
    Penalty(
        name="weight_l1",
        norm=lambda layer, x: weight_l1(layer),
        needs_inputs=False,
        concentrates=True,
        reference="efficient-kan's norm of the function instead of the weights",
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
) -> Tensor:
    """Return the sum over layers of the edges' norms and of their weighted entropy.

    Parameters
    ----------
    layers : sequence of EdgeLayer
        The layers of a network.
    norm : str or mapping of str to float
        Key into ``PENALTIES``, or several with their weights.
    entropy_weight : float
        Factor of the entropy of each layer's norms, which favours few large edges over many small
        ones. Curvature has none.
    inputs : sequence of Tensor, each of shape (batch, in), optional
        What reaches each layer, for norms of the functions on data. They are means over the rows,
        so that the number of rows does not enter.
    node_weights : sequence of Tensor, each of shape (out,), optional
        Factor of the norms of all edges that end in one output of a layer; curvature has none.

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    InvalidValueError
        If a norm needs inputs and there are none.

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
        raise InvalidValueError(message("penalty_value", expected, "none", advice))
    total = layers[0].bias.new_zeros(())
    for name, weight in weights.items():
        penalty = PENALTIES[name]
        for index, layer in enumerate(layers):
            norms = penalty.norm(layer, inputs[index] if inputs else None)
            if penalty.concentrates and node_weights is not None:
                norms = norms * node_weights[index].unsqueeze(1)
            total = total + weight * norms.sum()
            if penalty.concentrates and entropy_weight:
                total = total + weight * entropy_weight * entropy(norms)
    return total
