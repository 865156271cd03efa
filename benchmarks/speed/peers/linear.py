"""torch.nn.Linear with as many weights: the floor that no layer of that size goes below by much."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.machine import unseeded
from benchmarks.speed.problem import Problem
from benchmarks.speed.reference import Expected, expected
from benchmarks.speed.subject import Peer, Subject


def build(problem: Problem) -> Subject:
    """Make a matrix product with one input per coefficient and base weight of the splines."""
    cell = problem.cell
    width = cell.in_features * (cell.basis + 1)
    with unseeded():
        layer = nn.Linear(width, cell.out_features, device=problem.x.device)
    flat = problem.coefficients.flatten(1)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([flat, problem.base_weight], 1))
    x = problem.x.repeat(1, cell.basis + 1)
    return Subject(
        layer=layer,
        x=x,
        cotangent=problem.cotangent,
        right=lambda: _definition(layer, x, problem.cotangent),
        weight_gradient=lambda named: named["weight"],
    )


def _definition(layer: nn.Linear, x: Tensor, cotangent: Tensor) -> Expected:
    x = x.detach().double().requires_grad_()
    weight = layer.weight.detach().double().requires_grad_()
    y = torch.einsum("bi,oi->bo", x, weight) + layer.bias.detach().double()
    return expected(y, x, weight, cotangent.double())


PEER = Peer(name="nn.Linear", build=build)
