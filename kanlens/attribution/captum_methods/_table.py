"""The table of captum's methods, and a function that runs most of them.

A layer method attributes to the nodes of a level: 1 is the first hidden layer, the last level is
the outputs, in the units of the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kanlens._checks import check_count
from kanlens._runtime import progress_bar
from kanlens.attribution._direct_methods import SAME, gradient, gradient_x_input, secant
from kanlens.attribution._problem import (
    Baseline,
    LocalValues,
    Method,
    Problem,
    cited,
    methods_of,
    pairs,
)
from kanlens.attribution.captum_methods import _adapter as adapter
from kanlens.attribution.captum_methods import _perturbation as perturbation
from kanlens.attribution.captum_methods import _sampling as sampling
from kanlens.attribution.captum_methods._adapter import EdgeView, NodeView
from kanlens.attribution.captum_methods._sampling import SHAP
from kanlens.attribution.integration._integrated_gradients import integrated_gradients
from kanlens.errors import InvalidValueError

NODES_AT_ZERO = "output with all nodes of the level at zero"
KOKHLIKYAN = (
    "N. Kokhlikyan et al., Captum: A unified and generic model interpretability library for "
    "PyTorch, 2020"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """Call of a class of ``captum.attr``."""

    name: str
    background: bool = True
    counted: Baseline = Baseline.MEAN_OUTPUT  # baseline of the result
    steps: bool = False  # takes n_steps
    level: bool = False  # takes layer
    edges: bool = False  # on the edge view
    passes: int = 1  # evaluations for each step
    both_ways: bool = False  # mean of the line and its reverse
    distribution: bool = False  # captum averages over the background


def _method(
    name: str,
    summary: str,
    reference: str | Callable[..., Any],
    counted: Any = Baseline.MEAN_OUTPUT,
    **how: Any,
) -> Method:
    """Return a method that runs a captum class with options of `Run`, and cites `reference`."""
    facts = {fact: how.pop(fact, False) for fact in ("exact", "complete")}
    run = Run(name=name, counted=counted, **how)
    functions: dict[tuple[bool, bool], Callable[..., LocalValues]] = {  # by level and steps
        (True, True): lambda problem, *, layer=1, n_steps=200: _run(run, problem, layer, n_steps),
        (True, False): lambda problem, *, layer=1: _run(run, problem, layer),
        (False, True): lambda problem, *, n_steps=200: _run(run, problem, None, n_steps),
        (False, False): lambda problem: _run(run, problem),
    }
    return Method(
        name="captum" + re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name),
        function=functions[run.level, run.steps],
        needs_background=run.background,
        reference=reference if isinstance(reference, str) else cited(reference),
        summary=summary,
        **facts,
    )


def _run(
    run: Run, problem: Problem, level: int | None = None, steps: int | None = None
) -> LocalValues:
    """Run a class of captum's on all samples, against every background row if it has baselines."""
    import captum.attr

    options: dict[str, Any] = {}
    if steps is not None:
        check_count("attribute", "n_steps", steps)
        options = {"n_steps": steps, "method": "gausslegendre"}
        whole = steps <= problem.rows_at_once  # else one line per call, in batches
        options["internal_batch_size"] = None if whole else max(2, problem.rows_at_once)
    view, place = _view(run, problem, level)
    attribution = getattr(captum.attr, run.name)(view, *place)
    attribute = partial(attribution.attribute, **options)
    if run.edges:
        attribution.eps = SAME
    evaluations = run.passes * ((steps or 1) + run.both_ways)
    if run.background:
        width = problem.model.widths[level or 0]
        values = _over_background(run, problem, attribute, (evaluations, width))
    else:
        values = adapter.over_parts(problem, attribute, at_once=problem.rows_at_once)
    model, names = problem.model, None
    if level is not None:
        names = tuple(model.node_name(level, index) for index in range(model.widths[level]))
        values = torch.where(adapter.live_nodes(problem, level), values, 0.0)
    reference = problem.counted_from(run.counted)
    if run.counted == NODES_AT_ZERO:
        reference = float(view.above(torch.zeros_like(values[:1])))
    return LocalValues(
        values=values,
        reference=reference,
        baseline=run.counted,
        features=names,
        evaluations=float(evaluations * (len(problem.background) if run.background else 1)),
    )


def _view(run: Run, problem: Problem, level: int | None) -> tuple[Any, tuple[Any, ...]]:
    """Return the model for captum, and the module that it attributes to, if any."""
    if level is not None:
        check_count("attribute", "layer", level)
        if level > (most := len(problem.model.layers)):
            expected = f"to be from 1, the first level of nodes, to {most}, the outputs"
            fields = "attribute", expected, str(level), f"Pass a number from 1 to {most}"
            raise InvalidValueError(*fields, argument="layer")
    if run.edges:
        edges = EdgeView(problem)
        return edges, () if level is None else (edges.levels[level - 1],)
    if level is None:
        return partial(adapter.total_output, problem), ()
    nodes = NodeView(problem, level)
    return nodes, (nodes.nodes,)


def _over_background(
    run: Run, problem: Problem, attribute: Callable[..., Tensor], size: tuple[int, int]
) -> Tensor:
    """Average over background rows, in blocks; `size`: evaluations per pair, columns of values."""
    evaluations, width = size
    x, rows = problem.x, problem.background
    if run.edges:  # captum has no rule for clipping features to their range
        ends = problem.model.input_low, problem.model.input_high
        x, rows = x.clamp(*ends), rows.clamp(*ends)
    values = x.new_zeros(len(x), width)
    at_once = (problem.pairs_at_once if run.edges else problem.rows_at_once) // evaluations
    with (
        progress_bar("captum", len(x) * len(rows), shown=problem.progress) as advance,
        torch.enable_grad(),
        adapter.known_to_captum() if run.edges else nullcontext(),
    ):
        for here, there in pairs(len(x), len(rows), at_once):
            mean = _block(run, attribute, x[here], rows[there])
            values[here] += mean * (len(rows[there]) / len(rows))
            advance(len(x[here]) * len(rows[there]))
    return adapter.finite(values)


def _block(run: Run, attribute: Callable[..., Tensor], x: Tensor, rows: Tensor) -> Tensor:
    """Return the mean over some background rows, for some samples: (batch, column)."""
    if run.distribution:
        twice = rows.repeat(2, 1) if len(rows) == 1 else rows  # captum asks for two at least
        return attribute(x.clone().requires_grad_(), twice).detach()
    ours = x.repeat_interleave(len(rows), 0).requires_grad_()
    theirs = rows.repeat(len(x), 1)
    values = attribute(ours, theirs)
    if run.both_ways:
        values = (values - attribute(theirs, ours)) / 2
    return values.detach().reshape(len(x), len(rows), -1).mean(1)


_levels = partial(_method, level=True, steps=True)
_gradients = partial(_method, exact=True, background=False)
_secants = partial(_method, exact=True, complete=True, edges=True, passes=2)

_METHODS = methods_of(
    # Knots limit the accuracy of Gauss-Legendre nodes; captum's float32 weights alone leave 1e-8.
    _method(
        "IntegratedGradients",
        "Gradients along the line from each background row, by quadrature",
        integrated_gradients,
        complete=True,
        steps=True,
    ),
    sampling.captum_gradient_shap,
    _gradients(
        "Saliency", "Absolute gradient of the output; not complete", gradient, Baseline.SLOPES
    ),
    _gradients(
        "InputXGradient", "Input times gradient, counted from zero", gradient_x_input, Baseline.ZERO
    ),
    sampling.captum_noise_tunnel,
    # On the plain model captum's rule would be the gradient times x - b.
    _secants("DeepLift", "Captum's DeepLift on the edge view of the model", secant),
    _secants(
        "DeepLiftShap",
        "Captum's DeepLiftShap on the edge view of the model",
        SHAP,
        distribution=True,
    ),
    perturbation.captum_shapley_values,
    perturbation.captum_shapley_value_sampling,
    sampling.captum_kernel_shap,
    sampling.captum_lime,
    perturbation.captum_feature_ablation,
    perturbation.captum_occlusion,
    perturbation.captum_feature_permutation,
    _gradients(
        "LayerActivation",
        "Activations of the nodes of a level",
        KOKHLIKYAN,
        Baseline.ACTIVATIONS,
        level=True,
    ),
    _gradients(
        "LayerGradientXActivation",
        "Activation of each node of a level times the output's slope by it",
        gradient_x_input,
        NODES_AT_ZERO,
        level=True,
    ),
    _secants(
        "LayerDeepLift",
        "Captum's DeepLift of the nodes of a level, on the edge view of the model",
        secant,
        level=True,
    ),
    # Captum takes the slope at the start of every step; with both ways the completeness gap falls
    # with the square of the number of steps.
    _levels(
        "LayerConductance",
        "Share of the change from each background row that passes through each node of a level",
        "K. Dhamdhere, M. Sundararajan, Q. Yan, How Important Is a Neuron?, 2019",
        complete=True,
        passes=2,
        both_ways=True,
    ),
    # The line is straight between the nodes' values; layers below the level do not enter.
    _levels(
        "LayerIntegratedGradients",
        "Gradients along the line between the values of the nodes of a level",
        integrated_gradients,
        complete=True,
    ),
    _levels(
        "InternalInfluence",
        "Mean slope by each node of a level, on lines from the background",
        "K. Leino et al., Influence-Directed Explanations for Deep Convolutional Networks, 2018",
        Baseline.SLOPES,
    ),
)
CAPTUM_METHODS = {
    name: replace(method, function=adapter.quiet()(method.function))
    for name, method in _METHODS.items()
}
