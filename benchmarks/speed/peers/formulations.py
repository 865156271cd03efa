"""Layers written out here: nn.Linear as the floor, and what efficient-kan and FastKAN compute.

nn.Linear has as many weights: no layer of that size goes below it by much. efficient-kan evaluates
the recursion over whole arrays, then takes two products. FastKAN is another family of functions,
Gaussians of evenly spaced centers, as many as the splines have basis functions, of rows that are
normalized as nn.LayerNorm does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.machine import unseeded
from benchmarks.speed.cells import Cell
from benchmarks.speed.reference import Expected, expected
from benchmarks.speed.subject import Peer, Subject, spline_subject
from benchmarks.speed.workload import Workload

SCALER = 0.5  # a power of two, so that dividing by it loses nothing
ENDS = (-2.0, 2.0)  # the first and the last center


def linear(problem: Workload) -> Subject:
    """Make a matrix product with one input per coefficient and base weight of the splines."""
    cell = problem.cell
    width = cell.in_features * (cell.basis + 1)
    with unseeded():
        layer = nn.Linear(width, cell.out_features).to(problem.x)
    flat = problem.coefficients.flatten(1)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([flat, problem.base_weight], 1))
    x = problem.x.repeat(1, cell.basis + 1)
    return Subject(
        layer=layer,
        x=x,
        cotangent=problem.cotangent,
        right=lambda: _product(layer, x, problem.cotangent),
        weight_gradient=lambda named: named["weight"],
    )


def _product(layer: nn.Linear, x: Tensor, cotangent: Tensor) -> Expected:
    x = x.detach().double().requires_grad_()
    weight = layer.weight.detach().double().requires_grad_()
    y = torch.einsum("bi,oi->bo", x, weight) + layer.bias.detach().double()
    return expected(y, x, weight, cotangent.double())


class RecursiveLayer(nn.Module):
    """y = base_weight silu(x) + (spline_weight spline_scaler) B(x), B by Cox-de Boor."""

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


def recursive(problem: Workload) -> Subject:
    """Make the layer of a problem."""
    layer = RecursiveLayer(problem.knots, problem.coefficients, problem.base_weight)
    return spline_subject(problem, layer, lambda named: named["spline_weight"] / SCALER)


class GaussianLayer(nn.Module):
    """y = W exp(-((norm(x) - centers) / width)^2) + U silu(x) + c."""

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


def gaussian(problem: Workload) -> Subject:
    """Make the layer of a problem."""
    layer = GaussianLayer(problem.coefficients, problem.base_weight).to(problem.x)
    return Subject(
        layer=layer,
        x=problem.x,
        cotangent=problem.cotangent,
        right=lambda: _sum_of_gaussians(problem, layer),
        weight_gradient=lambda named: named["weight"].reshape(problem.coefficients.shape),
    )


def _sum_of_gaussians(problem: Workload, layer: GaussianLayer) -> Expected:
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


LINEAR = Peer(name="nn.Linear", build=linear)
EFFICIENT_KAN = Peer(name="efficient-kan", build=recursive, rival=True)
FAST_KAN = Peer(name="FastKAN", build=gaussian, refuses=_refuses)
