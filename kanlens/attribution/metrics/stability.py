"""Stability: change of an attribution under small perturbations of its sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, MissingPartError, Score, given, metric
from kanlens.attribution.metrics.points import Function, Mover, displaced, evaluated, uniform
from kanlens.attribution.result import CentralMoments

NEIGHBOURS = 8  # of each sample
RADIUS = 0.1  # of their box, in standard deviations of each feature


def max_sensitivity(method: Function, x: Tensor, values: Tensor, moved: Tensor) -> Tensor:
    """Return the largest |change| of an attribution at moved samples, over its |size|.

    Sizes are Euclidean; the samples (batch, in) move to (draws, batch, in). NaN where the
    attribution is zero.

    References
    ----------
    .. [1] C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019.
    """
    there = method(moved.flatten(0, 1)).detach().to(moved).reshape(moved.shape)
    change = torch.linalg.vector_norm(there - values, dim=-1).amax(0)
    size = torch.linalg.vector_norm(values, dim=-1)
    ratio: Tensor = change / torch.where(size > 0, size, math.nan)
    return ratio


@metric("lower", "model", "method", cost="8 attributions a sample", of=max_sensitivity)
def _max_sensitivity(case: Case) -> Score:
    """Largest relative change of the values in a box of a tenth of a deviation."""
    move, output = mover(case), case.watched()
    given(case.method_on)

    def changes(part: Case) -> Tensor:
        moved = move(part.x)
        evaluated(output, moved)
        return max_sensitivity(part.method, part.x, part.values, moved)

    return case.score(changes, NEIGHBOURS, output=output)


def mover(case: Case) -> Mover:
    """Return what draws neighbours of samples (batch, in), shape (draws, batch, in)."""
    total, draws = CentralMoments.over(case.known()), case.draws()
    scale = RADIUS * (total.squares / total.rows).sqrt()
    if not bool((scale > 0).any()):
        raise MissingPartError("nothing can move")
    return lambda x: displaced(x, scale, NEIGHBOURS, draws, outside=case.outside, law=uniform)
