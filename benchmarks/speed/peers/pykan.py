"""pykan's KANLayer, the authors' own: every edge's values are kept, for its plots and penalties.

Only this class is used: the package's networks reseed the process and write to the working folder.
"""

from __future__ import annotations

import torch

from benchmarks.machine import load, unseeded
from benchmarks.speed.cells import Cell
from benchmarks.speed.problem import Problem
from benchmarks.speed.subject import Peer, Subject

SCALE = 0.5
ARRAYS = 7  # of shape (batch, in, out) alive at the peak


def build(problem: Problem) -> Subject:
    """Make the layer of a problem."""
    cell, module = problem.cell, load("kan.KANLayer")
    with unseeded():
        layer = module.KANLayer(
            in_dim=cell.in_features,
            out_dim=cell.out_features,
            num=cell.grid_size,
            k=cell.order,
            device=problem.x.device.type,
        )
    with torch.no_grad():
        layer.grid.copy_(problem.knots)
        layer.coef.copy_(problem.coefficients.permute(1, 0, 2) / SCALE)
        layer.scale_base.copy_(problem.base_weight.T)
        layer.scale_sp.fill_(SCALE)
    return Subject(
        layer=layer,
        x=problem.x,
        cotangent=problem.cotangent,
        right=lambda: problem.expected,
        weight_gradient=lambda named: named["coef"].permute(1, 0, 2) / SCALE,
        call=lambda x: layer(x)[0],
    )


def _memory(cell: Cell) -> int:
    return 4 * ARRAYS * cell.batch * cell.edges


PEER = Peer(
    name="pykan", build=build, module="kan", distribution="pykan", rival=True, memory=_memory
)
