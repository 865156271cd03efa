"""Bounds of splines from the control points of their pieces."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import InvalidValueError
from kanlens.splines import spline
from kanlens.splines.control_points import chebyshev, from_nodes, to_bernstein


def bounds(
    coef: Tensor,  # (out, in, basis)
    knots: Tensor,  # (in, knot)
    degree: int,
    low: Tensor,  # (in,)
    high: Tensor,  # (in,)
    *,
    extrapolation: spline.Extrapolation = "zero",
) -> tuple[Tensor, Tensor]:  # (out, in) twice
    """Bound splines from below and above on an interval of each input.

    On every piece clipped to the interval the spline lies in the hull of its Bernstein control
    points [1]_; outside the grid the pieces are straight or zero, and their ends bound them.

    Parameters
    ----------
    coef : Tensor, shape (out, in, basis)
        Coefficients.
    knots : Tensor, shape (in, knot)
        Knots.
    degree : int
        Degree.
    low, high : Tensor, shape (in,)
        The interval of each input, ``low <= high``; its ends may be infinite.
    extrapolation : {"zero", "linear"}
        What the splines do outside the grid.

    Returns
    -------
    lower, upper : Tensor, shape (out, in)
        In the dtype of `coef`; computed in float64 and padded for rounding by 1e-12, and eight
        units in the last place of that dtype, of the control points' size.

    Raises
    ------
    InvalidValueError
        If an interval is empty.

    References
    ----------
    .. [1] G. Farin, Curves and Surfaces for CAGD, 2002, chapter 6.

    Examples
    --------
    >>> knots = spline.uniform_knots(1, 0.0, 1.0, 2, degree=1)
    >>> coef = torch.tensor([[[0.0, 1.0, 0.0]]])
    >>> lower, upper = bounds(coef, knots, 1, torch.tensor([0.0]), torch.tensor([0.5]))
    >>> upper.round(decimals=4), lower.round(decimals=4).abs()
    (tensor([[1.]]), tensor([[0.]]))
    """
    if not bool((low <= high).all()):
        raise InvalidValueError(
            message("bounds", "low <= high", "an empty interval", "Swap the ends")
        )
    dtype, coef, knots = coef.dtype, coef.double(), knots.double()
    low, high = low.to(knots), high.to(knots)
    cuts = spline.breakpoints(knots, degree) if extrapolation == "linear" else knots
    start = torch.where(low.isneginf(), torch.minimum(cuts[:, 0], high), low)
    end = torch.where(high.isposinf(), torch.maximum(cuts[:, -1], start), high)
    cuts = torch.cat([start[:, None], cuts, end[:, None]], dim=1)
    cuts = cuts.clamp(start[:, None], end[:, None]).sort(dim=1).values  # (in, cut)
    control = _bernstein(coef, knots, cuts, degree, extrapolation)
    pad = max(1e-12, 8 * torch.finfo(dtype).eps) * control.abs().amax((-2, -1))
    lower, upper = control.amin((-2, -1)) - pad, control.amax((-2, -1)) + pad
    if extrapolation == "linear":
        below, above = ((coef * slope).sum(-1) for slope in spline.end_slopes(knots, degree))
        left, right = low.isneginf(), high.isposinf()
        lower = lower.masked_fill((left & (below > 0)) | (right & (above < 0)), -torch.inf)
        upper = upper.masked_fill((left & (below < 0)) | (right & (above > 0)), torch.inf)
    return lower.to(dtype), upper.to(dtype)


def finite_size(lower: Tensor, upper: Tensor) -> Tensor:
    """Return the larger of two sizes, infinite ones aside.

    Examples
    --------
    >>> finite_size(torch.tensor([-3.0]), torch.tensor([torch.inf]))
    tensor([3.])
    """
    ends = torch.stack([lower, upper]).abs()
    return ends.masked_fill(ends.isinf(), 0.0).amax(0)


def _bernstein(
    coef: Tensor, knots: Tensor, cuts: Tensor, degree: int, extrapolation: spline.Extrapolation
) -> Tensor:  # (out, in, piece, degree + 1)
    """Return the Bernstein control points of every piece between `cuts`."""
    count = degree + 1
    half, middle = 0.5 * cuts.diff(dim=1), 0.5 * (cuts[:, 1:] + cuts[:, :-1])
    x = middle[..., None] + half[..., None] * chebyshev(count).to(cuts)
    values = spline.evaluate(x.flatten(1).mT, coef, knots, degree, extrapolation=extrapolation)
    shaped = values.permute(1, 2, 0).reshape(*coef.shape[:2], -1, count)
    return shaped @ (to_bernstein(count) @ from_nodes(count)).mT.to(coef)
