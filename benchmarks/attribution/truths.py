"""What is true of a formula: computed from the formula alone, without any method of kanlens."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from benchmarks.attribution.planted import Formula, Kink, Planted

__all__ = ["integrated_gradients", "interactions", "shapley", "sobol"]

AT_ONCE = 2**18  # rows a formula is given at a time
PANELS, POINTS = 4, 24  # of every smooth piece of a straight line


def shapley(formula: Formula, x: Tensor, background: Tensor) -> Tensor:
    """Return Shapley values from all coalitions, absent features taken from background rows.

    Parameters
    ----------
    formula : callable
        From (batch, in) to (batch,).
    x : Tensor, shape (batch, in)
        Samples.
    background : Tensor, shape (rows, in)
        What absent features are taken from; outputs are averaged over it.

    Returns
    -------
    Tensor, shape (batch, in)

    References
    ----------
    .. [1] L. Shapley, A value for n-person games, 1953.

    Examples
    --------
    >>> x = torch.tensor([[2.0, 3.0]])
    >>> shapley(lambda x: x[:, 0] * x[:, 1], x, torch.zeros(1, 2))
    tensor([[3., 3.]])
    """
    d = x.shape[1]
    worth, sizes = _worth(formula, x, background), _sizes(d)
    values = torch.zeros_like(x)
    everyone = torch.arange(2**d)
    for i in range(d):
        without = everyone[everyone & 2**i == 0]
        weight = x.new_tensor([1 / (d * math.comb(d - 1, s)) for s in range(d)])
        gains = worth[:, without + 2**i] - worth[:, without]
        values[:, i] = gains @ weight[sizes[without]]
    return values


def interactions(formula: Formula, x: Tensor, background: Tensor) -> Tensor:
    """Return the Shapley interaction index of every pair of features; zeros on the diagonal.

    Returns
    -------
    Tensor, shape (batch, in, in)

    References
    ----------
    .. [1] M. Grabisch, M. Roubens, An axiomatic approach to the concept of interaction among
       players in cooperative games, 1999.

    Examples
    --------
    >>> x = torch.tensor([[2.0, 3.0]])
    >>> interactions(lambda x: x[:, 0] * x[:, 1], x, torch.zeros(1, 2))[0, 0]
    tensor([0., 6.])
    """
    d = x.shape[1]
    worth, sizes = _worth(formula, x, background), _sizes(d)
    values = x.new_zeros(len(x), d, d)
    everyone = torch.arange(2**d)
    weight = x.new_tensor([1 / ((d - 1) * math.comb(d - 2, s)) for s in range(d - 1)])
    for i in range(d):
        for j in range(i):
            a, b = 2**i, 2**j
            rest = everyone[everyone & (a + b) == 0]
            gains = worth[:, rest + a + b] - worth[:, rest + a] - worth[:, rest + b]
            values[:, i, j] = (gains + worth[:, rest]) @ weight[sizes[rest]]
            values[:, j, i] = values[:, i, j]
    return values


def _sizes(d: int) -> Tensor:
    """Return the number of members of every coalition, which are the bits of its number."""
    return torch.tensor([bin(members).count("1") for members in range(2**d)])


def _worth(formula: Formula, x: Tensor, background: Tensor) -> Tensor:  # (batch, 2^in)
    """Return the mean output over the background for every coalition."""
    d = x.shape[1]
    present = (torch.arange(2**d)[:, None] >> torch.arange(d)) & 1 == 1  # (coalition, in)
    found = []
    for sample in x:
        mixed = torch.where(present[:, None], sample, background)  # (coalition, row, in)
        rows = mixed.reshape(-1, d).split(AT_ONCE)
        outputs = torch.cat([formula(part) for part in rows])
        found.append(outputs.reshape(len(present), -1).mean(1))
    return torch.stack(found)


def integrated_gradients(
    formula: Formula, x: Tensor, background: Tensor, kinks: tuple[Kink, ...] = ()
) -> Tensor:
    """Return integrated gradients, averaged over straight lines from all background rows.

    Every line is cut where it crosses a kink, and each piece is integrated by 96 Gauss-Legendre
    points, which for what is smooth there is exact to rounding.

    Parameters
    ----------
    formula, x, background
        As for `shapley`; the formula is differentiated by torch.
    kinks : tuple
        As of a `Planted`.

    Returns
    -------
    Tensor, shape (batch, in)

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017.

    Examples
    --------
    >>> x = torch.tensor([[2.0, 3.0]])
    >>> integrated_gradients(lambda x: x[:, 0] * x[:, 1], x, torch.zeros(1, 2)).round(decimals=5)
    tensor([[3., 3.]])
    """
    values = torch.zeros_like(x)
    for row in background:
        step = x - row
        ends = torch.cat([torch.zeros(len(x), 1), torch.ones(len(x), 1)], 1).to(x)
        crossings = [_crossing(step, row, kink) for kink in kinks]
        ends = torch.cat([ends, *crossings], 1).sort(1).values  # (batch, piece + 1)
        t, weights = _rule(ends)
        points = row + t[..., None] * step[:, None]  # (batch, point, in)
        slopes = _gradient(formula, points.reshape(-1, x.shape[1])).reshape(points.shape)
        values += step * torch.einsum("bp,bpi->bi", weights, slopes) / len(background)
    return values


def _crossing(step: Tensor, row: Tensor, kink: Kink) -> Tensor:  # (batch, 1)
    """Return where on its line from `row` each sample crosses a kink, 0 where it does not."""
    weights, place = kink
    slope = torch.stack([weight * step[:, i] for i, weight in weights.items()]).sum(0)
    start = sum(weight * float(row[i]) for i, weight in weights.items())
    t = (place - start) / slope
    return torch.where((t > 0) & (t < 1), t, 0.0)[:, None]


def _rule(ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return points and weights (batch, point) of a rule on every piece between `ends`."""
    places, weights = (torch.as_tensor(each) for each in np.polynomial.legendre.leggauss(POINTS))
    shares = (torch.arange(PANELS)[:, None] + (1 + places) / 2).flatten() / PANELS
    parts = (weights / (2 * PANELS)).repeat(PANELS)
    length = ends.diff(dim=1)[..., None]
    t = ends[:, :-1, None] + length * shares.to(ends)
    return t.flatten(1), (length * parts.to(ends)).flatten(1)


def _gradient(formula: Formula, x: Tensor) -> Tensor:
    free = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(formula(free).sum(), free)[0]


@lru_cache(maxsize=64)
def sobol(case: Planted) -> tuple[Tensor, Tensor]:
    """Return first and total Sobol indices for independent features, spread evenly.

    By the closed form where there is one, else by `sobol_by_quadrature`. Features that the law
    ties together are taken apart.

    Returns
    -------
    tuple of Tensor, each of shape (in,)
    """
    if case.closed is None:
        return sobol_by_quadrature(case)
    first, total = (torch.tensor(each, dtype=torch.float64) for each in case.closed())
    return first, total


def sobol_by_quadrature(case: Planted) -> tuple[Tensor, Tensor]:
    """Return first and total Sobol indices from a Gauss-Legendre grid over all that matters.

    Features are cut where a kink of theirs alone lies.

    References
    ----------
    .. [1] T. Homma, A. Saltelli, Importance measures in global sensitivity analysis of nonlinear
       models, 1996.
    """
    live = [i for i in range(case.inputs) if i not in case.null]
    places, weights = zip(*(_axis(case, i) for i in live), strict=True)
    grid = torch.meshgrid(*places, indexing="ij")
    x = torch.zeros(grid[0].numel(), case.inputs, dtype=torch.float64)
    x[:, live] = torch.stack([each.flatten() for each in grid], 1)
    values = torch.cat([case.formula(part) for part in x.split(AT_ONCE)]).reshape(grid[0].shape)

    def mean(table: Tensor, axes: list[int]) -> Tensor:
        """Average over some axes, which stay with one place."""
        for axis in axes:
            shape = [-1 if each == axis else 1 for each in range(len(live))]
            table = (table * weights[axis].reshape(shape)).sum(axis, keepdim=True)
        return table

    axes = list(range(len(live)))
    values = values - mean(values, axes)
    whole = float(mean(values.square(), axes))
    first, total = (torch.zeros(case.inputs, dtype=torch.float64) for _ in range(2))
    for axis, feature in enumerate(live):
        others = [each for each in axes if each != axis]
        first[feature] = float(mean(mean(values, others).square(), axes)) / whole
        total[feature] = 1 - float(mean(mean(values, [axis]).square(), axes)) / whole
    return first, total


def _axis(case: Planted, feature: int) -> tuple[Tensor, Tensor]:
    """Return places of a feature and their weights, which add up to 1."""
    low, high = case.domain[feature]
    cuts = {place / form[feature] for form, place in case.kinks if set(form) == {feature}}
    ends = torch.tensor(sorted({low, high, *cuts}), dtype=torch.float64)
    steps = torch.arange(case.panels + 1).double() / case.panels
    fine = torch.cat([(ends[:-1, None] + ends.diff()[:, None] * steps[:-1]).flatten(), ends[-1:]])
    places, weights = (
        torch.as_tensor(each) for each in np.polynomial.legendre.leggauss(case.points)
    )
    length = fine.diff()[:, None]
    x = fine[:-1, None] + length * (1 + places) / 2
    return x.flatten(), (length * weights / 2).flatten() / (high - low)
