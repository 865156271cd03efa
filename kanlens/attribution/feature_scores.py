"""Global feature scores from edge norms, of the first layer or of all."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution.method import method
from kanlens.attribution.problem import GlobalScores, Problem
from kanlens.model.analysis import nonzero_edges, reaching
from kanlens.model.recording import edge_moments


@method(scope="global", exact=True, complete=False, needs_background=False)
def pykan(problem: Problem) -> GlobalScores:
    """Backward edge score of KAN 2.0 (pykan), aggregated to features.

    As in [1]_, the output has the score 1. Every factor of a product has the score of the product;
    an edge has that of its sum times its standard deviation over x divided by the sum's; a node has
    what its edges have together. No score is local, signed, or a share that adds up to a change.
    Where pykan adds 1e-4 to the sum's deviation, so that scores depend on the unit of the output,
    here a sum that does not vary passes nothing on.

    References
    ----------
    .. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 3.
    """
    model = problem.model
    inputs = [model.scale_inputs(problem.x)]
    deviations = []
    for layer, nodes in zip(model.layers, model.nodes, strict=True):
        sums = torch.cat([layer(part) for part in inputs[-1].split(problem.rows_at_once)])
        deviations.append(sums.std(0, correction=0))
        inputs.append(nodes(sums))
    score = torch.zeros_like(inputs[-1][0])
    score[problem.target] = 1.0
    leading = reaching(model, problem.target)
    for index in reversed(range(len(model.layers))):
        layer, nodes = model.layers[index], model.nodes[index]
        factor = score[nodes.owner] * leading[index]  # (out,)
        spread = edge_moments(layer, inputs[index]).std.to(score) * nonzero_edges(layer)
        whole = deviations[index]
        share = torch.where(whole > 0, factor / torch.where(whole > 0, whole, 1.0), 0.0)
        score = share @ spread
    return GlobalScores(values=score)


@method(scope="global", exact=True, complete=False, needs_background=False)
def weight_l1(problem: Problem) -> GlobalScores:
    """Sum of the L1 norms of a feature's first-layer edges.

    Only edges that lead on to the output count. The score reads the weights and never the data,
    and it is in the scaled units of the layer: a ranking, no share of a prediction.

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1.
    """
    norms = problem.model.layers[0].weight_l1()
    return GlobalScores(values=(norms * _leading_on(problem)).sum(0))


@method(scope="global", exact=True, complete=False, needs_background=False)
def edge_std(problem: Problem) -> GlobalScores:
    """Sum of the standard deviations of a feature's first-layer edges.

    Over x; only edges that lead on to the output count. In the scaled units of the layer.

    References
    ----------
    .. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 4.1.
    """
    layer, x = problem.model.layers[0], problem.model.scale_inputs(problem.x)
    return GlobalScores(values=(edge_moments(layer, x).std.to(x) * _leading_on(problem)).sum(0))


def _leading_on(problem: Problem) -> Tensor:
    """Tell which first-layer edges are alive and lead on to the output, shape (out, in)."""
    onward = reaching(problem.model, problem.target)[0]
    return nonzero_edges(problem.model.layers[0]) & onward[:, None]
