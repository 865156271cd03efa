"""Faithfulness: values against output changes when features are removed or perturbed.

Removed features come from references: the row the attribution counts from, or background rows.
Deletion and insertion remove them, or put them in, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, MissingPartError, Score, metric
from kanlens.attribution.metrics.points import (
    Function,
    Mover,
    displaced,
    evaluated,
    normal,
    some_rows,
    subsets,
    without,
)
from kanlens.attribution.metrics.rankings import (
    SHARE,
    correlation,
    count_of,
    order_by_size,
    over_counts,
    top,
)

SIZES = 4  # subset sizes of `sensitivity_n`
SUBSETS = 16  # of each size there
MASKS = 50  # subsets of `infidelity` and `faithfulness_correlation`
MOVES = 100  # of each sample
STRENGTH = 0.1  # standard deviation of a move, in ranges of the feature


def subset_correlation(
    output: Function, x: Tensor, values: Tensor, masks: Tensor, references: Tensor
) -> Tensor:
    """Correlate, over subsets, the sum of values with the change when the subset is removed.

    Masks (subset, in) are usually of one size; removed features are replaced by references
    (rows, in), over which the output is averaged. NaN where one side does not vary.
    """
    change = removal_changes(output, x, masks, references)
    return correlation(values @ masks.to(values).mT, change)


def removal_changes(output: Function, x: Tensor, masks: Tensor, references: Tensor) -> Tensor:
    """Return the output change when the features of each mask are removed: (batch, mask)."""
    return evaluated(output, x)[:, None] - without(output, x, masks, references)


def fitted_error(expected: Tensor, change: Tensor, *, scaled: bool = False, dim: int = 0) -> Tensor:
    """Return the mean squared error of expected changes; `scaled`: after the best scaling."""
    if scaled:
        size = expected.square().mean(dim)
        beta = (expected * change).mean(dim) / torch.where(size > 0, size, 1.0)
        expected = expected * beta.unsqueeze(dim)
    return (expected - change).square().mean(dim)


def infidelity(
    output: Function,
    x: Tensor,
    values: Tensor,
    perturbed: Tensor,
    *,
    reference: Tensor | None = None,
    scaled: bool = False,
) -> Tensor:
    """Return the infidelity to perturbations: the mean over I of (I . a - (F(x) - F(x - I)))^2.

    `perturbed` (draws, batch, in) are the points x - I. Values counted from a `reference` already
    hold the distance from it: I / (x - reference) stands in for I where that is not zero. `scaled`:
    each sample's values are scaled to the smallest infidelity.

    References
    ----------
    .. [1] C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019.
    """
    step = x - perturbed
    if reference is not None:
        distance = x - reference
        step = step / torch.where(distance != 0, distance, 1.0)
    expected = (step * values).sum(-1)
    change = evaluated(output, x) - evaluated(output, perturbed)
    return fitted_error(expected, change, scaled=scaled)


def removal_infidelity(
    output: Function,
    x: Tensor,
    values: Tensor,
    masks: Tensor,
    references: Tensor,
    *,
    scaled: bool = False,
) -> Tensor:
    """Return the infidelity to removals: I is x - b on a subset, and I / (x - b) its mask."""
    change = removal_changes(output, x, masks, references)
    return fitted_error(values @ masks.to(values).mT, change, scaled=scaled, dim=1)


def prediction_gap(
    output: Function,
    x: Tensor,
    values: Tensor,
    moved: Tensor,
    *,
    share: float = SHARE,
    area: bool = True,
    important: bool = True,
) -> Tensor:
    """Return the mean |change| of the output when the k largest features move, or all others do.

    Every feature moves to `moved` (draws, batch, in): noise around x, or rows of the background.
    k is a share of the features, at least one; `area` takes the mean over 1, ..., k instead of k
    alone. `important` moves the k largest (PGI), else all others (PGU). In the units of the output.

    References
    ----------
    .. [1] C. Agarwal et al., OpenXAI: Towards a Transparent Evaluation of Model Explanations, 2022.
    """
    before = evaluated(output, x)
    most = count_of(share, x.shape[1])
    parts = []
    for k in range(1 if area else most, most + 1):
        chosen = top(values, k)
        points = torch.where(chosen if important else ~chosen, moved, x)
        parts.append((evaluated(output, points) - before).abs().mean(0))
    return over_counts(parts)


def removal_curve(
    output: Function, x: Tensor, order: Tensor, references: Tensor, *, insert: bool = False
) -> Tensor:
    """Return the output after 0, 1, ... features of an order are removed: (batch, in + 1).

    They are replaced by references (rows, in); `insert` begins without any, and puts them in
    (Petsiuk, Das and Saenko, RISE, 2018).
    """
    place = order.argsort(1)  # of each feature in the order
    steps = torch.arange(x.shape[1] + 1, device=x.device)
    gone = place[:, None] < steps[:, None]  # (batch, step, in)
    return without(output, x, ~gone if insert else gone, references)


def area_over(curve: Tensor) -> Tensor:
    """Return how far a curve lies above the straight line between its ends, mean over its length.

    Positive where it rises early and falls late; this form of deletion and insertion does not
    depend on the level of the output, so it suits regression.

    References
    ----------
    .. [1] N. Hama, M. Mase, A. Owen, Deletion and Insertion Tests in Regression Models, 2023.
    """
    steps = torch.linspace(0, 1, curve.shape[1], device=curve.device, dtype=curve.dtype)
    line = curve[:, :1] + (curve[:, -1:] - curve[:, :1]) * steps
    return torch.trapezoid(curve - line, steps, dim=1)


def change_area(curve: Tensor) -> Tensor:
    """Return the |distance| of a curve from where it begins, mean over its length."""
    return torch.trapezoid((curve - curve[:, :1]).abs(), dim=1) / (curve.shape[1] - 1)


# --- the metrics ---------------------------------------------------------------------------------

_ANCONA = (
    "M. Ancona et al., Towards better understanding of gradient-based attribution methods for "
    "Deep Neural Networks, 2018"
)
_BHATT = "U. Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020"
_SAMEK = (
    "W. Samek et al., Evaluating the visualization of what a Deep Neural Network has learned, 2017"
)
_CURVE = "one removal for each feature of a sample"  # cost


@metric("higher", "model", cost="64 removals a sample", reference=_ANCONA)
def sensitivity_n(case: Case) -> Score:
    """Correlation of value and change over subsets of n features, mean over at most 4 n."""
    n_in = case.values.shape[1]
    spaced = torch.linspace(1, max(1, n_in - 1), min(SIZES, max(1, n_in - 1)))
    return _correlated(case, [int(size.round()) for size in spaced], SUBSETS)


@metric("higher", "model", cost="50 removals a sample", reference=_BHATT)
def faithfulness_correlation(case: Case) -> Score:
    """Correlation of value and change over 50 subsets of half the features."""
    return _correlated(case, [max(1, case.values.shape[1] // 2)], MASKS)


def _correlated(case: Case, sizes: list[int], draws: int) -> Score:
    references, generator, output = case.references, case.draws(), case.watched()
    n_in, device = references.shape[1], references.device
    masks = [subsets(n_in, size, draws, generator).to(device) for size in sizes]

    def correlations(part: Case) -> Tensor:
        x, shares = part.x, _shares(part, references)
        found = [subset_correlation(output, x, shares, mask, references) for mask in masks]
        return torch.stack(found).nanmean(0)

    return case.score(correlations, draws, output=output)


_infidelity = partial(metric, "lower", "model", of=infidelity)


@_infidelity(cost="50 removals a sample", name="infidelity")
def removal_error(case: Case) -> Score:
    """Mean square of value less change over 50 random removals, in variances of the output."""
    return _removed(case, scaled=False)


@_infidelity(cost="50 removals a sample", name="infidelity_scaled")
def removal_error_scaled(case: Case) -> Score:
    """Infidelity after the best scaling of each sample's values."""
    return _removed(case, scaled=True)


def _removed(case: Case, *, scaled: bool) -> Score:
    if "removals" not in case.kept:  # the same for both metrics
        output, references = case.watched(), case.references
        masks = removal_masks(case, references)

        def errors(part: Case) -> Tensor:
            change = removal_changes(output, part.x, masks, references)
            expected = _shares(part, references) @ masks.to(change).mT
            both = (fitted_error(expected, change, scaled=one, dim=1) for one in (False, True))
            return torch.stack([*both])

        case.kept["removals"] = case.each(errors, len(masks)), output.share
    found, offgrid = case.kept["removals"]
    return Score.of(found[int(scaled)] / case.variance, offgrid=offgrid)


def removal_masks(case: Case, x: Tensor) -> Tensor:
    """Return 50 random subsets (subset, in), none empty, or all where there are fewer."""
    n_in, generator = x.shape[1], case.draws()
    if 2**n_in - 1 <= MASKS:
        sizes = range(1, n_in + 1)
        return torch.cat([subsets(n_in, k, MASKS, generator) for k in sizes]).to(x.device)
    masks = normal((MASKS, n_in), generator) > 0
    masks[~masks.any(1)] = True
    return masks.to(x.device)


@_infidelity(cost="100 evaluations a sample", name="infidelity_noise")
def noise_error(case: Case) -> Score:
    """Infidelity to noise of a tenth of each range, in variances of the output; the median."""
    move, output, reference = noise(case), case.watched(), case.references.mean(0)

    def errors(part: Case) -> Tensor:
        counted, x = None if case.slopes else reference, part.x
        return infidelity(output, x, part.values, move(x), reference=counted) / case.variance

    return case.score(errors, MOVES, aggregate="median", output=output)


def _shares(part: Case, references: Tensor) -> Tensor:
    """Return the values as shares of the change; slopes are multiplied by the distance."""
    return part.values * (part.x - references.mean(0)) if part.slopes else part.values


def noise(case: Case) -> Mover:
    """Return what moves samples (batch, in) by a tenth of each range, to (draws, batch, in)."""
    ends = torch.cat([torch.stack(part.aminmax(dim=0)) for part in case.known()])
    width = ends.amax(0) - ends.amin(0)
    if not bool((width > 0).any()):
        raise MissingPartError("nothing can move")
    generator = case.draws()  # one for all parts of the samples
    return lambda x: displaced(x, STRENGTH * width, MOVES, generator, outside=case.leaves)


def _background(case: Case) -> Mover:
    """Return what puts background rows in place of samples (batch, in), to (rows, batch, in)."""
    rows = some_rows(case.replacements, MOVES, case.draws())
    return lambda x: rows[:, None].expand(-1, *x.shape)


def _moving(name: str, mover: Callable[[Case], Mover], how: str, *, important: bool = True) -> None:
    """Register the change when the largest k features, or all others, are moved in some way."""

    @metric(
        "higher" if important else "lower",
        "model",
        cost="100 evaluations for each sample and k",
        of=prediction_gap,
        name=name,
        summary=f"Mean |change| when {how}",
    )
    def score(case: Case) -> Score:
        move, output = mover(case), case.watched()
        how = {"important": important}
        return case.score(
            lambda part: prediction_gap(output, part.x, part.values, move(part.x), **how),
            MOVES,
            output=output,
        )


_moving("pgi", noise, "noise moves the largest k, area over k up to a quarter")
_moving("pgu", noise, "noise moves all but the largest k", important=False)
_moving("pgi_background", _background, "the largest k come from background rows")
_moving(
    "pgu_background",
    _background,
    "all but the largest k come from background rows",
    important=False,
)


# --- deletion and insertion ----------------------------------------------------------------------

_balanced = partial(metric, "higher", "model", cost=_CURVE, of=area_over)


@_balanced()
def deletion(case: Case) -> Score:
    """Area under the straight line as features go, the largest value first (ABC)."""
    return _scored(case, _falling, lambda curve: -area_over(curve))


@_balanced()
def insertion(case: Case) -> Score:
    """Area over the straight line as features come, the largest value first (ABC)."""
    return _scored(case, _falling, area_over, insert=True)


@metric("higher", "model", cost=_CURVE, reference=_SAMEK)
def morf(case: Case) -> Score:
    """Mean |change| of the output as features go, the largest |value| first."""
    return _scored(case, order_by_size, change_area)


@metric("lower", "model", cost=_CURVE, reference=_SAMEK)
def lerf(case: Case) -> Score:
    """Mean |change| of the output as features go, the smallest |value| first."""
    return _scored(case, lambda values: order_by_size(values).flip(1), change_area)


def _falling(values: Tensor) -> Tensor:
    return (-values).argsort(dim=1, stable=True)


def _scored(case: Case, order: Function, area: Function, *, insert: bool = False) -> Score:
    references, output = case.references, case.watched()

    def areas(part: Case) -> Tensor:
        return area(removal_curve(output, part.x, order(part.values), references, insert=insert))

    return case.score(areas, references.shape[1], output=output)
