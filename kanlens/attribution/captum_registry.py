"""Captum's methods for the table, and those of them that are refused, each with its reason."""

from __future__ import annotations

from kanlens.attribution import captum_methods
from kanlens.attribution.method import Method

_IG = "M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017"
_SHAP = "S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017"
_SALIENCY = (
    "K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks: Visualising Image "
    "Classification Models and Saliency Maps, 2014"
)
_NOT_JUST = (
    "A. Shrikumar et al., Not Just a Black Box: Learning Important Features Through Propagating "
    "Activation Differences, 2016"
)
_SHRIKUMAR = (
    "A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating "
    "Activation Differences, 2017"
)
_SMOOTHGRAD = "D. Smilkov et al., SmoothGrad: removing noise by adding noise, 2017"
_CASTRO = (
    "J. Castro, D. Gomez, J. Tejada, Polynomial calculation of the Shapley value based on "
    "sampling, 2009"
)
_LIME = (
    "M. Ribeiro, S. Singh, C. Guestrin, Why Should I Trust You? Explaining the Predictions of Any "
    "Classifier, 2016"
)
_ZEILER = "M. Zeiler, R. Fergus, Visualizing and Understanding Convolutional Networks, 2014"
_PERMUTATION = (
    "L. Breiman, Random Forests, 2001; A. Fisher, C. Rudin, F. Dominici, All Models are Wrong, but "
    "Many are Useful, 2019"
)
_CAPTUM = (
    "N. Kokhlikyan et al., Captum: A unified and generic model interpretability library for "
    "PyTorch, 2020"
)
_CONDUCTANCE = "K. Dhamdhere, M. Sundararajan, Q. Yan, How Important Is a Neuron?, 2019"
_INFLUENCE = (
    "K. Leino et al., Influence-Directed Explanations for Deep Convolutional Networks, 2018"
)

CAPTUM_METHODS = (
    Method(
        name="captum_integrated_gradients",
        function=captum_methods.captum_integrated_gradients,
        scope="local",
        exact=False,
        complete=True,
        needs_background=True,
        reference=_IG,
        summary="Gradients along the line from each background row, by quadrature",
    ),
    Method(
        name="captum_gradient_shap",
        function=captum_methods.captum_gradient_shap,
        scope="local",
        exact=False,
        complete=False,
        needs_background=True,
        random=True,
        reference=_SHAP,
        summary="Gradients at random points between sample and background; complete on average",
    ),
    Method(
        name="captum_saliency",
        function=captum_methods.captum_saliency,
        scope="local",
        exact=True,
        complete=False,
        needs_background=False,
        reference=_SALIENCY,
        summary="Size of the gradient, which shares out nothing",
    ),
    Method(
        name="captum_input_x_gradient",
        function=captum_methods.captum_input_x_gradient,
        scope="local",
        exact=True,
        complete=False,
        needs_background=False,
        reference=_NOT_JUST,
        summary="Input times gradient, counted from zero",
    ),
    Method(
        name="captum_noise_tunnel",
        function=captum_methods.captum_noise_tunnel,
        scope="local",
        exact=False,
        complete=False,
        needs_background=True,
        random=True,
        reference=_SMOOTHGRAD,
        summary="Saliency, or what option `of` names, averaged under noise",
    ),
    Method(
        name="captum_deep_lift",
        function=captum_methods.captum_deep_lift,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=_SHRIKUMAR,
        summary="Captum's DeepLift on the edge view of the model",
    ),
    Method(
        name="captum_deep_lift_shap",
        function=captum_methods.captum_deep_lift_shap,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=_SHAP,
        summary="Captum's DeepLiftShap on the edge view of the model",
    ),
    Method(
        name="captum_shapley_values",
        function=captum_methods.captum_shapley_values,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference="L. Shapley, A value for n-person games, 1953",
        summary="Shapley values from all orders of at most 8 features",
    ),
    Method(
        name="captum_shapley_value_sampling",
        function=captum_methods.captum_shapley_value_sampling,
        scope="local",
        exact=False,
        complete=True,
        needs_background=True,
        random=True,
        reference=_CASTRO,
        summary="Shapley values from random orders of the features",
    ),
    Method(
        name="captum_kernel_shap",
        function=captum_methods.captum_kernel_shap,
        scope="local",
        exact=False,
        complete=True,
        needs_background=True,
        random=True,
        reference=_SHAP,
        summary="Shapley values from a weighted linear fit to random coalitions",
    ),
    Method(
        name="captum_lime",
        function=captum_methods.captum_lime,
        scope="local",
        exact=False,
        complete=False,
        needs_background=True,
        random=True,
        reference=_LIME,
        summary="Linear model of which features are kept, near the sample",
    ),
    Method(
        name="captum_feature_ablation",
        function=captum_methods.captum_feature_ablation,
        scope="local",
        exact=True,
        complete=False,
        needs_background=True,
        reference=_ZEILER,
        summary="What the output loses when a feature is set to the background's mean",
    ),
    Method(
        name="captum_occlusion",
        function=captum_methods.captum_occlusion,
        scope="local",
        exact=True,
        complete=False,
        needs_background=True,
        reference=_ZEILER,
        summary="What the output loses when neighboring features are set to the background's mean",
    ),
    Method(
        name="captum_feature_permutation",
        function=captum_methods.captum_feature_permutation,
        scope="local",
        exact=False,
        complete=False,
        needs_background=False,
        random=True,
        reference=_PERMUTATION,
        summary="What the output loses when a feature is shuffled among the samples",
    ),
    Method(
        name="captum_layer_activation",
        function=captum_methods.captum_layer_activation,
        scope="local",
        exact=True,
        complete=False,
        needs_background=False,
        reference=_CAPTUM,
        summary="Activations of the nodes of a level",
    ),
    Method(
        name="captum_layer_gradient_x_activation",
        function=captum_methods.captum_layer_gradient_x_activation,
        scope="local",
        exact=True,
        complete=False,
        needs_background=False,
        reference=_NOT_JUST,
        summary="Activation of each node of a level times the output's slope in it",
    ),
    Method(
        name="captum_layer_deep_lift",
        function=captum_methods.captum_layer_deep_lift,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=_SHRIKUMAR,
        summary="Captum's DeepLift of the nodes of a level, on the edge view of the model",
    ),
    Method(
        name="captum_layer_conductance",
        function=captum_methods.captum_layer_conductance,
        scope="local",
        exact=False,
        complete=True,
        needs_background=True,
        reference=_CONDUCTANCE,
        summary="How much of the change from each background row passes each node of a level",
    ),
    Method(
        name="captum_layer_integrated_gradients",
        function=captum_methods.captum_layer_integrated_gradients,
        scope="local",
        exact=False,
        complete=True,
        needs_background=True,
        reference=_IG,
        summary="Gradients along the line between the values of the nodes of a level",
    ),
    Method(
        name="captum_internal_influence",
        function=captum_methods.captum_internal_influence,
        scope="local",
        exact=False,
        complete=False,
        needs_background=True,
        reference=_INFLUENCE,
        summary="Mean slope in each node of a level, on lines from the background",
    ),
)

_NO_RULE = "Captum has no rule for SiLU, nor for the edges of a KAN"
_PLAIN = "Captum returns the plain gradient of a model without ReLU"
_PLAIN_NODE = "Captum returns the plain gradient of the node in a model without ReLU"
_CAM = "Captum averages over the places of an image, and a level of a KAN has none: "
_ONE_NODE = "It explains a node, not an output; take the edges in front of the node from trace"

REFUSED: dict[str, str] = {
    "captum_guided_backprop": _PLAIN,
    "captum_deconvolution": _PLAIN,
    "captum_lrp": _NO_RULE,
    "captum_layer_lrp": _NO_RULE,
    "captum_layer_grad_cam": _CAM + "it returns one number for all nodes",
    "captum_guided_grad_cam": _CAM + "it returns no numbers at all",
    "captum_neuron_guided_backprop": _PLAIN_NODE,
    "captum_neuron_deconvolution": _PLAIN_NODE,
    "captum_neuron_deep_lift": (
        "Captum knows no edge of a KAN and returns the node's gradient times x - b, without a word"
    ),
    "captum_neuron_deep_lift_shap": (
        "Captum knows no edge of a KAN and returns the node's gradient times x - b, without a word"
    ),
    "captum_neuron_conductance": (
        "Captum's default quadrature loses 1/n of the value with n steps; for a whole level, "
        "method='captum_layer_conductance' does not"
    ),
    "captum_neuron_gradient": _ONE_NODE,
    "captum_neuron_integrated_gradients": _ONE_NODE,
    "captum_neuron_gradient_shap": _ONE_NODE,
    "captum_neuron_feature_ablation": _ONE_NODE,
}
