"""The methods there are. Command line, tests, benchmarks and the report read this table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from kanlens.attribution import captum_methods, coalitions, first_layer, slopes


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to attribute, and what may be expected of it.

    Attributes
    ----------
    name : str
        What users call it; captum's methods begin with ``captum_``.
    function : callable
        Takes a Problem and options; returns Parts (local) or a Tensor of shape (in,) (global).
    scope : {"local", "global"}
        One row per sample (`Attribution`), or one number per feature (`Importance`).
    exact : bool
        Whether the values are what the method defines up to rounding: no sampling, no quadrature.
    complete : bool
        Whether the values of a sample are made to add up to output - reference.
    needs_background : bool
        Whether it compares with background rows.
    random : bool
        Whether it draws random numbers.
    reference : str
        Where the method was published.
    summary : str
        One line for people.
    """

    name: str
    function: Callable[..., Any]
    scope: Literal["local", "global"]
    exact: bool
    complete: bool
    needs_background: bool
    random: bool = False
    reference: str
    summary: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the keyword options that the method takes."""
        return tuple(inspect.signature(self.function).parameters)[1:]


_SHRIKUMAR = (
    "A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating "
    "Activation Differences, 2017"
)
_NOT_JUST = (
    "A. Shrikumar et al., Not Just a Black Box: Learning Important Features Through Propagating "
    "Activation Differences, 2016"
)
_SHAP = "S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017"

_ALL = (
    Method(
        name="shapley",
        function=coalitions.shapley,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=f"L. Shapley, A value for n-person games, 1953; {_SHAP}",
        summary="Exact Shapley values: closed form for one layer, else all coalitions",
    ),
    Method(
        name="secant",
        function=slopes.secant,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=_SHRIKUMAR,
        summary="Slopes of every edge between sample and background, multiplied layer by layer",
    ),
    Method(
        name="gradient_x_input",
        function=slopes.gradient_x_input,
        scope="local",
        exact=True,
        complete=False,
        needs_background=True,
        reference=_NOT_JUST,
        summary="Gradient times the distance from the background's mean",
    ),
    Method(
        name="captum_integrated_gradients",
        function=captum_methods.captum_integrated_gradients,
        scope="local",
        exact=False,
        complete=True,
        needs_background=True,
        reference="M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017",
        summary="Gradients along the line from each background row, by quadrature",
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
        name="captum_shapley_value_sampling",
        function=captum_methods.captum_shapley_value_sampling,
        scope="local",
        exact=False,
        complete=True,
        needs_background=True,
        random=True,
        reference=(
            "J. Castro, D. Gomez, J. Tejada, Polynomial calculation of the Shapley value based on "
            "sampling, 2009"
        ),
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
        name="captum_feature_ablation",
        function=captum_methods.captum_feature_ablation,
        scope="local",
        exact=True,
        complete=False,
        needs_background=True,
        reference=(
            "M. Zeiler, R. Fergus, Visualizing and Understanding Convolutional Networks, 2014"
        ),
        summary="What the output loses when a feature is set to the background's mean",
    ),
    Method(
        name="weight_l1",
        function=first_layer.weight_l1,
        scope="global",
        exact=True,
        complete=False,
        needs_background=False,
        reference="Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024",
        summary="Sum of the L1 norms of a feature's first-layer edges",
    ),
    Method(
        name="edge_std",
        function=first_layer.edge_std,
        scope="global",
        exact=True,
        complete=False,
        needs_background=False,
        reference="Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024",
        summary="Sum of the standard deviations of a feature's first-layer edges",
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ALL}

REFUSED: dict[str, str] = {
    "captum_guided_backprop": "Captum returns the plain gradient of a model without ReLU",
    "captum_deconvolution": "Captum returns the plain gradient of a model without ReLU",
    "captum_lrp": "Captum has no rule for SiLU, nor for the edges of a KAN",
}
