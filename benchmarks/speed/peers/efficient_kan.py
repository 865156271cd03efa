"""efficient-kan's formulation, written out: the recursion over whole arrays, then two products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.speed.problem import Problem
from benchmarks.speed.subject import Peer, Subject

SCALER = 0.5  # a power of two, so that dividing by it loses nothing


class RecursiveLayer(nn.Module):
    """y = base_weight silu(x) + (spline_weight spline_scaler) B(x), B by Cox-de Boor.

    Parameters
    ----------
    knots : Tensor, shape (in, knot)
    coefficients : Tensor, shape (out, in, basis)
    base_weight : Tensor, shape (out, in)

    Examples
    --------
    >>> knots = torch.arange(-2.0, 3.0).unsqueeze(0)
    >>> RecursiveLayer(knots, torch.ones(1, 1, 3), torch.ones(1, 1))(torch.zeros(2, 1)).shape
    torch.Size([2, 1])
    """

    grid: Tensor

    def __init__(self, knots: Tensor, coefficients: Tensor, base_weight: Tensor) -> None:
        super().__init__()
        self.degree = knots.shape[1] - coefficients.shape[2] - 1
        self.register_buffer("grid", knots.to(coefficients))
        self.base_weight = nn.Parameter(base_weight.clone())
        self.spline_weight = nn.Parameter(coefficients / SCALER)
        self.spline_scaler = nn.Parameter(torch.full_like(base_weight, SCALER))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (batch, in) to y (batch, out)."""
        base = F.linear(F.silu(x), self.base_weight)
        weight = self.spline_weight * self.spline_scaler.unsqueeze(-1)
        return base + F.linear(self.basis(x).flatten(1), weight.flatten(1))

    def basis(self, x: Tensor) -> Tensor:
        """Evaluate all basis functions, shape (batch, in, basis)."""
        t, x = self.grid, x.unsqueeze(-1)
        values = ((x >= t[:, :-1]) & (x < t[:, 1:])).to(x.dtype)
        for p in range(1, self.degree + 1):
            first, last = t[:, : -p - 1], t[:, p + 1 :]
            rising = (x - first) / (t[:, p:-1] - first)
            falling = (last - x) / (last - t[:, 1:-p])
            values = rising * values[..., :-1] + falling * values[..., 1:]
        return values


def build(problem: Problem) -> Subject:
    """Make the layer of a problem."""
    layer = RecursiveLayer(problem.knots, problem.coefficients, problem.base_weight)
    return Subject(
        layer=layer,
        x=problem.x,
        cotangent=problem.cotangent,
        right=lambda: problem.expected,
        weight_gradient=lambda named: named["spline_weight"] / SCALER,
    )


PEER = Peer(name="efficient-kan", build=build, rival=True)
