"""Global scores of the first layer: how much leaves each feature, whatever comes after."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution.problem import Problem, Scores
from kanlens.model.analysis import live_edges, reaching


def weight_l1(problem: Problem) -> Scores:
    """Return, per feature, the sum of `weight_l1` over its first-layer edges.

    Only edges that lead on to the output count. The score reads the weights and never the data,
    and it is in the scaled units of the layer: a ranking, no share of a prediction.

    Parameters
    ----------
    problem : Problem
        Its samples and background are not used.

    Returns
    -------
    Scores

    References
    ----------
    .. [1] Z. Liu et al., KAN: Kolmogorov-Arnold Networks, 2024, section 2.5.1.
    """
    norms = problem.model.layers[0].weight_l1()
    return Scores(values=(norms * _leading_on(problem)).sum(0))


def edge_std(problem: Problem) -> Scores:
    """Return, per feature, the sum of the standard deviations of its first-layer edges over x.

    Only edges that lead on to the output count; in the scaled units of the layer.

    Parameters
    ----------
    problem : Problem
        A background is not used.

    Returns
    -------
    Scores

    References
    ----------
    .. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 4.1.
    """
    layer = problem.model.layers[0]
    parts = problem.model.scale_inputs(problem.x).split(problem.pairs_at_once)
    first = layer.edge_values(parts[0][:1])  # subtracted, against cancellation
    total, squares = torch.zeros_like(first[0]), torch.zeros_like(first[0])
    for part in parts:
        values = layer.edge_values(part) - first  # (batch, out, in)
        total += values.sum(0) / len(problem.x)
        squares += values.square().sum(0) / len(problem.x)
    deviation = (squares - total.square()).clamp_min(0).sqrt()
    return Scores(values=(deviation * _leading_on(problem)).sum(0))


def _leading_on(problem: Problem) -> Tensor:
    """Tell which first-layer edges are alive and lead on to the output, shape (out, in)."""
    onward = reaching(problem.model, problem.target)[0]
    return live_edges(problem.model.layers[0]) & onward[:, None]
