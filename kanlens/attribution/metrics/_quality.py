"""Quality of attributions: exact values, changes of the output, robustness, and rankings."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from kanlens._lazy import stats
from kanlens.attribution._problem import Baseline
from kanlens.attribution._result import CentralMoments
from kanlens.attribution.metrics._evaluation import (
    NOISE,
    Case,
    Function,
    MethodOn,
    Score,
    cleaned,
    evaluated,
    metric,
    needed,
    normal,
    ratio,
    subsets,
    uniform,
    without,
)
from kanlens.model._analysis import BUDGET, float64_copy, live_features
from kanlens.model._network import KAN

_AXIOMS = "M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017"
_SHAPLEY = "S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017"
MASKS = 50  # subsets of `infidelity` and `faithfulness_correlation`
MOVES = 100  # of each sample
STRENGTH = 0.1  # standard deviation of a move, in ranges of the feature
NEIGHBORS = 8  # of each sample
RADIUS = 0.1  # of their box, in standard deviations of each feature
SHARE = 0.25  # largest share of features that count as the top


def top(values: Tensor, count: int) -> Tensor:
    """Return the mask of the `count` largest |values| of each row; of equal ones the first."""
    order = values.abs().argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(values, dtype=torch.bool).scatter_(1, order[:, :count], True)


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return Pearson's correlation of each pair of rows; NaN where one side does not vary."""
    left, right = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    sizes = [part.square().mean(1).sqrt() for part in (left, right)]
    varies = (sizes[0] > NOISE * a.abs().amax(1)) & (sizes[1] > NOISE * b.abs().amax(1))
    coefficients = (left * right).mean(1) / (sizes[0] * sizes[1])
    return torch.where(varies, coefficients.clamp(-1, 1), math.nan)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Return Spearman's correlation of each pair of rows; NaN where one of them is constant."""
    at_once = max(1, BUDGET // (16 * a.shape[1]))  # 16: ranks and the arrays of sorting
    parts = []
    for pair in zip(a.split(at_once), b.split(at_once), strict=True):
        ranks = (stats.rankdata(part.cpu().double().numpy(), axis=1) for part in pair)
        parts.append(correlation(*(torch.from_numpy(part).to(a.device) for part in ranks)))
    return torch.cat(parts)


def rank_agreement(a: Tensor, b: Tensor) -> float:
    """Return Spearman's correlation over the features, averaged over samples."""
    return round(float(spearman(a.detach(), b.detach()).nanmean()), 12)


def over_counts(parts: list[Tensor]) -> Tensor:
    """Return the mean height of a curve over 1, 2, ... features, by the trapezoidal rule."""
    if len(parts) == 1:
        return parts[0]
    return torch.trapezoid(torch.stack(parts), dim=0) / (len(parts) - 1)


def gini_index(values: Tensor) -> Tensor:
    """Return the Gini index of each row's |values|: 0 if all are equal, 1 - 1/n if one is nonzero.

    References
    ----------
    .. [1] P. Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training,
       2020 (sparseness).
    """
    sizes = values.abs().sort(1).values
    n = sizes.shape[1]
    places = torch.arange(1, n + 1, device=sizes.device).to(sizes)
    return ratio((sizes * (2 * places - n - 1)).sum(1), n * sizes.sum(1))


def share_entropy(values: Tensor) -> Tensor:
    """Return the entropy of each row's shares |value| / sum of |values|; NaN where all are zero.

    References
    ----------
    .. [1] U. Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020.
    """
    total = values.abs().sum(1, keepdim=True)
    shares = values.abs() / torch.where(total > 0, total, math.nan)
    entropy: Tensor = torch.special.entr(shares).sum(1)
    return entropy


@metric("lower", reference=_AXIOMS)
def max_gap(case: Case) -> Score:
    """Largest |completeness gap|, in the units of the output."""
    return Score.of(case.attribution.completeness_gap.double().abs(), largest=True)


@metric("lower", reference=_AXIOMS)
def relative_gap(case: Case) -> Score:
    """Sum of |completeness gap| over sum of |output - reference|."""
    attribution = case.attribution
    change = (attribution.output - attribution.reference).double().abs().sum()
    value = float(ratio(attribution.completeness_gap.double().abs().sum(), change))
    return Score(rows=attribution.relative_gap.double(), value=value)


@metric("lower", "model", reference=_AXIOMS)
def dummy(case: Case) -> Score:
    """Largest |value| of a feature without a path to the output; 0 if every feature has one."""
    live = live_features(needed(case.model), case.target).to(needed(case.attribution.x).device)
    return case.score(lambda part: part.values.abs().masked_fill(live, 0.0).amax(1), largest=True)


@metric("lower", "exact", reference=_SHAPLEY)
def shapley_error(case: Case) -> Score:
    """Sum of the L1 distances from the exact Shapley values over the sum of their L1 norms."""

    def distances(part: Case) -> torch.Tensor:
        exact = part.exact_values
        return torch.stack([(part.values - exact).abs().sum(1), exact.abs().sum(1)])

    off, size = case.each(distances)
    return Score(rows=ratio(off, size), value=float(ratio(off.sum(), size.sum())))


@metric("higher", "exact", reference=_SHAPLEY)
def shapley_rank(case: Case) -> Score:
    """Spearman's correlation with the exact Shapley values over the features, mean over samples."""
    return case.score(lambda part: spearman(cleaned(part.values), cleaned(part.exact_values)))


def subset_correlation(
    output: Function, x: Tensor, values: Tensor, masks: Tensor, references: Tensor
) -> Tensor:
    """Correlate attributions summed over subsets with the output's change by their removal.

    Removed features of masks (subset, in) are replaced by references (rows, in), over which the
    output is averaged. NaN where one side does not vary.

    References
    ----------
    .. [1] U. Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020.
    """
    return correlation(*_removals(output, x, values, masks, references))


def _removals(
    output: Function, x: Tensor, values: Tensor, masks: Tensor, references: Tensor
) -> tuple[Tensor, Tensor]:
    """Return sums of values, and changes of the output, by removals: (batch, mask) each."""
    change = evaluated(output, x)[:, None] - without(output, x, masks, references)
    return values @ masks.to(values).mT, change


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
    sums, change = _removals(output, x, values, masks, references)
    return (sums - change).square().mean(1)


def prediction_gap(
    output: Function,
    x: Tensor,
    values: Tensor,
    moved: Tensor,
    *,
    share: float = SHARE,
    important: bool = True,
) -> Tensor:
    """Return the mean |change| of the output when the k `important` features move, or all others.

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
    """Return the output (batch, step) with the first 0, 1, ... features replaced, or all others."""
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
    """Mean square of values minus change over 50 random removals, over the output's variance."""
    references, output, variance = case.references, case.watched(), case.variance
    masks = removal_masks(case, references)

    def squares(part: Case) -> Tensor:
        return infidelity(output, part.x, _shares(part, references), masks, references) / variance

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
    """Mean |change| when noise moves the top k features, for k up to a quarter of all."""
    return _moved(case, important=True)


@metric("lower", "model", of=prediction_gap)
def pgu(case: Case) -> Score:
    """Mean |change| when noise moves all but the top k features, for k up to a quarter."""
    return _moved(case, important=False)


def _moved(case: Case, *, important: bool) -> Score:
    ends = torch.cat([torch.stack(part.aminmax(dim=0)) for part in case.population()])
    move, output = case.mover(STRENGTH * (ends.amax(0) - ends.amin(0)), MOVES), case.watched()

    def gaps(part: Case) -> Tensor:
        return prediction_gap(output, part.x, part.values, move(part.x), important=important)

    return case.score(gaps, MOVES, output=output)


@metric("higher", "model", of=area_over)
def deletion(case: Case) -> Score:
    """Area of the removal curve below a straight line; the largest values go first."""
    return _curve(case, insert=False)


@metric("higher", "model", of=area_over)
def insertion(case: Case) -> Score:
    """Area of the insertion curve above a straight line; the largest values come first."""
    return _curve(case, insert=True)


def _curve(case: Case, *, insert: bool) -> Score:
    references, output, sign = case.references, case.watched(), 1 if insert else -1

    def areas(part: Case) -> Tensor:
        order = (-part.values).argsort(dim=1, stable=True)
        return sign * area_over(removal_curve(output, part.x, order, references, insert=insert))

    return case.score(areas, references.shape[1], output=output)


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


@metric("lower", "model", "method", of=max_sensitivity)
def _max_sensitivity(case: Case) -> Score:
    """Largest relative change of the values within a tenth of a standard deviation."""
    total, output = CentralMoments.over(case.population()), case.watched()
    move = case.mover(RADIUS * (total.squares / total.rows).sqrt(), NEIGHBORS, uniform)
    method = partial(needed(case.method_on), needed(case.model))

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


@metric("lower", "model", "method", of=parameter_randomization)
def mprt(case: Case) -> Score:
    """Rank correlation with the values of models with randomized layers, mean over layers."""
    method_on, model = needed(case.method_on), needed(case.model)

    def correlation(part: Case) -> Tensor:  # each part draws the same models
        draws = case.draws()
        return parameter_randomization(method_on, model, part.x, part.values, draws).nanmean(0)

    return case.score(correlation)


@metric("none", of=gini_index)
def gini(case: Case) -> Score:
    """Gini index of the |values| of a sample: 0 all equal, near 1 a single one."""
    return case.score(lambda part: gini_index(part.values))


@metric("none", of=share_entropy)
def effective_features(case: Case) -> Score:
    """Exponential of the entropy of a sample's |values|: the number of equally large features."""
    return case.score(lambda part: share_entropy(part.values).exp())
