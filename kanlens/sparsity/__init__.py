"""Norms of edges (out, in), penalties based on them, and group soft-thresholding of edges."""

from kanlens.model._kan_linear import entropy
from kanlens.sparsity._norms import activation_l1, activation_l2, curvature, raw_l1, weight_l1
from kanlens.sparsity._penalties import PENALTIES, Penalty, penalty_value, prox_group

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
