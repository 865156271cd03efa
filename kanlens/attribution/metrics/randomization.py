"""Whether an attribution depends on the model at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kanlens.attribution.metrics.case import Case, MethodOn, Score, given, metric
from kanlens.attribution.metrics.points import normal
from kanlens.attribution.metrics.rankings import cleaned, spearman
from kanlens.model.analysis import float64_copy
from kanlens.model.network import KAN


@torch.no_grad()
def redraw(layer: nn.Module, generator: torch.Generator) -> None:
    """Draw every parameter of a layer anew: normal, with the mean and deviation of its entries."""
    for parameter in layer.parameters():
        mean, spread = parameter.mean(), parameter.std(correction=0)
        spread = torch.where(spread > 0, spread, mean.abs())
        drawn = normal(tuple(parameter.shape), generator).to(parameter)
        parameter.copy_(mean + spread * drawn)


def parameter_randomization(
    method_on: MethodOn, model: KAN, x: Tensor, values: Tensor, generator: torch.Generator
) -> Tensor:
    """Rank-correlate |values| with those of models whose layers are drawn anew from the top down.

    The last layer first, then the last two, and so on; the model itself is left as it is. Returns
    Spearman's correlation (layer, batch): 1 for an attribution that does not see the model.

    References
    ----------
    .. [1] J. Adebayo et al., Sanity Checks for Saliency Maps, 2018.
    """
    changed, found = float64_copy(model), []
    for layer in reversed(list(changed.layers)):
        redraw(layer, generator)
        after = method_on(changed, x).detach().to(values)
        found.append(spearman(cleaned(values).abs(), cleaned(after).abs()))
    return torch.stack(found)


@metric(
    "lower", "model", "method", cost="an attribution for each layer", of=parameter_randomization
)
def mprt(case: Case) -> Score:
    """Rank correlation with the values of models whose layers are drawn anew, mean over layers."""
    method_on, model = given(case.method_on), given(case.model)

    def correlation(part: Case) -> Tensor:  # each part draws the same models
        draws = case.draws()
        return parameter_randomization(method_on, model, part.x, part.values, draws).nanmean(0)

    return case.score(correlation)
