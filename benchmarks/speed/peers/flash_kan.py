"""flashkan: all basis functions from truncated powers, compiled by torch.compile."""

from __future__ import annotations

import torch

from benchmarks.machine import load, unseeded
from benchmarks.speed.cells import Cell
from benchmarks.speed.problem import Problem
from benchmarks.speed.subject import Peer, Subject, warm_compiled


def build(problem: Problem) -> Subject:
    """Make the layer of a problem; other orders than 3 are taken, but computed as cubics."""
    cell, package = problem.cell, load("flashkan")
    with unseeded():
        layer = package.KANLayer(
            cell.in_features,
            cell.out_features,
            grid_size=cell.grid_size,
            spline_order=cell.order,
        ).to(problem.x.device)
    with torch.no_grad():
        layer.spline_weight.copy_(problem.coefficients)
        layer.base_weight.copy_(problem.base_weight)
    return Subject(
        layer=layer,
        x=problem.x,
        cotangent=problem.cotangent,
        right=lambda: problem.expected,
        weight_gradient=lambda named: named["spline_weight"],
    )


def _refuses(cell: Cell) -> str:
    return "" if cell.uniform else "uniform grids only"


PEER = Peer(
    name="flashkan",
    build=build,
    module="flashkan",
    distribution="flashkan",
    rival=True,
    refuses=_refuses,
    warm=warm_compiled,
)
