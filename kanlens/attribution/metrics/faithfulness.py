"""Sums of values, against what the output loses when features are removed or moved.

Removed features are replaced from references: the row that the attribution is counted from, or
rows of the background, over which the output is averaged. So an attribution that is exact for a
sum of functions of single features has no error here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Score, undefined
from kanlens.attribution.metrics.feature_perturbation import MOVES, noise
from kanlens.attribution.metrics.metric import Metric
from kanlens.attribution.metrics.points import (
    Function,
    evaluated,
    normal,
    slices,
    subsets,
    without,
)
from kanlens.attribution.metrics.rankings import correlation

SIZES = 4  # subset sizes of `sensitivity_n`
SUBSETS = 16  # of each size there
MASKS = 50  # subsets of `infidelity` and `faithfulness_correlation`


def subset_correlation(
    output: Function, x: Tensor, values: Tensor, masks: Tensor, references: Tensor
) -> Tensor:
    """Correlate, over subsets, the sum of values with the change when the subset is removed.

    Parameters
    ----------
    output : callable
        Maps (batch, in) to (batch,).
    x, values : Tensor, shape (batch, in)
        Samples and their attribution.
    masks : Tensor of bool, shape (subset, in)
        The subsets, usually of one size.
    references : Tensor, shape (rows, in)
        What replaces removed features; the output is averaged over them.

    Returns
    -------
    Tensor, shape (batch,)
        From -1 to 1; NaN where one side does not vary.

    References
    ----------
    .. [1] M. Ancona et al., Towards better understanding of gradient-based attribution methods for
       Deep Neural Networks, 2018.
    .. [2] U. Bhatt, A. Weller, J. Moura, Evaluating and Aggregating Feature-based Model
       Explanations, 2020.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 2.0, 5.0]])
    >>> subset_correlation(lambda x: x.sum(1), x, x, torch.eye(3).bool(), torch.zeros(1, 3))
    tensor([1.])
    """
    change = removal_changes(output, x, masks, references)
    return correlation(values @ masks.to(values).mT, change)


def removal_changes(output: Function, x: Tensor, masks: Tensor, references: Tensor) -> Tensor:
    """Return what the output loses when the features of each mask are removed: (batch, mask)."""
    return evaluated(output, x)[:, None] - without(output, x, masks, references)


def fitted_error(said: Tensor, change: Tensor, *, scaled: bool = False, dim: int = 0) -> Tensor:
    """Return the mean of (said - change)^2; `scaled`: after the best scaling of `said`.

    Examples
    --------
    >>> said, change = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])
    >>> fitted_error(said, change), fitted_error(said, change, scaled=True)
    (tensor(2.5000), tensor(0.))
    """
    if scaled:
        size = said.square().mean(dim)
        beta = (said * change).mean(dim) / torch.where(size > 0, size, 1.0)
        said = said * beta.unsqueeze(dim)
    return (said - change).square().mean(dim)


def infidelity(
    output: Function,
    x: Tensor,
    values: Tensor,
    perturbed: Tensor,
    *,
    reference: Tensor | None = None,
    scaled: bool = False,
) -> Tensor:
    """Return the infidelity to perturbations of the samples.

    It is the mean over I of (I . a - (F(x) - F(x - I)))^2. Values that already hold the distance
    from a reference are divided by it: I / (x - reference) stands in for I, and I itself where the
    distance is zero. Captum's is the same, with its decorator's flag on.

    Parameters
    ----------
    output : callable
        Maps (batch, in) to (batch,).
    x, values : Tensor, shape (batch, in)
        Samples and their attribution.
    perturbed : Tensor, shape (draws, batch, in)
        The points x - I.
    reference : Tensor, shape (in,) or (batch, in), optional
        What the values are counted from; None when they are slopes.
    scaled : bool
        Multiply each sample's values by the number that makes its infidelity smallest.

    Returns
    -------
    Tensor, shape (batch,)
        In the squared units of the output, 0 at best.

    References
    ----------
    .. [1] C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> infidelity(lambda x: x.sum(1), x, torch.ones(1, 2), x + torch.rand(9, 1, 2)).round()
    tensor([0.])
    """
    step = x - perturbed
    if reference is not None:
        distance = x - reference
        step = step / torch.where(distance != 0, distance, 1.0)
    said = (step * values).sum(-1)
    change = evaluated(output, x) - evaluated(output, perturbed)
    return fitted_error(said, change, scaled=scaled)


def removal_infidelity(
    output: Function,
    x: Tensor,
    values: Tensor,
    masks: Tensor,
    references: Tensor,
    *,
    scaled: bool = False,
) -> Tensor:
    """Return the infidelity to removals: I is x - b on a subset, and I / (x - b) its mask.

    Parameters
    ----------
    output, x, values, masks, references
        As for `subset_correlation`.
    scaled : bool
        As for `infidelity`.

    Returns
    -------
    Tensor, shape (batch,)
        In the squared units of the output, 0 at best.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> removal_infidelity(lambda x: x.sum(1), x, x, torch.eye(2).bool(), torch.zeros(1, 2))
    tensor([0.])
    """
    change = removal_changes(output, x, masks, references)
    return fitted_error(values @ masks.to(values).mT, change, scaled=scaled, dim=1)


# --- the metrics ---------------------------------------------------------------------------------


def sensitivity_n(case: Case) -> Score:
    """Correlation over subsets of one size, mean over at most 4 sizes from 1 to all but one."""
    n_in = case.values.shape[1]
    spaced = torch.linspace(1, max(1, n_in - 1), min(SIZES, max(1, n_in - 1)))
    return _correlated(case, [int(size.round()) for size in spaced], SUBSETS)


def faithfulness_correlation(case: Case) -> Score:
    """Correlation over 50 subsets of half the features."""
    return _correlated(case, [max(1, case.values.shape[1] // 2)], MASKS)


def _correlated(case: Case, sizes: list[int], draws: int) -> Score:
    x, references = case.x, case.references
    if not case.has_output or x is None or references is None:
        return undefined(case)
    generator, output = case.draws(), case.watched()
    masks = [subsets(x.shape[1], size, draws, generator).to(x.device) for size in sizes]
    values = _shares(case, x, references)
    parts = [subset_correlation(output, x, values, mask, references) for mask in masks]
    return Score.of(torch.stack(parts).nanmean(0), offgrid=output.share)


def removal_error(case: Case) -> Score:
    """Infidelity to 50 random removals, in variances of the output."""
    return _removed(case, scaled=False)


def removal_error_scaled(case: Case) -> Score:
    """As `removal_error`, after the best scaling of each sample's values."""
    return _removed(case, scaled=True)


def _removed(case: Case, *, scaled: bool) -> Score:
    x, references = case.x, case.references
    if not case.has_output or x is None or references is None:
        return undefined(case)
    if "removals" not in case.kept:  # the same for both metrics
        output, masks = case.watched(), removal_masks(case, x)
        change = removal_changes(output, x, masks, references)
        case.kept["removals"] = (masks, change, output.share)
    masks, change, offgrid = case.kept["removals"]
    said = _shares(case, x, references) @ masks.to(x).mT
    error = fitted_error(said, change, scaled=scaled, dim=1)
    return Score.of(error / case.variance, offgrid=offgrid)


def removal_masks(case: Case, x: Tensor) -> Tensor:
    """Return 50 random subsets that hold each feature with probability 1/2, none of them empty.

    All subsets when there are fewer; shape (subset, in).
    """
    n_in, generator = x.shape[1], case.draws()
    if 2**n_in - 1 <= MASKS:
        sizes = range(1, n_in + 1)
        return torch.cat([subsets(n_in, k, MASKS, generator) for k in sizes]).to(x.device)
    masks = normal((MASKS, n_in), generator) > 0
    masks[~masks.any(1)] = True
    return masks.to(x.device)


def noise_error(case: Case) -> Score:
    """Infidelity to Gaussian noise of a tenth of each range, in variances of the output."""
    x, references, move = case.x, case.references, noise(case)
    if not case.has_output or x is None or references is None or move is None:
        return undefined(case)
    values, output = case.values, case.watched()
    reference = None if case.slopes else references.mean(0)
    parts = [
        infidelity(output, x[part], values[part], move(x[part]), reference=reference)
        for part in slices(len(x), MOVES * x.shape[1])
    ]
    return Score.of(torch.cat(parts) / case.variance, "median", offgrid=output.share)


def _shares(case: Case, x: Tensor, references: Tensor) -> Tensor:
    """Return the values as shares of the change; slopes are multiplied by the distance."""
    return case.values * (x - references.mean(0)) if case.slopes else case.values


_ANCONA = (
    "M. Ancona et al., Towards better understanding of gradient-based attribution methods for "
    "Deep Neural Networks, 2018"
)
_BHATT = "U. Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, 2020"
_YEH = "C.-K. Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019"

METRICS = (
    Metric(
        name="sensitivity_n",
        function=sensitivity_n,
        direction="higher",
        cost="64 removals a sample",
        needs=frozenset({"model"}),
        reference=_ANCONA,
        summary="correlation of value and change over subsets of n features, mean over n",
    ),
    Metric(
        name="faithfulness_correlation",
        function=faithfulness_correlation,
        direction="higher",
        cost="50 removals a sample",
        needs=frozenset({"model"}),
        reference=_BHATT,
        summary="correlation of value and change over subsets of half the features",
    ),
    Metric(
        name="infidelity",
        function=removal_error,
        direction="lower",
        cost="50 removals a sample",
        needs=frozenset({"model"}),
        reference=_YEH,
        summary="mean square of value less change over removals, in variances of F",
    ),
    Metric(
        name="infidelity_scaled",
        function=removal_error_scaled,
        direction="lower",
        cost="50 removals a sample",
        needs=frozenset({"model"}),
        reference=_YEH,
        summary="infidelity after the best scaling of each sample's values",
    ),
    Metric(
        name="infidelity_noise",
        function=noise_error,
        direction="lower",
        cost="100 evaluations a sample",
        needs=frozenset({"model"}),
        reference=_YEH,
        summary="infidelity to noise of a tenth of each range, median over samples",
    ),
)
