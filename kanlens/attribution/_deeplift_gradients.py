"""DeepLIFT's Rescale rule on edges, in closed form, and gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens._runtime import progress_bar
from kanlens.attribution._method import method
from kanlens.attribution._problem import Baseline, LocalValues, Problem, pairs
from kanlens.model._analysis import over_rows
from kanlens.model._kan_linear import KANLinear

SAME = 1e-10  # inputs closer than this have their derivative for a secant, as in captum


@method(exact=True, complete=True)
def secant(problem: Problem) -> LocalValues:
    """DeepLIFT (Rescale rule) with one secant slope per edge, chained layer by layer.

    Between a sample and a background row every edge has a slope (phi(u) - phi(u')) / (u - u');
    the product of the layers' slopes times x - b adds up to F(x) - F(b) exactly. Products divide
    their change among the factors by exact Shapley values. The flow through an edge is its own
    change times the slopes after it; every node passes on the flow that it receives.

    References
    ----------
    .. [1] A. Shrikumar, P. Greenside, A. Kundaje, Learning Important Features Through Propagating
       Activation Differences, 2017.
    """
    x, rows = problem.x, problem.background
    flows = [
        x.new_zeros(len(x), layer.out_features, layer.in_features) for layer in problem.model.layers
    ]
    with progress_bar("secant", len(x) * len(rows), shown=problem.progress) as advance:
        for here, there in pairs(len(x), len(rows), problem.pairs_at_once):
            for total, flow in zip(flows, _flows(problem, x[here], rows[there]), strict=True):
                total[here] += flow / len(rows)
            advance(len(x[here]) * len(rows[there]))
    return problem.local(flows[0].sum(1), Baseline.MEAN_OUTPUT, paths=tuple(flows))


def _flows(problem: Problem, x: Tensor, rows: Tensor) -> list[Tensor]:
    """Return the contribution of each edge (batch, out, in), summed over the background."""
    model, flows = problem.model, []
    (ours, sums), (theirs, their_sums) = (model.levels(model.scale_inputs(k)) for k in (x, rows))
    rises, steps = _changes(problem, ours[:-1], theirs[:-1])
    slopes = model.output_scale.diag()[problem.target].expand(len(x), len(rows), -1)
    for index in reversed(range(len(model.layers))):
        slopes = model.nodes[index].pull(slopes, sums[index][:, None], their_sums[index])
        flows.append(torch.einsum("bro,broi->boi", slopes, rises[index]))
        if index:
            steep = _secants(model.layers[index], rises[index], steps[index], ours[index])
            slopes = torch.einsum("bro,broi->bri", slopes, steep)
    return flows[::-1]


def _changes(
    problem: Problem, ours: list[Tensor], theirs: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return changes of edges (batch, row, out, in) and inputs from background rows to samples."""
    model, rises, steps = problem.model, list[Tensor](), list[Tensor]()
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        plain = index > 0 and model.nodes[index - 1].plain
        steps.append(rises[-1].sum(-1) if plain else mine[:, None] - other)
        layer = model.layers[index]
        rises.append(layer.edge_values(mine)[:, None] - layer.edge_values(other))
    return rises, steps


def _secants(layer: KANLinear, rise: Tensor, step: Tensor, ours: Tensor) -> Tensor:
    """Return the secant slopes of all edges between two inputs, (batch, row, out, in)."""
    same = (step.abs() < SAME)[:, :, None]
    steep = rise / torch.where(same, 1.0, step[:, :, None])
    if bool(same.any()):
        steep = torch.where(same, layer.edge_derivatives(ours)[:, None], steep)
    return steep


@method(exact=True, complete=False, needs_background=False)
def gradient(problem: Problem) -> LocalValues:
    """Gradient of the output (saliency); not complete.

    References
    ----------
    .. [1] K. Simonyan, A. Vedaldi, A. Zisserman, Deep Inside Convolutional Networks: Visualising
       Image Classification Models and Saliency Maps, 2014.
    """

    def run(x: Tensor) -> list[Tensor]:
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            y = problem.output(x).sum()
            return [torch.autograd.grad(y, x)[0] if y.requires_grad else torch.zeros_like(x)]

    (slopes,) = over_rows(run, problem.x, problem.rows_at_once)
    return problem.local(slopes, Baseline.SLOPES, evaluations=1.0)


@method(exact=True, complete=False)
def gradient_x_input(problem: Problem) -> LocalValues:
    """Gradient times the distance from the background's mean.

    A first-order estimate: right for a linear model, incomplete for any other.

    References
    ----------
    .. [1] A. Shrikumar et al., Not Just a Black Box: Learning Important Features Through
       Propagating Activation Differences, 2016.
    """
    values = gradient(problem).values * (problem.x - problem.mean_row)
    return problem.local(values, Baseline.MEAN_ROW, evaluations=1.0)
