"""Deletion and insertion: the output as features are removed, or put in, one after the other."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from kanlens.attribution.metrics.case import Case, Score, metric
from kanlens.attribution.metrics.points import Function, slices, without
from kanlens.attribution.metrics.rankings import order_by_size

_COST = "one removal for each feature of a sample"
_SAMEK = (
    "W. Samek et al., Evaluating the visualization of what a Deep Neural Network has learned, 2017"
)


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

_balanced = partial(metric, "higher", "model", cost=_COST, of=area_over)


@_balanced()
def deletion(case: Case) -> Score:
    """Area under the straight line as features go, the largest value first (ABC)."""
    order = (-case.values).argsort(dim=1, stable=True)
    return _scored(case, order, lambda curve: -area_over(curve))


@_balanced()
def insertion(case: Case) -> Score:
    """Area over the straight line as features come, the largest value first (ABC)."""
    order = (-case.values).argsort(dim=1, stable=True)
    return _scored(case, order, area_over, insert=True)


@metric("higher", "model", cost=_COST, reference=_SAMEK)
def morf(case: Case) -> Score:
    """Mean |change| of the output as features go, the largest |value| first."""
    return _scored(case, order_by_size(case.values), change_area)


@metric("lower", "model", cost=_COST, reference=_SAMEK)
def lerf(case: Case) -> Score:
    """Mean |change| of the output as features go, the smallest |value| first."""
    return _scored(case, order_by_size(case.values).flip(1), change_area)


def _scored(case: Case, order: Tensor, area: Function, *, insert: bool = False) -> Score:
    x, references, output = case.x, case.references, case.watched()
    parts = [
        area(removal_curve(output, x[part], order[part], references, insert=insert))
        for part in slices(len(x), x.shape[1] ** 2)
    ]
    return Score.of(torch.cat(parts), offgrid=output.share)
