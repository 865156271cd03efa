"""The table of captum's methods, and what runs those of them that need no code of their own.

A method of a level attributes to its nodes: level 1 is the first hidden one, and the last one is
that of the outputs, in the units of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens.attribution.captum_methods import perturbation, sampling
from kanlens.attribution.captum_methods.adapter import finite, over_parts, quiet, total_output
from kanlens.attribution.captum_methods.views import (
    EdgeView,
    NodeView,
    check_level,
    known_to_captum,
    live_nodes,
)
from kanlens.attribution.deeplift_gradients import SAME, gradient, gradient_x_input, secant
from kanlens.attribution.integration.gradients import integrated_gradients
from kanlens.attribution.method import Method, cited
from kanlens.attribution.problem import (
    ACTIVATIONS,
    MEAN_OUTPUT,
    SLOPES,
    ZERO,
    LocalValues,
    Problem,
    pairs,
)
from kanlens.checks import check_count
from kanlens.progress import progress_bar

NODES_AT_ZERO = "output with all nodes of the level at zero"
_SHAP = "S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017"
_ZEILER = "M. Zeiler, R. Fergus, Visualizing and Understanding Convolutional Networks, 2014"


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """How one class of ``captum.attr`` is run; other fields as in `Method`."""

    runs: str | Callable[..., LocalValues]  # the class, or a method's own function
    summary: str
    reference: str
    exact: bool = False
    complete: bool = False
    background: bool = True
    random: bool = False
    counted: str = MEAN_OUTPUT  # baseline of the result
    steps: bool = False  # takes n_steps
    level: bool = False  # takes layer
    edges: bool = False  # on the edge view
    passes: int = 1  # evaluations for each step
    both_ways: bool = False  # mean of the line there and back
    distribution: bool = False  # captum averages over the background

    @property
    def function(self) -> Callable[..., LocalValues]:
        """What takes a Problem and the options of the method."""
        if not isinstance(self.runs, str):
            return self.runs
        if self.level:
            return partial(_level_line if self.steps else _level, self)
        return partial(_line if self.steps else _plain, self)


def _plain(row: Row, problem: Problem) -> LocalValues:
    return _run(row, problem)


def _line(row: Row, problem: Problem, *, n_steps: int = 200) -> LocalValues:
    return _run(row, problem, steps=n_steps)


def _level(row: Row, problem: Problem, *, layer: int = 1) -> LocalValues:
    return _run(row, problem, level=layer)


def _level_line(row: Row, problem: Problem, *, layer: int = 1, n_steps: int = 200) -> LocalValues:
    return _run(row, problem, level=layer, steps=n_steps)


def _run(
    row: Row, problem: Problem, *, level: int | None = None, steps: int | None = None
) -> LocalValues:
    """Run a class of captum's on all samples, against every background row if it has baselines."""
    import captum.attr

    options: dict[str, Any] = {}
    if steps is not None:
        check_count("attribute", "n_steps", steps)
        options = {"n_steps": steps, "method": "gausslegendre"}
        whole = steps <= problem.rows_at_once  # else lines come one by one, and are taken apart
        options["internal_batch_size"] = None if whole else max(2, problem.rows_at_once)
    view, place = _view(row, problem, level)
    attribution = getattr(captum.attr, str(row.runs))(view, *place)
    evaluations = row.passes * ((steps or 1) + row.both_ways)
    if row.background:
        values = _over_background(row, problem, attribution, (evaluations, level), options)
    else:
        values = over_parts(problem, attribution.attribute, at_once=problem.rows_at_once)
    model, names = problem.model, None
    if level is not None:
        names = tuple(model.node_name(level, index) for index in range(model.widths[level]))
        values = torch.where(live_nodes(problem, level), values, 0.0)
    at_zero = row.counted == NODES_AT_ZERO
    return LocalValues(
        values=values,
        reference=view.output_at_zero() if at_zero else problem.counted_from(row.counted),
        baseline=row.counted,
        features=names,
        evaluations=float(evaluations * (len(problem.background) if row.background else 1)),
    )


def _view(row: Row, problem: Problem, level: int | None) -> tuple[Any, tuple[Any, ...]]:
    """Return what captum takes for the model, and the module it attributes to, if any."""
    if level is not None:
        check_level(problem, level)
    if row.edges:
        edges = EdgeView(problem)
        return edges, () if level is None else (edges.levels[level - 1],)
    if level is None:
        return partial(total_output, problem), ()
    nodes = NodeView(problem, level)
    return nodes, (nodes.nodes,)


def _over_background(
    row: Row,
    problem: Problem,
    attribution: Any,
    size: tuple[int, int | None],
    options: dict[str, Any],
) -> Tensor:
    """Average what captum finds over all background rows, in blocks that fit the budget.

    `size` holds the evaluations for a pair of a sample and a background row, and the level.
    """
    evaluations, level = size
    x, rows = problem.x, problem.background
    if row.edges:  # captum has no rule for the step that holds features in their range
        attribution.eps = SAME
        ends = problem.model.input_low, problem.model.input_high
        x, rows = x.clamp(*ends), rows.clamp(*ends)
    values = x.new_zeros(len(x), problem.model.widths[level or 0])
    at_once = (problem.pairs_at_once if row.edges else problem.rows_at_once) // evaluations
    with (
        progress_bar("captum", len(x) * len(rows), shown=problem.progress) as advance,
        torch.enable_grad(),
        quiet(),
        known_to_captum() if row.edges else nullcontext(),
    ):
        for here, there in pairs(len(x), len(rows), at_once):
            found = _block(row, attribution, (x[here], rows[there]), options)
            values[here] += found * (len(rows[there]) / len(rows))
            advance(len(x[here]) * len(rows[there]))
    return finite(values)


def _block(
    row: Row, attribution: Any, block: tuple[Tensor, Tensor], options: dict[str, Any]
) -> Tensor:
    """Return the mean over some background rows, for some samples: (batch, column)."""
    x, rows = block
    if row.distribution:
        twice = rows.repeat(2, 1) if len(rows) == 1 else rows  # captum asks for two at least
        found: Tensor = attribution.attribute(x.clone().requires_grad_(), twice).detach()
        return found
    ours = x.repeat_interleave(len(rows), 0).requires_grad_()
    theirs = rows.repeat(len(x), 1)
    found = attribution.attribute(ours, theirs, **options)
    if row.both_ways:
        found = (found - attribution.attribute(theirs, ours, **options)) / 2
    return found.detach().reshape(len(x), len(rows), -1).mean(1)


_TABLE = {
    # The knots of a KAN limit the accuracy of Gauss-Legendre nodes, and the completeness gap shows
    # it. Captum's weights are in float32, which alone costs a gap of 1e-8.
    "integrated_gradients": Row(
        runs="IntegratedGradients",
        summary="Gradients along the line from each background row, by quadrature",
        reference=cited(integrated_gradients),
        complete=True,
        steps=True,
    ),
    "gradient_shap": Row(
        runs=sampling.captum_gradient_shap,
        summary="Gradients at random points between sample and background; complete on average",
        reference=_SHAP,
        random=True,
    ),
    "saliency": Row(
        runs="Saliency",
        summary="Size of the gradient, which shares out nothing",
        reference=cited(gradient),
        exact=True,
        background=False,
        counted=SLOPES,
    ),
    "input_x_gradient": Row(
        runs="InputXGradient",
        summary="Input times gradient, counted from zero",
        reference=cited(gradient_x_input),
        exact=True,
        background=False,
        counted=ZERO,
    ),
    "noise_tunnel": Row(
        runs=sampling.captum_noise_tunnel,
        summary="Saliency, or what option `of` names, averaged under noise",
        reference="D. Smilkov et al., SmoothGrad: removing noise by adding noise, 2017",
        random=True,
    ),
    # On the plain model captum's rule would be the gradient times x - b.
    "deep_lift": Row(
        runs="DeepLift",
        summary="Captum's DeepLift on the edge view of the model",
        reference=cited(secant),
        exact=True,
        complete=True,
        edges=True,
        passes=2,
    ),
    "deep_lift_shap": Row(
        runs="DeepLiftShap",
        summary="Captum's DeepLiftShap on the edge view of the model",
        reference=_SHAP,
        exact=True,
        complete=True,
        edges=True,
        passes=2,
        distribution=True,
    ),
    "shapley_values": Row(
        runs=perturbation.captum_shapley_values,
        summary="Shapley values from all orders of at most 8 features",
        reference="L. Shapley, A value for n-person games, 1953",
        exact=True,
        complete=True,
    ),
    "shapley_value_sampling": Row(
        runs=perturbation.captum_shapley_value_sampling,
        summary="Shapley values from random orders of the features",
        reference=(
            "J. Castro, D. Gomez, J. Tejada, Polynomial calculation of the Shapley value based on "
            "sampling, 2009"
        ),
        complete=True,
        random=True,
    ),
    "kernel_shap": Row(
        runs=sampling.captum_kernel_shap,
        summary="Shapley values from a weighted linear fit to random coalitions",
        reference=_SHAP,
        complete=True,
        random=True,
    ),
    "lime": Row(
        runs=sampling.captum_lime,
        summary="Linear model of which features are kept, near the sample",
        reference=(
            "M. Ribeiro, S. Singh, C. Guestrin, Why Should I Trust You? Explaining the Predictions "
            "of Any Classifier, 2016"
        ),
        random=True,
    ),
    "feature_ablation": Row(
        runs=perturbation.captum_feature_ablation,
        summary="What the output loses when a feature is set to the background's mean",
        reference=_ZEILER,
        exact=True,
    ),
    "occlusion": Row(
        runs=perturbation.captum_occlusion,
        summary="What the output loses when neighboring features are set to the background's mean",
        reference=_ZEILER,
        exact=True,
    ),
    "feature_permutation": Row(
        runs=perturbation.captum_feature_permutation,
        summary="What the output loses when a feature is shuffled among the samples",
        reference=(
            "L. Breiman, Random Forests, 2001; A. Fisher, C. Rudin, F. Dominici, All Models are "
            "Wrong, but Many are Useful, 2019"
        ),
        background=False,
        random=True,
    ),
    "layer_activation": Row(
        runs="LayerActivation",
        summary="Activations of the nodes of a level",
        reference=(
            "N. Kokhlikyan et al., Captum: A unified and generic model interpretability library "
            "for PyTorch, 2020"
        ),
        exact=True,
        background=False,
        level=True,
        counted=ACTIVATIONS,
    ),
    "layer_gradient_x_activation": Row(
        runs="LayerGradientXActivation",
        summary="Activation of each node of a level times the output's slope in it",
        reference=cited(gradient_x_input),
        exact=True,
        background=False,
        level=True,
        counted=NODES_AT_ZERO,
    ),
    "layer_deep_lift": Row(
        runs="LayerDeepLift",
        summary="Captum's DeepLift of the nodes of a level, on the edge view of the model",
        reference=cited(secant),
        exact=True,
        complete=True,
        level=True,
        edges=True,
        passes=2,
    ),
    # Captum takes the slope at the start of every step; the mean of both ways has those of both
    # ends, and the completeness gap falls with the square of the number of steps.
    "layer_conductance": Row(
        runs="LayerConductance",
        summary="How much of the change from each background row passes each node of a level",
        reference="K. Dhamdhere, M. Sundararajan, Q. Yan, How Important Is a Neuron?, 2019",
        complete=True,
        level=True,
        steps=True,
        passes=2,
        both_ways=True,
    ),
    # The line is straight between the nodes' values; nothing in front of them has a part in it.
    "layer_integrated_gradients": Row(
        runs="LayerIntegratedGradients",
        summary="Gradients along the line between the values of the nodes of a level",
        reference=cited(integrated_gradients),
        complete=True,
        level=True,
        steps=True,
    ),
    "internal_influence": Row(
        runs="InternalInfluence",
        summary="Mean slope in each node of a level, on lines from the background",
        reference=(
            "K. Leino et al., Influence-Directed Explanations for Deep Convolutional Networks, 2018"
        ),
        level=True,
        steps=True,
        counted=SLOPES,
    ),
}

CAPTUM_METHODS = tuple(
    Method(
        name=f"captum_{name}",
        function=row.function,
        scope="local",
        exact=row.exact,
        complete=row.complete,
        needs_background=row.background,
        random=row.random,
        reference=row.reference,
        summary=row.summary,
    )
    for name, row in _TABLE.items()
)
