"""Rows of planted networks with the truth about them, and the distance of attributions from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from benchmarks.attribution import truths
from benchmarks.attribution.cases import CASES
from benchmarks.attribution.writing import Planted
from kanlens.attribution._problem import Baseline
from kanlens.attribution._result import Attribution
from kanlens.attribution.metrics._evaluation import ratio

SEED = 0  # of rows, and of methods that draw
SHAPLEY, PATHS = "Shapley", "integrated gradients"
AIMS = {  # what a method claims to compute, where the benchmark knows the truth of it
    "shapley": SHAPLEY,
    "additive": SHAPLEY,
    "interactions": SHAPLEY,
    "captum_shapley_values": SHAPLEY,
    "captum_shapley_value_sampling": SHAPLEY,
    "captum_kernel_shap": SHAPLEY,
    "integrated_gradients": PATHS,
    "captum_integrated_gradients": PATHS,
    "captum_gradient_shap": PATHS,
}
_SAME = 1e-7  # of the largest value: differences below it are no differences
_SPREADS = 4.0  # standard errors within which nearly all errors should lie


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Rows of a planted network that are explained, and a background to compare them with."""

    case: Planted
    x: Tensor
    background: Tensor
    _known: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    @cached_property
    def spline_error(self) -> float:
        """Largest |network - formula| over the domain."""
        return self.case.spline_error(torch.Generator().manual_seed(SEED))

    @cached_property
    def by_baseline(self) -> dict[str, Tensor]:
        """Rows that stand for absent features, by the baseline of a result."""
        zero = torch.zeros(1, self.case.inputs, dtype=torch.float64)
        mean = self.background.mean(0, keepdim=True)
        return {
            Baseline.MEAN_OUTPUT: self.background,
            Baseline.MEAN_ROW: mean,
            Baseline.ZERO: zero,
        }

    def shapley(self, baseline: str) -> Tensor:
        """Return the formula's Shapley values (rows, in) counted from a baseline."""
        key = "values", baseline
        if key not in self._known:
            rows = self.by_baseline[baseline]
            self._known[key] = truths.shapley(self.case.formula, self.x, rows)
        return self._known[key]

    def integrated_gradients(self, baseline: str) -> Tensor:
        """Return the formula's integrated gradients (rows, in) counted from a baseline."""
        key = "paths", baseline
        if key not in self._known:
            rows, kinks = self.by_baseline[baseline], self.case.kinks
            paths = truths.integrated_gradients(self.case.formula, self.x, rows, kinks)
            self._known[key] = paths
        return self._known[key]


@cache
def draw_sample(name: str, rows: int, background: int) -> Sample:
    """Draw rows and background of a planted network, the same at every call.

    Examples
    --------
    >>> draw_sample("bilinear", 3, 5).x.shape
    torch.Size([3, 4])
    """
    case, generator = CASES[name], torch.Generator().manual_seed(SEED)
    x = case.draw(rows, generator)
    return Sample(case=case, x=x, background=case.draw(background, generator))


def relative_error(values: Tensor, truth: Tensor) -> float:
    """Return the sum of |values - truth| over that of |truth|.

    Examples
    --------
    >>> relative_error(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 2.0]))
    0.25
    """
    return float(ratio((values - truth).abs().sum(), truth.abs().sum()))


def order_agreement(values: Tensor, truth: Tensor) -> float:
    """Return how well |values| order the features of each row as |truth| does, mean over rows.

    Among the pairs of features that the truth tells apart, it is the share in the right order
    less the share in the wrong one: Somers' D [1]_, which unlike Spearman's correlation does not
    count how features that do nothing are ordered. Rows without such pairs say nothing; NaN when
    there are no others.

    References
    ----------
    .. [1] R. Somers, A new asymmetric measure of association for ordinal variables, 1962.

    Examples
    --------
    >>> order_agreement(torch.tensor([[1.0, -3.0, 2.0]]), torch.tensor([[1.0, 3.0, 2.0]]))
    1.0
    """
    ours, theirs = _order(values), _order(truth)
    pairs = theirs.abs().sum((1, 2))
    agreement = (ours * theirs).sum((1, 2))[pairs > 0] / pairs[pairs > 0]
    return float(agreement.mean()) if len(agreement) else math.nan


def _order(values: Tensor) -> Tensor:  # (batch, in) -> (batch, in, in)
    """Return 1, -1 or 0 for every pair: the first's |value| is larger, smaller, or the same."""
    sizes = values.abs().double()
    steps = sizes[:, :, None] - sizes[:, None, :]
    return torch.where(steps.abs() > _SAME * sizes.max(), steps.sign(), 0.0)


def sign_agreement(values: Tensor, truth: Tensor) -> float:
    """Return the share of values with the sign of the truth, where the truth is not zero.

    Examples
    --------
    >>> sign_agreement(torch.tensor([[1.0, -1.0, 5.0]]), torch.tensor([[2.0, 2.0, 0.0]]))
    0.5
    """
    counts = truth.abs() > _SAME * truth.abs().max()
    return float((values.sign() == truth.sign())[counts].double().mean())


def leakage(values: Tensor, null: Sequence[int]) -> float | None:
    """Return the largest |value| of features that do nothing, over the largest of all.

    Examples
    --------
    >>> leakage(torch.tensor([[4.0, -1.0]]), [1])
    0.25
    """
    largest = float(values.abs().max())
    if not null or largest == 0:
        return None
    return float(values[..., list(null)].abs().max()) / largest


def score_local(name: str, found: Attribution, sample: Sample) -> dict[str, Any]:
    """Compare the values of a method with the truth that is counted from the same baseline.

    `found` holds all of the sample, or its first rows. An error is missing where the truth is not
    known for the baseline; ranks and signs are then compared with Shapley values of the background.
    """
    values, rows = found.values, len(found.values)
    known = found.baseline in sample.by_baseline
    baseline = found.baseline if known else Baseline.MEAN_OUTPUT
    exact = sample.shapley(baseline)[:rows]
    scores: dict[str, Any] = {
        "baseline": found.baseline,
        "aims_at": AIMS.get(name),
        "rank_agreement": order_agreement(values, exact),
        "sign_agreement": sign_agreement(values, exact),
        "leakage": leakage(values, sample.case.null),
        "gap": _gap(found),
        "evaluations": found.evaluations,
    }
    if known:
        paths = sample.integrated_gradients(baseline)[:rows]
        scores["shapley_error"] = relative_error(values, exact)
        scores["ig_error"] = relative_error(values, paths)
        aim = {SHAPLEY: exact, PATHS: paths}.get(AIMS.get(name, ""))
        scores["covered"] = None if aim is None else _covered(found, aim, sample)
    return scores


def _gap(found: Attribution) -> float | None:
    """Return what the values leave unexplained, relative to all that is to be explained."""
    change = (found.output - found.reference).abs().sum()
    gap = float(ratio(found.completeness_gap.abs().sum(), change))
    return gap if math.isfinite(gap) else None


def _covered(found: Attribution, aim: Tensor, sample: Sample) -> float | None:
    """Return the share of values that are as near the truth as the result says they are.

    A result says so by a bound or by standard errors, of which four are granted. The network is
    not quite the formula, for which twice their difference is granted.
    """
    room = found.bound
    if room is None and found.standard_error is not None:
        room = _SPREADS * found.standard_error
    if room is None:
        return None
    slack = 2 * sample.spline_error + 1e-12 * float(aim.abs().max())
    return float(((found.values - aim).abs() <= room + slack).double().mean())
