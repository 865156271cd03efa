"""Captum's layer attributions: what the nodes of a level do for an output.

Level 1 is the first hidden level; the last one is that of the outputs, in the units of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kanlens.attribution.captum_methods.adapter import over_background, over_parts, steps_at_once
from kanlens.attribution.deeplift_gradients import SAME
from kanlens.attribution.edge_view import EdgeView, known_to_captum
from kanlens.attribution.problem import MEAN_OUTPUT, SLOPES, Parts, Problem
from kanlens.checks import check_count, message
from kanlens.errors import InvalidValueError
from kanlens.model.analysis import live_edges, reaching

ACTIVATIONS = "nothing: values are activations, no shares"
NODES_AT_ZERO = "output with all nodes of the level at zero"


def captum_layer_activation(problem: Problem, *, layer: int = 1) -> Parts:
    """Return the activations of the nodes of a level; 0 for nodes that the output does not read.

    Parameters
    ----------
    problem : Problem
        A background is not used.
    layer : int
        The level: 1 for the first hidden one.

    Returns
    -------
    Parts
        One column per node; counted from nothing.

    References
    ----------
    .. [1] N. Kokhlikyan et al., Captum: A unified and generic model interpretability library for
       PyTorch, 2020.
    """
    from captum.attr import LayerActivation

    view = NodeView(problem, layer)
    values = over_parts(
        problem, LayerActivation(view, view.nodes).attribute, at_once=problem.rows_at_once
    )
    return Parts(
        values=torch.where(_live_nodes(problem, layer), values, 0.0),
        reference=math.nan,
        baseline=ACTIVATIONS,
        features=_names(problem, layer),
        evaluations=1.0,
    )


def captum_layer_gradient_x_activation(problem: Problem, *, layer: int = 1) -> Parts:
    """Return the activation of each node of a level times the output's slope in it.

    Parameters
    ----------
    problem : Problem
        A background is not used.
    layer : int
        The level: 1 for the first hidden one.

    Returns
    -------
    Parts
        One column per node; counted from the output with all nodes of the level at zero.

    References
    ----------
    .. [1] A. Shrikumar et al., Not Just a Black Box: Learning Important Features Through
       Propagating Activation Differences, 2016.
    """
    from captum.attr import LayerGradientXActivation

    view = NodeView(problem, layer)
    method = LayerGradientXActivation(view, view.nodes)
    with torch.no_grad():
        zero = float(view.above(problem.x.new_zeros(1, problem.model.widths[layer])))
    return Parts(
        values=over_parts(problem, method.attribute, at_once=problem.rows_at_once),
        reference=zero,
        baseline=NODES_AT_ZERO,
        features=_names(problem, layer),
        evaluations=1.0,
    )


def captum_layer_deep_lift(problem: Problem, *, layer: int = 1) -> Parts:
    """Return DeepLift (Rescale) of the nodes of a level, averaged over the background.

    Runs on the edge view of the model, as ``captum_deep_lift`` does: the values add up exactly.

    Parameters
    ----------
    problem : Problem
        With a background.
    layer : int
        The level: 1 for the first hidden one.

    Returns
    -------
    Parts
        One column per node; counted from the mean output over the background.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating
       Activation Differences, 2017.
    """
    _check_level(problem, layer)
    from captum.attr import LayerDeepLift

    view = EdgeView(problem)
    method = LayerDeepLift(view, view.levels[layer - 1])
    method.eps = SAME

    def run(x: Tensor, baselines: Tensor) -> Tensor:
        found: Tensor = method.attribute(x, baselines)
        return found

    with known_to_captum():
        return _over_background(problem, layer, run, evaluations=2, whole_edges=True)


def captum_layer_conductance(problem: Problem, *, layer: int = 1, n_steps: int = 200) -> Parts:
    """Return how much of the change on the line from each background row passes each node.

    The sum, along the line, of the output's slope in the node times the node's steps. Captum takes
    the slope at the start of every step; here it runs both ways along the line, and the mean has
    the slopes of both ends. The completeness gap falls with the square of the number of steps.

    Parameters
    ----------
    problem : Problem
        With a background.
    layer : int
        The level: 1 for the first hidden one.
    n_steps : int
        Steps on each line.

    Returns
    -------
    Parts
        One column per node; counted from the mean output over the background.

    References
    ----------
    .. [1] K. Dhamdhere, M. Sundararajan, Q. Yan, How Important Is a Neuron?, 2019.
    """
    check_count("attribute", "n_steps", n_steps)
    from captum.attr import LayerConductance

    view = NodeView(problem, layer)
    method = LayerConductance(view, view.nodes)

    options = _quadrature(problem, n_steps)

    def run(x: Tensor, baselines: Tensor) -> Tensor:
        there: Tensor = method.attribute(x, baselines, **options)
        back: Tensor = method.attribute(baselines, x, **options)
        return (there - back) / 2

    return _over_background(problem, layer, run, evaluations=2 * n_steps + 2)


def captum_layer_integrated_gradients(
    problem: Problem, *, layer: int = 1, n_steps: int = 200
) -> Parts:
    """Return integrated gradients of the nodes of a level, averaged over the background.

    The line is straight between the nodes' values at the background row and at the sample, so
    nothing in front of the level plays a part in it.

    Parameters
    ----------
    problem : Problem
        With a background.
    layer : int
        The level: 1 for the first hidden one.
    n_steps : int
        Nodes of the quadrature on each line.

    Returns
    -------
    Parts
        One column per node; counted from the mean output over the background.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017.
    """
    check_count("attribute", "n_steps", n_steps)
    from captum.attr import LayerIntegratedGradients

    view = NodeView(problem, layer)
    method = LayerIntegratedGradients(view, view.nodes)

    options = _quadrature(problem, n_steps)

    def run(x: Tensor, baselines: Tensor) -> Tensor:
        found: Tensor = method.attribute(x, baselines, **options)
        return found

    return _over_background(problem, layer, run, evaluations=n_steps)


def captum_internal_influence(problem: Problem, *, layer: int = 1, n_steps: int = 200) -> Parts:
    """Return the output's mean slope in each node of a level, on lines from the background.

    Parameters
    ----------
    problem : Problem
        With a background.
    layer : int
        The level: 1 for the first hidden one.
    n_steps : int
        Nodes of the quadrature on each line.

    Returns
    -------
    Parts
        One column per node, in units of the output per unit of the node; counted from nothing.

    References
    ----------
    .. [1] K. Leino et al., Influence-Directed Explanations for Deep Convolutional Networks, 2018.
    """
    check_count("attribute", "n_steps", n_steps)
    from captum.attr import InternalInfluence

    view = NodeView(problem, layer)
    method = InternalInfluence(view, view.nodes)

    options = _quadrature(problem, n_steps)

    def run(x: Tensor, baselines: Tensor) -> Tensor:
        found: Tensor = method.attribute(x, baselines, **options)
        return found

    return _over_background(problem, layer, run, evaluations=n_steps, shares=False)


class NodeView(nn.Module):
    """One output of a KAN as a function of the nodes of a level, as captum's hooks need it.

    Parameters
    ----------
    problem : Problem
        Whose model and target are viewed.
    layer : int
        The level: from 1 to the number of layers.
    """

    def __init__(self, problem: Problem, layer: int) -> None:
        super().__init__()
        _check_level(problem, layer)
        self.nodes = nn.Identity()
        self._problem, self._layer = problem, layer

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs at x (batch, in) added up, in the units of the data, shape (1,)."""
        with torch.no_grad():
            hidden = self._below(x)
        return self.above(self.nodes(hidden.requires_grad_())).sum()[None]

    def _below(self, x: Tensor) -> Tensor:
        model = self._problem.model
        hidden = model.scale_inputs(x)
        for index in range(self._layer):
            hidden = model.nodes[index](model.layers[index](hidden))
        last = self._layer == len(model.layers)
        return hidden * model.output_scale + model.output_shift if last else hidden

    def above(self, hidden: Tensor) -> Tensor:
        """Return the output at nodes (batch, node) of the level, shape (batch,)."""
        model, target = self._problem.model, self._problem.target
        if self._layer == len(model.layers):
            return hidden[:, target]
        for index in range(self._layer, len(model.layers)):
            hidden = model.nodes[index](model.layers[index](hidden))
        return hidden[:, target] * model.output_scale[target] + model.output_shift[target]


def _check_level(problem: Problem, layer: int) -> None:
    check_count("attribute", "layer", layer)
    most = len(problem.model.layers)
    if layer > most:
        expected = f"layer to be from 1, the first level of nodes, to {most}, the outputs"
        raise InvalidValueError(message("attribute", expected, str(layer), "Change it"))


def _quadrature(problem: Problem, n_steps: int) -> dict[str, Any]:
    """Return captum's options for a line of steps."""
    at_once = steps_at_once(problem, n_steps)
    return {"n_steps": n_steps, "method": "gausslegendre", "internal_batch_size": at_once}


def _names(problem: Problem, layer: int) -> tuple[str, ...]:
    model = problem.model
    return tuple(model.node_name(layer, index) for index in range(model.widths[layer]))


def _live_nodes(problem: Problem, layer: int) -> Tensor:
    """Tell which nodes of a level have a live path to the output, shape (node,)."""
    model, target = problem.model, problem.target
    if layer == len(model.layers):
        return torch.arange(model.widths[layer], device=problem.x.device) == target
    wanted = reaching(model, target)[layer]
    return (live_edges(model.layers[layer]) & wanted[:, None]).any(0)


def _over_background(
    problem: Problem,
    layer: int,
    run: Callable[[Tensor, Tensor], Tensor],
    *,
    evaluations: int,
    shares: bool = True,
    whole_edges: bool = False,
) -> Parts:
    """Average what captum finds for pairs of a sample and a background row.

    `shares` tells whether the values are shares of a change; `whole_edges`, whether the work holds
    the values of all edges.
    """
    rows = problem.pairs_at_once if whole_edges else problem.rows_at_once
    at_once = max(1, rows // evaluations)
    values = over_background(problem, run, at_once=at_once, width=problem.model.widths[layer])
    counted: dict[str, Any] = {"reference": math.nan, "baseline": SLOPES}
    if shares:
        counted = {"reference": problem.expected_output(), "baseline": MEAN_OUTPUT}
    return Parts(
        values=values,
        features=_names(problem, layer),
        evaluations=float(evaluations * len(problem.background)),
        **counted,
    )
