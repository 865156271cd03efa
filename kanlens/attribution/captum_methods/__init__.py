"""Captum's methods, each run so that its known traps cannot spring.

The model is one output of one number per row, in float64; baselines are given; random methods
borrow torch's and numpy's random states and give them back; warnings about what is handled here
are not shown.
"""

from kanlens.attribution.captum_methods.adapter import REPEATS
from kanlens.attribution.captum_methods.deep_lift import captum_deep_lift, captum_deep_lift_shap
from kanlens.attribution.captum_methods.fits import captum_kernel_shap, captum_lime
from kanlens.attribution.captum_methods.gradients import (
    captum_gradient_shap,
    captum_input_x_gradient,
    captum_integrated_gradients,
    captum_noise_tunnel,
    captum_saliency,
)
from kanlens.attribution.captum_methods.nodes import (
    captum_internal_influence,
    captum_layer_activation,
    captum_layer_conductance,
    captum_layer_deep_lift,
    captum_layer_gradient_x_activation,
    captum_layer_integrated_gradients,
)
from kanlens.attribution.captum_methods.orders import (
    captum_shapley_value_sampling,
    captum_shapley_values,
)
from kanlens.attribution.captum_methods.perturbation import (
    captum_feature_ablation,
    captum_feature_permutation,
    captum_occlusion,
)

__all__ = [
    "REPEATS",
    "captum_deep_lift",
    "captum_deep_lift_shap",
    "captum_feature_ablation",
    "captum_feature_permutation",
    "captum_gradient_shap",
    "captum_input_x_gradient",
    "captum_integrated_gradients",
    "captum_internal_influence",
    "captum_kernel_shap",
    "captum_layer_activation",
    "captum_layer_conductance",
    "captum_layer_deep_lift",
    "captum_layer_gradient_x_activation",
    "captum_layer_integrated_gradients",
    "captum_lime",
    "captum_noise_tunnel",
    "captum_occlusion",
    "captum_saliency",
    "captum_shapley_value_sampling",
    "captum_shapley_values",
]
