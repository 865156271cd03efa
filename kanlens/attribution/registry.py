"""The methods there are. Command line, tests, benchmarks and the report read this table."""

from __future__ import annotations

from kanlens.attribution.additive import additive
from kanlens.attribution.captum_methods.table import CAPTUM_METHODS
from kanlens.attribution.deeplift_gradients import gradient, gradient_x_input, secant
from kanlens.attribution.feature_scores import edge_std, pykan, sobol_first, sobol_total, weight_l1
from kanlens.attribution.integration.gradients import integrated_gradients
from kanlens.attribution.method import Method, methods_of
from kanlens.attribution.shapley.values import interactions, shapley

__all__ = ["METHODS", "REFUSED", "Method"]

METHODS: dict[str, Method] = {
    **methods_of(shapley, interactions, additive, integrated_gradients),
    **methods_of(secant, gradient, gradient_x_input),
    **CAPTUM_METHODS,
    **methods_of(sobol_first, sobol_total, pykan, weight_l1, edge_std),
}

_NO_RULE = "Captum has no rule for SiLU, nor for the edges of a KAN"
_PLAIN = "Captum returns the plain gradient of a model without ReLU"
_PLAIN_NODE = "Captum returns the plain gradient of the node in a model without ReLU"
_CAM = "Captum averages over the places of an image, and a level of a KAN has none: "
_ONE_NODE = "It explains a node, not an output; take the edges in front of the node from trace"
_NO_EDGE = (
    "Captum knows no edge of a KAN and returns the node's gradient times x - b, without a word"
)

REFUSED = {
    "captum_guided_backprop": _PLAIN,
    "captum_deconvolution": _PLAIN,
    "captum_lrp": _NO_RULE,
    "captum_layer_lrp": _NO_RULE,
    "captum_layer_grad_cam": _CAM + "it returns one number for all nodes",
    "captum_guided_grad_cam": _CAM + "it returns no numbers at all",
    "captum_neuron_guided_backprop": _PLAIN_NODE,
    "captum_neuron_deconvolution": _PLAIN_NODE,
    "captum_neuron_deep_lift": _NO_EDGE,
    "captum_neuron_deep_lift_shap": _NO_EDGE,
    "captum_neuron_conductance": (
        "Captum's default quadrature loses 1/n of the value with n steps; for a whole level, "
        "method='captum_layer_conductance' does not"
    ),
    "captum_neuron_gradient": _ONE_NODE,
    "captum_neuron_integrated_gradients": _ONE_NODE,
    "captum_neuron_gradient_shap": _ONE_NODE,
    "captum_neuron_feature_ablation": _ONE_NODE,
}
