"""The table of all methods, for the command line, tests, benchmarks and the report."""

from __future__ import annotations

from kanlens.attribution._additive import additive
from kanlens.attribution._deeplift_gradients import gradient, gradient_x_input, secant
from kanlens.attribution._feature_scores import edge_std, pykan, sobol_first, sobol_total, weight_l1
from kanlens.attribution._method import Method, methods_of
from kanlens.attribution.captum_methods._table import CAPTUM_METHODS
from kanlens.attribution.integration._integrated_gradients import integrated_gradients
from kanlens.attribution.shapley._values import interactions, shapley

__all__ = ["METHODS", "REFUSED", "Method"]

METHODS: dict[str, Method] = {
    **methods_of(shapley, interactions, additive, integrated_gradients),
    **methods_of(secant, gradient, gradient_x_input),
    **CAPTUM_METHODS,
    **methods_of(sobol_first, sobol_total, pykan, weight_l1, edge_std),
}

# Captum's methods that return a plain gradient on a KAN, or have no rule for its edges or places.
_REFUSED = {
    "captum": "guided_backprop deconvolution lrp layer_lrp layer_grad_cam guided_grad_cam",
    "captum_neuron": "guided_backprop deconvolution deep_lift deep_lift_shap conductance gradient "
    "integrated_gradients gradient_shap feature_ablation",
}
REFUSED = frozenset(f"{kind}_{name}" for kind, names in _REFUSED.items() for name in names.split())
