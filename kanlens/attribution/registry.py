"""The methods there are. Command line, tests, benchmarks and the report read this table."""

from __future__ import annotations

from kanlens.attribution import additive, deeplift_gradients, first_layer, pykan_score, sobol
from kanlens.attribution.captum_registry import CAPTUM_METHODS, REFUSED
from kanlens.attribution.integration.gradients import integrated_gradients
from kanlens.attribution.method import Method
from kanlens.attribution.shapley.values import interactions, shapley

__all__ = ["METHODS", "REFUSED", "Method"]

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
        function=shapley,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=f"L. Shapley, A value for n-person games, 1953; {_SHAP}",
        summary="Exact Shapley values, node by node: closed forms, coalitions, cosine series",
    ),
    Method(
        name="interactions",
        function=interactions,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=(
            "M. Grabisch, M. Roubens, An axiomatic approach to the concept of interaction among "
            "players in cooperative games, 1999"
        ),
        summary="Exact Shapley values, with the interaction of every pair of features",
    ),
    Method(
        name="additive",
        function=additive.additive,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=(
            "S. Bordt, U. von Luxburg, From Shapley Values to Generalized Additive Models and "
            "back, 2023"
        ),
        summary="Closed form for a sum of functions of single features, also under their own law",
    ),
    Method(
        name="integrated_gradients",
        function=integrated_gradients,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference="M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017",
        summary="Gradients along the line from each background row, cut at the knots of all layers",
    ),
    Method(
        name="secant",
        function=deeplift_gradients.secant,
        scope="local",
        exact=True,
        complete=True,
        needs_background=True,
        reference=_SHRIKUMAR,
        summary="Slopes of every edge between sample and background, multiplied layer by layer",
    ),
    Method(
        name="gradient",
        function=deeplift_gradients.gradient,
        scope="local",
        exact=True,
        complete=False,
        needs_background=False,
        reference=(
            "K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks: "
            "Visualising Image Classification Models and Saliency Maps, 2014"
        ),
        summary="Slopes of the output, which share out nothing",
    ),
    Method(
        name="gradient_x_input",
        function=deeplift_gradients.gradient_x_input,
        scope="local",
        exact=True,
        complete=False,
        needs_background=True,
        reference=_NOT_JUST,
        summary="Gradient times the distance from the background's mean",
    ),
    *CAPTUM_METHODS,
    Method(
        name="sobol_first",
        function=sobol.sobol_first,
        scope="global",
        exact=False,
        complete=False,
        needs_background=True,
        random=True,
        reference="I. Sobol, Sensitivity estimates for nonlinear mathematical models, 1993",
        summary="Share of the output's variance that a feature explains alone",
    ),
    Method(
        name="sobol_total",
        function=sobol.sobol_total,
        scope="global",
        exact=False,
        complete=False,
        needs_background=True,
        random=True,
        reference=(
            "T. Homma, A. Saltelli, Importance measures in global sensitivity analysis of "
            "nonlinear models, 1996"
        ),
        summary="Share of the output's variance that a feature has a part in",
    ),
    Method(
        name="pykan",
        function=pykan_score.pykan,
        scope="global",
        exact=True,
        complete=False,
        needs_background=False,
        reference="Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024",
        summary="Shares of standard deviations, traced back from the output",
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
