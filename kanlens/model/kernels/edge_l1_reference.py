"""Mean absolute edge value in torch operations, over chunks of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kanlens.functions.catalog import BASES
from kanlens.model.edge_sum import Weights
from kanlens.splines import spline
from kanlens.splines.spline import Extrapolation

CHUNK = 2**20  # edge values held at once


def mean_size(
    x: Tensor,  # (batch, in)
    weights: Weights,
    *,
    grid: Tensor,  # (in, knot)
    degree: int,
    extrapolation: Extrapolation,
    base: str,
    again: bool = True,
) -> Tensor:  # (out, in)
    """Return the mean over the rows of |phi_oi(x_i)|, added up in float64.

    The values of the edges are held for some rows at a time, and with `again` computed once more
    for the gradient, so that memory does not grow with the batch.

    Examples
    --------
    >>> grid = spline.uniform_knots(2, -1.0, 1.0, 4, degree=3)
    >>> weights = Weights(
    ...     spline=-torch.ones(1, 2, 7), scale=None, base=torch.zeros(1, 2),
    ...     bias=torch.zeros(1), mask=torch.ones(1, 2),
    ... )
    >>> mean_size(
    ...     torch.zeros(5, 2), weights, grid=grid, degree=3, extrapolation="linear", base="silu"
    ... )
    tensor([[1., 1.]])
    """
    n_out, n_in = weights.base.shape

    def total(part: Tensor) -> Tensor:
        coef = weights.coefficients()
        values = spline.evaluate(part, coef, grid, degree, extrapolation=extrapolation)
        values = values + BASES[base].value(part).unsqueeze(1) * weights.base_weights()
        return values.double().abs().sum(0)

    parts = x.split(max(1, CHUNK // (n_in * n_out)))
    sums: Any = 0
    for part in parts:
        if again and len(parts) > 1 and torch.is_grad_enabled():
            sums = sums + checkpoint(total, part, use_reentrant=False, preserve_rng_state=False)
        else:
            sums = sums + total(part)
    mean: Tensor = sums / len(x)
    return mean.to(x.dtype)
