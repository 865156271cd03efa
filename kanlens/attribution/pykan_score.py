"""The global score that pykan attributes features by: shares of deviations, traced back."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution.problem import Problem, Scores
from kanlens.model.analysis import live_edges, reaching
from kanlens.model.recording import edge_moments


def pykan(problem: Problem) -> Scores:
    """Return KAN 2.0's backward score of every feature for one output.

    The output has the score 1. Every factor of a product has the score of the product; an edge has
    that of its sum times its standard deviation over x divided by the sum's; a node has what its
    edges have together. No score is local, signed, or a share that adds up to a change. Where
    pykan adds 1e-4 to the sum's deviation, which makes scores depend on the unit of the output,
    here a sum that does not vary passes nothing on.

    Parameters
    ----------
    problem : Problem
        A background is not used.

    Returns
    -------
    Scores

    References
    ----------
    .. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 3.
    """
    model = problem.model
    inputs = [model.scale_inputs(problem.x)]
    deviations = []
    for layer, nodes in zip(model.layers, model.nodes, strict=True):
        sums = _in_parts(problem, layer, inputs[-1])
        deviations.append(sums.std(0, correction=0))
        inputs.append(nodes(sums))
    score = torch.zeros_like(inputs[-1][0])
    score[problem.target] = 1.0
    leading = reaching(model, problem.target)
    for index in reversed(range(len(model.layers))):
        layer, nodes = model.layers[index], model.nodes[index]
        factor = score[nodes.owner] * leading[index]  # (out,)
        spread = edge_moments(layer, inputs[index]).std.to(score) * live_edges(layer)
        whole = deviations[index]
        share = torch.where(whole > 0, factor / torch.where(whole > 0, whole, 1.0), 0.0)
        score = share @ spread
    return Scores(values=score)


def _in_parts(problem: Problem, layer: torch.nn.Module, x: Tensor) -> Tensor:
    return torch.cat([layer(part) for part in x.split(problem.rows_at_once)])
