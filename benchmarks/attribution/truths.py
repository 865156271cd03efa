"""What is true of a formula: computed from the formula alone, without any method of kanlens."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from benchmarks.attribution.writing import Formula, Kink

AT_ONCE = 2**18  # rows a formula is given at a time
PANELS, POINTS = 4, 24  # of every smooth piece of a straight line


def shapley(formula: Formula, x: Tensor, background: Tensor) -> Tensor:
    """Return Shapley values (batch, in) from all coalitions of features [1]_.

    Absent features are taken from the background rows, over which outputs are averaged.

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
    worth = _worth(formula, x, background)
    sizes = torch.tensor([bin(members).count("1") for members in range(2**d)])
    values = torch.zeros_like(x)
    everyone = torch.arange(2**d)
    for i in range(d):
        without = everyone[everyone & 2**i == 0]
        weight = x.new_tensor([1 / (d * math.comb(d - 1, s)) for s in range(d)])
        gains = worth[:, without + 2**i] - worth[:, without]
        values[:, i] = gains @ weight[sizes[without]]
    return values


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
    """Return integrated gradients [1]_, averaged over straight lines from all background rows.

    Every line is cut where it crosses a kink, and each piece is integrated by 96 Gauss-Legendre
    points, which for what is smooth there is exact to rounding.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, Axiomatic Attribution for Deep Networks, 2017.
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
