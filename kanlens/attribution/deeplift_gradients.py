"""Closed-form methods: secants of edges (DeepLIFT's Rescale rule) and products, derivatives."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.problem import MEAN_OUTPUT, MEAN_ROW, SLOPES, Parts, Problem, pairs
from kanlens.model.layers import KANLinear
from kanlens.progress import progress_bar

SAME = 1e-10  # inputs closer than this have their derivative for a secant, as in captum


@dataclass(frozen=True, eq=False)
class _Run:
    """What a run of the model left in every layer.

    Attributes
    ----------
    inputs, edges, sums : tuple of Tensor, shapes (batch, in), (batch, out, in), (batch, out)
        What each layer received, the values of its edges, and what it returned.
    """

    inputs: tuple[Tensor, ...]
    edges: tuple[Tensor, ...]
    sums: tuple[Tensor, ...]


def secant(problem: Problem) -> Parts:
    """Return the secant decomposition, averaged over the background.

    Between a sample and a background row every edge has a slope (phi(u) - phi(u')) / (u - u');
    the product of the layers' slopes times x - b adds up to F(x) - F(b) exactly. It is DeepLIFT
    with the Rescale rule on edges, without hooks; it depends on how the function is built. A node
    that multiplies shares its change among its factors by their exact Shapley values.

    What flows through an edge is its own change times the slopes behind it. As much leaves every
    node as arrives, so that these flows are a diagram whose widths add up.

    Parameters
    ----------
    problem : Problem
        With a background.

    Returns
    -------
    Parts
        Counted from the mean output over the background, with `paths`.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating
       Activation Differences, 2017.
    """
    x, rows = problem.x, problem.background
    flows = [
        x.new_zeros(len(x), layer.out_features, layer.in_features) for layer in problem.model.layers
    ]
    at_once = problem.pairs_at_once
    with progress_bar("secant", len(x) * len(rows), shown=problem.progress) as advance:
        for here, there in pairs(len(x), len(rows), at_once):
            ours, theirs = _run(problem, x[here]), _run(problem, rows[there])
            for total, flow in zip(flows, _flows(problem, ours, theirs), strict=True):
                total[here] += flow / len(rows)
            advance(len(ours.inputs[0]) * len(theirs.inputs[0]))
    return Parts(
        values=flows[0].sum(1),
        reference=problem.expected_output(),
        baseline=MEAN_OUTPUT,
        paths=tuple(flows),
    )


def _run(problem: Problem, x: Tensor) -> _Run:
    hidden = problem.model.scale_inputs(x)
    inputs, edges, sums = [], [], []
    for layer, nodes in zip(problem.model.layers, problem.model.nodes, strict=True):
        inputs.append(hidden)
        edges.append(layer.edge_values(hidden))
        sums.append(layer(hidden))
        hidden = nodes(sums[-1])
    return _Run(tuple(inputs), tuple(edges), tuple(sums))


def _flows(problem: Problem, ours: _Run, theirs: _Run) -> list[Tensor]:
    """Return what flows through every edge, summed over the background rows of a block.

    Returns
    -------
    list of Tensor, one per layer, each of shape (batch, out, in)
    """
    model, found = problem.model, []
    rises, steps = _changes(problem, ours, theirs)
    slopes = torch.zeros_like(model.output_scale)
    slopes[problem.target] = model.output_scale[problem.target]
    slopes = slopes.expand(len(ours.inputs[0]), len(theirs.inputs[0]), -1)  # (batch, row, out)
    for index in reversed(range(len(model.layers))):
        slopes = model.nodes[index].pull(slopes, ours.sums[index][:, None], theirs.sums[index])
        found.append(torch.einsum("bro,broi->boi", slopes, rises[index]))
        if index:
            steep = _secants(model.layers[index], rises[index], steps[index], ours.inputs[index])
            slopes = torch.einsum("bro,broi->bri", slopes, steep)
    return found[::-1]


def _changes(problem: Problem, ours: _Run, theirs: _Run) -> tuple[list[Tensor], list[Tensor]]:
    """Return by how much edges and inputs of every layer change between samples and rows.

    A sum changes by what the edges into it do, so that no rounding lies between what arrives at
    a node and what leaves it.

    Returns
    -------
    list of Tensor, shapes (batch, row, out, in)
    list of Tensor, shapes (batch, row, in)
    """
    rises, steps = [], [ours.inputs[0][:, None] - theirs.inputs[0]]
    for index, nodes in enumerate(problem.model.nodes):
        rises.append(ours.edges[index][:, None] - theirs.edges[index])
        if index + 1 == len(ours.inputs):
            break
        if nodes.plain:
            steps.append(rises[-1].sum(-1))
        else:
            steps.append(ours.inputs[index + 1][:, None] - theirs.inputs[index + 1])
    return rises, steps


def _secants(layer: KANLinear, rise: Tensor, step: Tensor, ours: Tensor) -> Tensor:
    """Return the slopes of all edges between two inputs, shape (batch, row, out, in)."""
    same = (step.abs() < SAME)[:, :, None]
    steep = rise / torch.where(same, 1.0, step[:, :, None])
    if bool(same.any()):
        steep = torch.where(same, layer.edge_derivatives(ours)[:, None], steep)
    return steep


def gradient(problem: Problem) -> Parts:
    """Return the gradient of the output: slopes, which share out nothing.

    Parameters
    ----------
    problem : Problem
        A background is not used.

    Returns
    -------
    Parts
        In units of the output per unit of each feature; counted from nothing, so that there is no
        completeness gap.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks: Visualising
       Image Classification Models and Saliency Maps, 2014.
    """
    parts = problem.x.split(problem.pairs_at_once)
    found = torch.cat([_output_and_gradient(problem, part)[1] for part in parts])
    return Parts(values=found, reference=math.nan, baseline=SLOPES, evaluations=1.0)


def gradient_x_input(problem: Problem) -> Parts:
    """Return the gradient times the distance from the mean of the background.

    A first-order estimate: right for a linear model, incomplete for any other.

    Parameters
    ----------
    problem : Problem
        With a background.

    Returns
    -------
    Parts
        Counted from the output at the mean of the background.

    References
    ----------
    .. [1] A. Shrikumar et al., Not Just a Black Box: Learning Important Features Through
       Propagating Activation Differences, 2016.
    """
    row = problem.mean_row
    parts = problem.x.split(problem.pairs_at_once)
    gradients = [_output_and_gradient(problem, part)[1] for part in parts]
    return Parts(
        values=torch.cat(gradients) * (problem.x - row),
        reference=float(problem.output(row)),
        baseline=MEAN_ROW,
        evaluations=1.0,
    )


def _output_and_gradient(problem: Problem, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output at x and its gradient, in the units of the data: (batch,), (batch, in)."""
    model, target = problem.model, problem.target
    hidden = model.scale_inputs(x)
    inputs, sums = [], []
    for layer, nodes in zip(model.layers, model.nodes, strict=True):
        inputs.append(hidden)
        sums.append(layer(hidden))
        hidden = nodes(sums[-1])
    slopes = torch.zeros_like(hidden)
    slopes[:, target] = model.output_scale[target]
    for index in reversed(range(len(inputs))):
        slopes = model.nodes[index].pull(slopes, sums[index])
        tangents = model.layers[index].edge_derivatives(inputs[index])
        slopes = torch.einsum("bo,boi->bi", slopes, tangents)
    output = hidden[:, target] * model.output_scale[target] + model.output_shift[target]
    free = (x >= model.input_low) & (x <= model.input_high)  # held features move nothing
    return output, slopes / model.input_scale * free
