"""Norms of edges, penalties made of them, and group soft-thresholding of edges.

Weights and functions are in the scaled units of the layer. Every norm has shape (out, in), is zero
for a masked edge, and is differentiable in the weights, those of activations also in x; where an
edge is zero, and the norm has a corner, its gradient there is zero.
"""

from kanlens.model.layers import entropy
from kanlens.sparsity.norms import activation_l1, activation_l2, curvature, raw_l1, weight_l1
from kanlens.sparsity.penalties import PENALTIES, Penalty, penalty_value, prox_group

__all__ = [
    "PENALTIES",
    "Penalty",
    "activation_l1",
    "activation_l2",
    "curvature",
    "entropy",
    "penalty_value",
    "prox_group",
    "raw_l1",
    "weight_l1",
]
