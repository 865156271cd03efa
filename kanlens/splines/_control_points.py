"""Edges on boxes as control points of polynomials, with margins.

Control points of several edges of one input can be added before their hull is taken.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class ControlPoints:
    """Every edge of a layer on boxes of its inputs, piece by piece.

    On a piece, an edge is the polynomial with these Bernstein control points, plus a number between
    `below` and `above`; `lower` and `upper` are other bounds on the box.
    """

    points: Tensor  # (box, out, in, piece, point)
    below: Tensor  # (box, out, in, piece)
    above: Tensor  # (box, out, in, piece)
    start: Tensor  # (box, in, piece)
    end: Tensor  # (box, in, piece)
    lower: Tensor  # (box, out, in)
    upper: Tensor  # (box, out, in)

    def bounds(self) -> tuple[Tensor, Tensor]:  # (box, out, in) twice
        """Bound every edge on its box by the hull of its control points."""
        low = (self.points.amin(-1) + self.below).amin(-1)
        high = (self.points.amax(-1) + self.above).amax(-1)
        return torch.maximum(low, self.lower), torch.minimum(high, self.upper)


@functools.cache
def chebyshev(count: int) -> Tensor:  # (count,)
    """Return the Chebyshev nodes in (-1, 1), where polynomials are sampled."""
    places = torch.arange(count, dtype=torch.float64)
    return torch.cos((2 * places + 1) * math.pi / (2 * count))


@functools.cache
def from_nodes(count: int) -> Tensor:  # (power, node)
    """Return the matrix from values at the Chebyshev nodes to coefficients of powers."""
    powers = torch.arange(count, dtype=torch.float64)
    inverse: Tensor = torch.linalg.inv(chebyshev(count)[:, None] ** powers)
    return inverse


@functools.cache
def to_bernstein(count: int) -> Tensor:  # (point, power)
    """Return the matrix from coefficients of powers on [-1, 1] to Bernstein control points."""
    degree = count - 1
    rows = [[0.0] * count for _ in range(count)]
    for power in range(count):  # s**power with s = 2 t - 1, in powers of t, then to Bernstein
        for k in range(power + 1):
            term = math.comb(power, k) * 2.0**k * (-1.0) ** (power - k)
            for point in range(k, count):
                rows[point][power] += term * math.comb(point, k) / math.comb(degree, k)
    return torch.tensor(rows, dtype=torch.float64)


def restrict(middle: Tensor, half: Tensor, count: int) -> Tensor:  # (..., point, power)
    """Return the matrices from `count` coefficients on [-1, 1] to control points on parts of it.

    The parts are given by their middles and half their widths, of shape (...).
    """
    exponents = torch.arange(count, dtype=torch.float64, device=middle.device)
    shifts = middle[..., None] ** exponents  # 0**0 is 1
    widths = half[..., None] ** exponents
    shifted = middle.new_zeros(*middle.shape, count, count)  # (..., new power, old power)
    for new in range(count):
        for old in range(new, count):
            shifted[..., new, old] = math.comb(old, new) * shifts[..., old - new] * widths[..., new]
    return to_bernstein(count).to(middle) @ shifted
