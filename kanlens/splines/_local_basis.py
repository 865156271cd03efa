"""Piecewise-polynomial form of the B-spline basis: the functions nonzero in each interval."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.splines._spline import Extrapolation

Array = np.ndarray[Any, np.dtype[Any]]

EVEN = 0.45  # of a piece: distance of a knot from even spacing below which pieces are guessed
TILE = 256  # numbers of x whose pieces are guessed in one loop; at least those of one row


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalBasis:
    """Power form of the B-spline basis on each knot interval, and beyond the outer ones.

    The real line is cut into pieces: one per knot interval with a nonzero basis function, and one
    beyond either end. In a piece, u = (x - origin) * scale and the functions ``first + k``, for k
    from 0 to degree, are polynomials of u; every other function is zero. Between knots u goes from
    -0.5 to 0.5, about the middle of the piece, where polynomials lose the fewest digits; but where
    splines decay to zero, u is 0 at the outermost knots, so that they are exactly zero there.
    `rows` is the number of inputs, or 1 when all have the same knots. `powers` has coefficients of
    u to the power p in the order row, piece, p, nonzero function, then zeros as vector padding.
    """

    knots: Tensor  # (in, knot), from which the other fields are computed
    starts: Array  # (rows * piece,), of each piece; the first at minus infinity
    ends: Array  # (rows * piece,), where the next piece begins; NaN for the last
    origins: Array  # (rows * piece,)
    scales: Array  # (rows * piece,)
    first: Array  # (piece,), int64: first nonzero function
    powers: Array  # (rows * piece * (degree + 1) * (degree + 1) + degree,)
    low: Array  # (rows,)
    density: Array  # (rows,): (x - low) * density rounds down to a guess of the piece of x
    sure: float  # distance from a piece's middle, in pieces, up to which the guess is right; or 0
    stride: int  # pieces from one input to the next; 0 when all share one row
    degree: int
    window: tuple[int, ...]  # zeros; the length, degree + 1, is part of the kernels' types
    extrapolation: Extrapolation

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return len(self.first)

    def evaluate(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the index of the first nonzero function at x (in, batch), and all nonzero values.

        All have the shape of x. Differentiable in x; NaN gives NaN.
        """
        n = self.degree + 1
        starts, origins, scales, table = (
            torch.from_numpy(array).to(x)
            for array in (self.starts, self.origins, self.scales, self.powers)
        )
        cuts = starts.view(len(self.low), -1)[:, 1:].expand(len(x), -1).contiguous()
        piece = torch.searchsorted(cuts, x.detach().contiguous(), right=True)
        at = piece + self.stride * torch.arange(len(x), device=x.device)[:, None]
        u = ((x - origins[at]) * scales[at]).unsqueeze(-1)
        powers = table[: len(table) - self.degree].view(-1, n, n)[at].unbind(-2)
        values = functools.reduce(lambda total, row: total * u + row, reversed(powers))
        return torch.from_numpy(self.first).to(x.device)[piece], list(values.unbind(-1))

    @functools.cached_property
    def arrays(self) -> tuple[Any, ...]:
        """The arrays that kernels take, in the order of their arguments."""
        pieces = self.starts, self.ends, self.origins, self.scales, self.first, self.powers
        n_in, rows = len(self.knots), len(self.low)
        tile = n_in // rows * max(1, TILE // n_in)  # numbers of x in one loop
        cuts = self.starts[:0] if self.sure else self.starts.reshape(rows, -1)[:, 1:].T
        tiles = (np.tile(row, tile).ravel() for row in (self.low, self.density, cuts))
        return *pieces, self.stride, (*tiles, self.sure)


def local_basis(knots: Tensor, degree: int, *, extrapolation: Extrapolation) -> LocalBasis:
    """Return the local form of the B-spline basis on increasing knots (in, knot).

    Arrays are in the dtype of `knots`, and computed in float64.
    """
    with torch.inference_mode(False):  # so that autograd can save them later
        knots = knots.detach().clone().cpu()
    shared = bool((knots == knots[:1]).all())
    rows = (knots[:1] if shared else knots).double().numpy()
    number = knots.numpy().dtype
    linear = extrapolation == "linear"
    powers = _polynomials(rows, degree)
    cuts = rows[:, degree : rows.shape[1] - degree] if linear else rows
    first, powers = _continued(powers, degree) if linear else _run_out(powers, degree)
    width = np.diff(cuts)
    scales = 1 / np.concatenate([width[:, :1], width, width[:, -1:]], axis=1)
    share = np.full(width.shape[1], 0.5)
    if not linear:
        share[0], share[-1] = 0.0, 1.0
        scales[:, 0] = scales[:, -1] = 0.0  # so that a far point stays finite where all is zero
    inside = (cuts[:, :-1] + share * width).astype(number).astype(np.float64)
    _move(powers[:, 1:-1], (inside - cuts[:, :-1]) / width)
    origins = np.concatenate([cuts[:, :1], inside, cuts[:, -1:]], axis=1)
    starts = np.concatenate([np.full_like(cuts[:, :1], -np.inf), cuts], axis=1).astype(number)
    end = rows.shape[1] - degree - (degree if linear else 0)  # the grid's end is in its last piece
    starts[:, end] = np.nextafter(starts[:, end], number.type(np.inf))
    ends = np.concatenate([starts[:, 1:], np.full_like(starts[:, :1], np.nan)], axis=1)
    density = width.shape[1] / (cuts[:, -1] - cuts[:, 0])
    away = np.abs((cuts - cuts[:, :1]) * density[:, None] - np.arange(cuts.shape[1])).max()
    digits = 4 * np.finfo(number).eps * (cuts.shape[1] + np.abs(cuts * density[:, None]).max())

    def flat(values: Array) -> Array:
        return np.ascontiguousarray(values, dtype=number).ravel()

    return LocalBasis(
        knots=knots,
        starts=flat(starts),
        ends=flat(ends),
        origins=flat(origins),
        scales=flat(scales),
        first=first,
        powers=np.pad(flat(powers), (0, degree)),
        low=flat(cuts[:, 0] - 1 / density),
        density=flat(density),
        sure=float(max(0.0, 0.5 - away - digits)) if away < EVEN else 0.0,
        stride=0 if shared else len(first),
        degree=degree,
        window=(0,) * (degree + 1),
        extrapolation=extrapolation,
    )


def _polynomials(knots: Array, degree: int) -> Array:  # (rows, interval, power, function)
    """Return the nonzero basis functions of every knot interval, as coefficients of powers of u.

    u runs from 0 to 1 over the interval, by the Cox-de Boor recursion. In interval c, these are
    the functions c - degree to c, even if the basis has none of that index.
    """
    gap = np.diff(knots)
    more = np.arange(1, degree + 1)
    before, after = knots[:, :1] - gap[:, :1] * more[::-1], knots[:, -1:] + gap[:, -1:] * more
    t = np.concatenate([before, knots, after], axis=1)
    at = np.arange(gap.shape[1]) + degree  # of the interval's left end in t
    powers = np.zeros((len(knots), gap.shape[1], degree + 1, degree + 1))
    powers[:, :, 0, 0] = 1.0
    for p in range(1, degree + 1):
        lower, powers = powers, np.zeros_like(powers)
        for k in range(p):  # function at - p + 1 + k of degree p - 1
            left, right = t[:, at - p + 1 + k], t[:, at + 1 + k]
            start, slope = (t[:, at] - left) / (right - left), gap / (right - left)
            rising = start[..., None] * lower[..., k]
            rising[..., 1:] += slope[..., None] * lower[..., :-1, k]
            powers[..., k + 1] += rising
            powers[..., k] += lower[..., k] - rising
    return powers


def _move(powers: Array, share: Array) -> None:
    """Expand polynomials (row, piece, power, function) about u = share (row, piece), in place."""
    degree = powers.shape[2] - 1
    for p in range(degree):
        for q in range(degree - 1, p - 1, -1):
            powers[:, :, q] += share[:, :, None] * powers[:, :, q + 1]


def _continued(powers: Array, degree: int) -> tuple[Array, Array]:
    """Return first functions and polynomials on the grid, continued linearly beyond both ends."""
    inside = powers[:, degree : powers.shape[1] - degree]
    left, right = np.zeros_like(inside[:, :1]), np.zeros_like(inside[:, :1])
    left[:, :, :2] = inside[:, :1, :2]
    right[:, 0, 0] = inside[:, -1].sum(1)
    right[:, 0, 1] = (inside[:, -1] * np.arange(degree + 1)[:, None]).sum(1)
    first = np.arange(inside.shape[1])
    powers = np.concatenate([left, inside, right], axis=1)
    return np.concatenate([first[:1], first, first[-1:]]), powers


def _run_out(powers: Array, degree: int) -> tuple[Array, Array]:
    """Return first functions and polynomials on all knot intervals, and zero beyond both ends."""
    intervals = powers.shape[1]
    last = intervals - 2 * degree - 1  # first function of the last interval of the grid
    wanted = np.arange(intervals) - degree
    first = wanted.clip(0, last)
    whole = np.zeros((len(powers), intervals + 2, degree + 1, degree + 1))
    for c, (have, ask) in enumerate(zip(wanted, first, strict=True)):
        for k in range(degree + 1):
            if 0 <= k + ask - have <= degree:
                whole[:, c + 1, :, k] = powers[:, c, :, k + ask - have]
    return np.concatenate([first[:1], first, first[-1:]]), whole
