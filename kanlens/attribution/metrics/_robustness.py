"""Robustness to small perturbations, and sensitivity to the parameters of the model."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from kanlens.attribution._result import CentralMoments
from kanlens.attribution.metrics import _evaluation as evaluation
from kanlens.attribution.metrics._evaluation import Case, MethodOn, Score
from kanlens.attribution.metrics._perturbations import Function, evaluated, normal, uniform
from kanlens.attribution.metrics._rankings import cleaned, spearman
from kanlens.model._analysis import float64_copy
from kanlens.model._network import KAN

NEIGHBORS = 8  # of each sample
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


@evaluation.metric("lower", "model", "method", of=max_sensitivity)
def _max_sensitivity(case: Case) -> Score:
    """Largest relative change of the values within a tenth of a deviation."""
    total, output = CentralMoments.over(case.population()), case.watched()
    move = case.mover(RADIUS * (total.squares / total.rows).sqrt(), NEIGHBORS, uniform)
    method = partial(evaluation.needed(case.method_on), evaluation.needed(case.model))

    def changes(part: Case) -> Tensor:
        moved = move(part.x)
        evaluated(output, moved)
        return max_sensitivity(method, part.x, part.values, moved)

    return case.score(changes, NEIGHBORS, output=output)


def parameter_randomization(
    method_on: MethodOn, model: KAN, x: Tensor, values: Tensor, generator: torch.Generator
) -> Tensor:
    """Rank-correlate |values| with those of models whose layers are redrawn from the top down.

    The last layer first, then the last two, and so on, in a copy of the model: entries of a
    parameter become normal, of the same mean and deviation. Returns Spearman's correlation (layer,
    batch): 1 for an attribution that does not depend on the model.

    References
    ----------
    .. [1] J. Adebayo et al., Sanity Checks for Saliency Maps, 2018.
    """
    changed, correlations = float64_copy(model), []
    for layer in reversed(list(changed.layers)):
        for entries in layer.parameters():  # which are frozen
            mean, spread = entries.mean(), entries.std(correction=0)
            spread = torch.where(spread > 0, spread, mean.abs())
            entries.copy_(mean + spread * normal(tuple(entries.shape), generator).to(entries))
        after = method_on(changed, x).detach().to(values)
        correlations.append(spearman(cleaned(values).abs(), cleaned(after).abs()))
    return torch.stack(correlations)


@evaluation.metric("lower", "model", "method", of=parameter_randomization)
def mprt(case: Case) -> Score:
    """Rank correlation with the values of models with randomized layers, mean over layers."""
    method_on, model = evaluation.needed(case.method_on), evaluation.needed(case.model)

    def correlation(part: Case) -> Tensor:  # each part draws the same models
        draws = case.draws()
        return parameter_randomization(method_on, model, part.x, part.values, draws).nanmean(0)

    return case.score(correlation)
