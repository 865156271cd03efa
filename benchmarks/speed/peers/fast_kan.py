"""FastKAN's formulation, written out: Gaussians in place of splines. Another family of functions.

The rows are normalized as nn.LayerNorm does, Gaussians of evenly spaced centers are evaluated, and
their values are multiplied with one matrix; silu of the rows goes through an nn.Linear beside it.
There are as many centers as the splines have basis functions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.machine import unseeded
from benchmarks.speed.cells import Cell
from benchmarks.speed.problem import Problem
from benchmarks.speed.reference import Expected, expected
from benchmarks.speed.subject import Peer, Subject

ENDS = (-2.0, 2.0)  # the first and the last center


class GaussianLayer(nn.Module):
    """y = W exp(-((norm(x) - centers) / width)^2) + U silu(x) + c.

    Parameters
    ----------
    coefficients : Tensor, shape (out, in, center)
    base_weight : Tensor, shape (out, in)

    Examples
    --------
    >>> GaussianLayer(torch.ones(1, 2, 8), torch.ones(1, 2))(torch.zeros(4, 2)).shape
    torch.Size([4, 1])
    """

    centers: Tensor

    def __init__(self, coefficients: Tensor, base_weight: Tensor) -> None:
        super().__init__()
        n_out, n_in, n_centers = coefficients.shape
        self.norm = nn.LayerNorm(n_in, device=coefficients.device)
        self.register_buffer("centers", torch.linspace(*ENDS, n_centers).to(coefficients))
        self.width = (ENDS[1] - ENDS[0]) / (n_centers - 1)
        self.weight = nn.Parameter(coefficients.flatten(1).clone())
        with unseeded():
            self.base = nn.Linear(n_in, n_out, device=coefficients.device)
        with torch.no_grad():
            self.base.weight.copy_(base_weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (batch, in) to y (batch, out)."""
        distance = (self.norm(x).unsqueeze(-1) - self.centers) / self.width
        values = torch.exp(-(distance**2))
        base: Tensor = self.base(F.silu(x))
        return base + F.linear(values.flatten(1), self.weight)


def build(problem: Problem) -> Subject:
    """Make the layer of a problem."""
    layer = GaussianLayer(problem.coefficients, problem.base_weight)
    return Subject(
        layer=layer,
        x=problem.x,
        cotangent=problem.cotangent,
        right=lambda: _definition(problem, layer),
        weight_gradient=lambda named: named["weight"].reshape(problem.coefficients.shape),
    )


def _definition(problem: Problem, layer: GaussianLayer) -> Expected:
    """Sum Gaussians center by center, in float64."""
    x = problem.x.detach().double().requires_grad_()
    weights = problem.coefficients.double().requires_grad_()
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    z = (x - mean) / torch.sqrt(variance + layer.norm.eps)
    y = (x / (1 + torch.exp(-x))) @ problem.base_weight.double().T
    y = y + layer.base.bias.detach().double()
    count = problem.cell.basis
    width = (ENDS[1] - ENDS[0]) / (count - 1)
    for k in range(count):
        y = y + torch.exp(-(((z - (ENDS[0] + k * width)) / width) ** 2)) @ weights[:, :, k].T
    return expected(y, x, weights, problem.cotangent.double())


def _refuses(cell: Cell) -> str:
    return "" if cell.uniform else "evenly spaced centers only"


PEER = Peer(name="FastKAN", build=build, refuses=_refuses)
