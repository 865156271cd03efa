"""Whether an attribution depends on the model at all, and on the seed it was trained from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kanlens.attribution.metrics.case import Case, MethodOn, Score, given, metric
from kanlens.attribution.metrics.points import normal
from kanlens.attribution.metrics.rankings import cleaned, spearman, top_agreement
from kanlens.attribution.result import Attribution
from kanlens.checks import check_choice
from kanlens.errors import ShapeError, message
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


def stability_across(
    attributions: Sequence[Attribution],
    *,
    measure: Literal["importance", "samples"] = "importance",
    share: float = 0.25,
) -> Tensor:
    """Return how far models from different seeds agree on what matters: (model, model), 1 at best.

    "importance": Spearman's correlation of the features' mean |value|; "samples": the part of a
    `share` of each sample's features, the largest, at the same place with the same sign (SRA).
    """
    check_choice("stability_across", "measure", measure, ["importance", "samples"])
    _check_alike(attributions, samples=measure == "samples")
    values = [found.values.detach().double() for found in attributions]
    table = values[0].new_full((len(values), len(values)), math.nan)
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            if measure == "importance":
                sizes = [cleaned(part.abs().mean(0, keepdim=True)) for part in (a, b)]
                table[i, j] = spearman(*sizes)[0]
            else:
                table[i, j] = top_agreement(a, b, share=share, rank=True, sign=True).mean()
    return table


def _check_alike(attributions: Sequence[Attribution], *, samples: bool) -> None:
    """Refuse fewer than two attributions, and those that cannot be compared."""
    if len(attributions) < 2:
        expected, advice = "at least two attributions", "Pass one of each trained model"
        raise ShapeError(message("stability_across", expected, str(len(attributions)), advice))
    first = attributions[0]
    for other in attributions[1:]:
        if other.features != first.features:
            expected, got = f"features {list(first.features)}", repr(list(other.features))
            advice = "Train the models on the same table"
            raise ShapeError(message("stability_across", expected, got, advice))
        if samples and len(other.values) != len(first.values):
            expected, got = f"{len(first.values)} samples", str(len(other.values))
            advice = "Attribute the same samples, or use measure='importance'"
            raise ShapeError(message("stability_across", expected, got, advice))
