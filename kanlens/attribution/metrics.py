"""Numbers that say how good an attribution is.

Each metric takes an attribution and, where they can be had, the exact Shapley values of the same
samples counted from the same baseline; it returns NaN where it is not defined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.result import Attribution


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number about an attribution.

    Attributes
    ----------
    name : str
        Column of the comparison's frame.
    function : callable
        Takes the attribution and the exact one (or None).
    needs_exact : bool
        Whether it compares with exact Shapley values.
    summary : str
        One line for people.
    """

    name: str
    function: Callable[[Attribution, Attribution | None], float]
    needs_exact: bool = False
    summary: str


def mean_gap(attribution: Attribution, exact: Attribution | None = None) -> float:
    """Return the mean |completeness gap|, in the units of the output."""
    return float(attribution.completeness_gap.abs().mean())


def max_gap(attribution: Attribution, exact: Attribution | None = None) -> float:
    """Return the largest |completeness gap|, in the units of the output."""
    return float(attribution.completeness_gap.abs().max())


def relative_gap(attribution: Attribution, exact: Attribution | None = None) -> float:
    """Return the sum of |completeness gap| over the sum of |output - reference|."""
    change = (attribution.output - attribution.reference).abs().sum()
    return _ratio(attribution.completeness_gap.abs().sum(), change)


def shapley_error(attribution: Attribution, exact: Attribution | None = None) -> float:
    """Return the L1 distance from the exact values over their L1 norm."""
    if exact is None:
        return math.nan
    distance = (attribution.values - exact.values).abs().sum()
    return _ratio(distance, exact.values.abs().sum())


def shapley_rank(attribution: Attribution, exact: Attribution | None = None) -> float:
    """Return the rank agreement with the exact values, see `rank_agreement`."""
    return math.nan if exact is None else rank_agreement(attribution.values, exact.values)


def gini(attribution: Attribution, exact: Attribution | None = None) -> float:
    """Return the Gini index of the mean |value| of the features: 0 all equal, near 1 a single one.

    References
    ----------
    .. [1] P. Chalasani et al., Concise Explanations of Neural Networks using Adversarial
       Training, 2020.
    """
    sizes = attribution.values.abs().mean(0).sort().values
    n = len(sizes)
    places = torch.arange(1, n + 1, device=sizes.device).to(sizes)
    return _ratio((sizes * (2 * places - n - 1)).sum(), n * sizes.sum())


def rank_agreement(a: Tensor, b: Tensor) -> float:
    """Return Spearman's correlation of two attributions over the features, averaged over samples.

    Parameters
    ----------
    a, b : Tensor, shape (batch, in)
        Signed values of the same samples and features.

    Returns
    -------
    float
        From -1 to 1. Samples whose values are all equal are left out; NaN when none is left.

    Examples
    --------
    >>> rank_agreement(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.1, 0.2, 9.0]]))
    1.0
    """
    from scipy.stats import rankdata

    ranks = [torch.as_tensor(rankdata(values.detach().cpu().numpy(), axis=1)) for values in (a, b)]
    left, right = (rank.double() - rank.double().mean(1, keepdim=True) for rank in ranks)
    scale = (left.square().sum(1) * right.square().sum(1)).sqrt()
    known = scale > 0
    if not bool(known.any()):
        return math.nan
    return round(float(((left * right).sum(1)[known] / scale[known]).mean()), 12)


def _ratio(part: Tensor, whole: Tensor) -> float:
    """Return part / whole; 0 / 0 is 0, since there was nothing to miss."""
    if float(whole) > 0:
        return float(part / whole)
    return math.inf if float(part) > 0 else 0.0


_ALL = (
    Metric(name="mean_gap", function=mean_gap, summary="mean |completeness gap|"),
    Metric(name="max_gap", function=max_gap, summary="largest |completeness gap|"),
    Metric(
        name="relative_gap",
        function=relative_gap,
        summary="sum of |completeness gap| over sum of |output - reference|",
    ),
    Metric(
        name="shapley_error",
        function=shapley_error,
        needs_exact=True,
        summary="L1 distance from the exact Shapley values over their L1 norm",
    ),
    Metric(
        name="shapley_rank",
        function=shapley_rank,
        needs_exact=True,
        summary="Spearman correlation with the exact Shapley values, mean over samples",
    ),
    Metric(name="gini", function=gini, summary="Gini index of the mean |value| of the features"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
