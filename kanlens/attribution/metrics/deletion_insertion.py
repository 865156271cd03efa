"""Deletion and insertion: the output as features are removed, or put in, one after the other."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Score, undefined
from kanlens.attribution.metrics.metric import Metric
from kanlens.attribution.metrics.points import Function, slices, without
from kanlens.attribution.metrics.rankings import order_by_size


def removal_curve(
    output: Function, x: Tensor, order: Tensor, references: Tensor, *, insert: bool = False
) -> Tensor:
    """Return the output after the first 0, 1, ..., all features of an order are removed.

    Parameters
    ----------
    output : callable
        Maps (batch, in) to (batch,).
    x : Tensor, shape (batch, in)
        The samples.
    order : Tensor of int, shape (batch, in)
        Features of each sample, the first to go first.
    references : Tensor, shape (rows, in)
        What replaces them; the output is averaged over these.
    insert : bool
        Begin without any feature, and put them in.

    Returns
    -------
    Tensor, shape (batch, in + 1)

    References
    ----------
    .. [1] V. Petsiuk, A. Das, K. Saenko, RISE: Randomized Input Sampling for Explanation of
       Black-box Models, 2018.

    Examples
    --------
    >>> x, order = torch.tensor([[1.0, 2.0]]), torch.tensor([[1, 0]])
    >>> removal_curve(lambda x: x.sum(1), x, order, torch.zeros(1, 2))
    tensor([[3., 1., 0.]])
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

    Examples
    --------
    >>> area_over(torch.tensor([[0.0, 1.0, 1.0]]))
    tensor([0.2500])
    """
    steps = torch.linspace(0, 1, curve.shape[1], device=curve.device, dtype=curve.dtype)
    line = curve[:, :1] + (curve[:, -1:] - curve[:, :1]) * steps
    return torch.trapezoid(curve - line, steps, dim=1)


def change_area(curve: Tensor) -> Tensor:
    """Return the |distance| of a curve from where it begins, mean over its length.

    Examples
    --------
    >>> change_area(torch.tensor([[3.0, 1.0, 1.0]]))
    tensor([1.5000])
    """
    return torch.trapezoid((curve - curve[:, :1]).abs(), dim=1) / (curve.shape[1] - 1)


# --- the metrics ---------------------------------------------------------------------------------


def deletion(case: Case) -> Score:
    """Area under the straight line while features go, the largest value first (ABC)."""
    order = (-case.values).argsort(dim=1, stable=True)
    return _scored(case, order, lambda curve: -area_over(curve))


def insertion(case: Case) -> Score:
    """Area over the straight line while features come, the largest value first (ABC)."""
    order = (-case.values).argsort(dim=1, stable=True)
    return _scored(case, order, area_over, insert=True)


def morf(case: Case) -> Score:
    """Mean |change| of the output while features go, the largest |value| first."""
    return _scored(case, order_by_size(case.values), change_area)


def lerf(case: Case) -> Score:
    """Mean |change| of the output while features go, the smallest |value| first."""
    return _scored(case, order_by_size(case.values).flip(1), change_area)


def _scored(case: Case, order: Tensor, area: Function, *, insert: bool = False) -> Score:
    x, references = case.x, case.references
    if not case.has_output or x is None or references is None:
        return undefined(case)
    output = case.watched()
    parts = [
        area(removal_curve(output, x[part], order[part], references, insert=insert))
        for part in slices(len(x), x.shape[1] ** 2)
    ]
    return Score.of(torch.cat(parts), offgrid=output.share)


_COST = "one removal for each feature of a sample"
_HAMA = "N. Hama, M. Mase, A. Owen, Deletion and Insertion Tests in Regression Models, 2023"
_SAMEK = (
    "W. Samek et al., Evaluating the visualization of what a Deep Neural Network has learned, 2017"
)

METRICS = (
    Metric(
        name="deletion",
        function=deletion,
        direction="higher",
        cost=_COST,
        needs=frozenset({"model"}),
        reference=_HAMA,
        summary="area under the straight line as features go, the largest value first",
    ),
    Metric(
        name="insertion",
        function=insertion,
        direction="higher",
        cost=_COST,
        needs=frozenset({"model"}),
        reference=_HAMA,
        summary="area over the straight line as features come, the largest value first",
    ),
    Metric(
        name="morf",
        function=morf,
        direction="higher",
        cost=_COST,
        needs=frozenset({"model"}),
        reference=_SAMEK,
        summary="mean |change| as features go, the largest |value| first",
    ),
    Metric(
        name="lerf",
        function=lerf,
        direction="lower",
        cost=_COST,
        needs=frozenset({"model"}),
        reference=_SAMEK,
        summary="mean |change| as features go, the smallest |value| first",
    ),
)
