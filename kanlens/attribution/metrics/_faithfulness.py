"""Faithfulness: values against output changes when features are removed, inserted or perturbed."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution._problem import Baseline
from kanlens.attribution.metrics._evaluation import Case, Score, metric
from kanlens.attribution.metrics._perturbations import Function, evaluated, normal, subsets, without
from kanlens.attribution.metrics._rankings import SHARE, correlation, over_counts, top

MASKS = 50  # subsets of `infidelity` and `faithfulness_correlation`
MOVES = 100  # of each sample
STRENGTH = 0.1  # standard deviation of a move, in ranges of the feature


def subset_correlation(
    output: Function, x: Tensor, values: Tensor, masks: Tensor, references: Tensor
) -> Tensor:
    """Correlate, over subsets, the sum of values with the change when the subset is removed.

    Removed features of masks (subset, in) are replaced by references (rows, in), over which the
    output is averaged. NaN where one side does not vary.

    References
    ----------
    .. [1] U. Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020.
    """
    change = removal_changes(output, x, masks, references)
    return correlation(values @ masks.to(values).mT, change)


def removal_changes(output: Function, x: Tensor, masks: Tensor, references: Tensor) -> Tensor:
    """Return the output change when the features of each mask are removed: (batch, mask)."""
    return evaluated(output, x)[:, None] - without(output, x, masks, references)


def infidelity(
    output: Function, x: Tensor, values: Tensor, masks: Tensor, references: Tensor
) -> Tensor:
    """Return the infidelity of the attributions of each sample [1]_, (batch,).

    It is the mean square, over masks (mask, in), of the sum of the values (batch, in) of the masked
    features less the change of the output by their removal.

    References
    ----------
    .. [1] C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019.
    """
    change = removal_changes(output, x, masks, references)
    return (values @ masks.to(values).mT - change).square().mean(1)


def prediction_gap(
    output: Function,
    x: Tensor,
    values: Tensor,
    moved: Tensor,
    *,
    share: float = SHARE,
    important: bool = True,
) -> Tensor:
    """Return the mean |change| of the output when the k largest features move, or all others do.

    They move to `moved` (draws, batch, in); the mean is over k, up to a share of the features.

    References
    ----------
    .. [1] C. Agarwal et al., OpenXAI: Towards a Transparent Evaluation of Model Explanations, 2022.
    """
    before, n_in, parts = evaluated(output, x), x.shape[1], []
    for k in range(1, max(1, min(n_in, round(n_in * share))) + 1):
        chosen = top(values, k)
        points = torch.where(chosen if important else ~chosen, moved, x)
        parts.append((evaluated(output, points) - before).abs().mean(0))
    return over_counts(parts)


def removal_curve(
    output: Function, x: Tensor, order: Tensor, references: Tensor, *, insert: bool = False
) -> Tensor:
    """Return the output after the first 0, 1, ... features of an order are replaced."""
    place = order.argsort(1)  # of each feature in the order
    steps = torch.arange(x.shape[1] + 1, device=x.device)
    gone = place[:, None] < steps[:, None]  # (batch, step, in)
    return without(output, x, ~gone if insert else gone, references)


def area_over(curve: Tensor) -> Tensor:
    """Return the mean height of a curve above the straight line between its ends, for regression.

    References
    ----------
    .. [1] N. Hama, M. Mase, A. Owen, Deletion and Insertion Tests in Regression Models, 2023.
    """
    steps = torch.linspace(0, 1, curve.shape[1], device=curve.device, dtype=curve.dtype)
    line = curve[:, :1] + (curve[:, -1:] - curve[:, :1]) * steps
    return torch.trapezoid(curve - line, steps, dim=1)


# --- the metrics ---------------------------------------------------------------------------------


@metric("higher", "model", of=subset_correlation)
def faithfulness_correlation(case: Case) -> Score:
    """Correlation of value and change over 50 subsets of half the features."""
    references, output = case.references, case.watched()
    n_in = references.shape[1]
    masks = subsets(n_in, max(1, n_in // 2), MASKS, case.draws()).to(references.device)

    def correlations(part: Case) -> Tensor:
        return subset_correlation(output, part.x, _shares(part, references), masks, references)

    return case.score(correlations, MASKS, output=output)


@metric("lower", "model", of=infidelity)
def _infidelity(case: Case) -> Score:
    """Mean square of value minus change over 50 random removals, in variances of the output."""
    references, output, variance = case.references, case.watched(), case.variance
    masks = removal_masks(case, references)

    def squares(part: Case) -> Tensor:
        shares = _shares(part, references)
        return infidelity(output, part.x, shares, masks, references) / variance

    return case.score(squares, len(masks), output=output)


def removal_masks(case: Case, x: Tensor) -> Tensor:
    """Return masks (subset, in) of 50 random nonempty subsets of features, or of every subset."""
    n_in, generator = x.shape[1], case.draws()
    if 2**n_in - 1 <= MASKS:
        sizes = range(1, n_in + 1)
        return torch.cat([subsets(n_in, k, MASKS, generator) for k in sizes]).to(x.device)
    masks = normal((MASKS, n_in), generator) > 0
    masks[~masks.any(1)] = True
    return masks.to(x.device)


def _shares(part: Case, references: Tensor) -> Tensor:
    """Return the values as shares of the change; slopes are multiplied by x minus reference."""
    slopes = part.attribution.baseline == Baseline.SLOPES
    return part.values * (part.x - references.mean(0)) if slopes else part.values


@metric("higher", "model", of=prediction_gap)
def pgi(case: Case) -> Score:
    """Mean |change| when noise moves the k largest features, over k up to a quarter."""
    return _moved(case, important=True)


@metric("lower", "model", of=prediction_gap)
def pgu(case: Case) -> Score:
    """Mean |change| when noise moves all but the k largest, over k up to a quarter."""
    return _moved(case, important=False)


def _moved(case: Case, *, important: bool) -> Score:
    ends = torch.cat([torch.stack(part.aminmax(dim=0)) for part in case.population()])
    move, output = case.mover(STRENGTH * (ends.amax(0) - ends.amin(0)), MOVES), case.watched()

    def gaps(part: Case) -> Tensor:
        return prediction_gap(output, part.x, part.values, move(part.x), important=important)

    return case.score(gaps, MOVES, output=output)


@metric("higher", "model", of=area_over)
def deletion(case: Case) -> Score:
    """Area under the straight line as features are removed, largest value first (ABC)."""
    return _curve(case, insert=False)


@metric("higher", "model", of=area_over)
def insertion(case: Case) -> Score:
    """Area over the straight line as features are added, largest value first (ABC)."""
    return _curve(case, insert=True)


def _curve(case: Case, *, insert: bool) -> Score:
    references, output, sign = case.references, case.watched(), 1 if insert else -1

    def areas(part: Case) -> Tensor:
        order = (-part.values).argsort(dim=1, stable=True)
        return sign * area_over(removal_curve(output, part.x, order, references, insert=insert))

    return case.score(areas, references.shape[1], output=output)
