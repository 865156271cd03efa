"""Closed-form methods: secants of edges (DeepLIFT's Rescale rule) and products, derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.problem import MEAN_OUTPUT, MEAN_ROW, Parts, Problem, pairs
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

    Parameters
    ----------
    problem : Problem
        With a background.

    Returns
    -------
    Parts
        Counted from the mean output over the background.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating
       Activation Differences, 2017.
    """
    x, rows = problem.x, problem.background
    values = torch.zeros_like(x)
    at_once = problem.pairs_at_once
    with progress_bar("secant", len(x) * len(rows), shown=problem.progress) as advance:
        for here, there in pairs(len(x), len(rows), at_once):
            ours, theirs = _run(problem, x[here]), _run(problem, rows[there])
            products = _products(problem, ours, theirs, x[here])  # (batch, background, in)
            values[here] += products.sum(1) / len(rows)
            advance(products.shape[0] * products.shape[1])
    return Parts(values=values, reference=problem.expected_output(), baseline=MEAN_OUTPUT)


def _run(problem: Problem, x: Tensor) -> _Run:
    hidden = problem.model.scale_inputs(x)
    inputs, edges, sums = [], [], []
    for layer, nodes in zip(problem.model.layers, problem.model.nodes, strict=True):
        inputs.append(hidden)
        edges.append(layer.edge_values(hidden))
        sums.append(layer(hidden))
        hidden = nodes(sums[-1])
    return _Run(tuple(inputs), tuple(edges), tuple(sums))


def _products(problem: Problem, ours: _Run, theirs: _Run, x: Tensor) -> Tensor:
    """Return what each input adds for every pair, shape (batch, background, in)."""
    model = problem.model
    slopes = torch.zeros_like(model.output_scale)
    slopes[problem.target] = model.output_scale[problem.target]
    slopes = slopes.expand(len(x), len(theirs.inputs[0]), -1)  # (batch, background, out)
    for index in reversed(range(len(model.layers))):
        nodes = model.nodes[index]
        slopes = nodes.pull(slopes, ours.sums[index][:, None], theirs.sums[index])
        step = ours.inputs[index][:, None] - theirs.inputs[index]  # (batch, background, in)
        rise = ours.edges[index][:, None] - theirs.edges[index]  # (..., out, in)
        same = (step.abs() < SAME)[:, :, None]
        steep = rise / torch.where(same, 1.0, step[:, :, None])
        if bool(same.any()):
            tangent = model.layers[index].edge_derivatives(ours.inputs[index])
            steep = torch.where(same, tangent[:, None], steep)
        slopes = torch.einsum("bro,broi->bri", slopes, steep)
    return slopes * step


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
    )


def tangent_output(problem: Problem, x: Tensor) -> Tensor:
    """Return the output at x (batch, in) with its gradient ready, shape (batch,).

    Autograd finds the gradient in closed form, several times faster than through the splines.
    """
    with torch.no_grad():
        output, gradient = _output_and_gradient(problem, x)
    return output + ((x - x.detach()) * gradient).sum(1)


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
    return output, slopes / model.input_scale
