"""Layers of other packages: pykan's, flashkan's and inkan's.

pykan's, the authors' own, keeps every edge's values for its plots and penalties; its networks
reseed the process and write to the working folder, so that only its layer is used. flashkan makes
all basis functions from truncated powers, compiled by torch.compile; inkan the four live ones of
every input, compiled or eager.
"""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.machine import load, unseeded
from benchmarks.speed.cells import Cell
from benchmarks.speed.subject import (
    Peer,
    Subject,
    only_uniform_cubic,
    spline_subject,
    warm_compiled,
)
from benchmarks.speed.workload import Workload

SCALE = 0.5
ARRAYS = 7  # of shape (batch, in, out) alive at the peak


def pykan(problem: Workload) -> Subject:
    """Make the layer of a problem."""
    cell, module = problem.cell, load("kan.KANLayer")
    with unseeded():
        layer = module.KANLayer(
            in_dim=cell.in_features,
            out_dim=cell.out_features,
            num=cell.grid_size,
            k=cell.order,
        ).to(problem.x)
    with torch.no_grad():
        layer.grid.copy_(problem.knots)
        layer.coef.copy_(problem.coefficients.permute(1, 0, 2) / SCALE)
        layer.scale_base.copy_(problem.base_weight.T)
        layer.scale_sp.fill_(SCALE)
    return spline_subject(
        problem,
        layer,
        lambda named: named["coef"].permute(1, 0, 2) / SCALE,
        call=lambda x: layer(x)[0],
    )


def _memory(cell: Cell) -> int:
    return 4 * ARRAYS * cell.batch * cell.edges


PYKAN = Peer(
    name="pykan", build=pykan, module="kan", distribution="pykan", rival=True, memory=_memory
)


def flashkan(problem: Workload) -> Subject:
    """Make the layer of a problem; other orders than 3 are taken, but computed as cubics."""
    cell, package = problem.cell, load("flashkan")
    with unseeded():
        layer = package.KANLayer(
            cell.in_features,
            cell.out_features,
            grid_size=cell.grid_size,
            spline_order=cell.order,
        ).to(problem.x)
    with torch.no_grad():
        layer.spline_weight.copy_(problem.coefficients)
        layer.base_weight.copy_(problem.base_weight)
    return spline_subject(problem, layer, lambda named: named["spline_weight"])


def _refuses(cell: Cell) -> str:
    return "" if cell.uniform else "uniform grids only"


FLASHKAN = Peer(
    name="flashkan",
    build=flashkan,
    module="flashkan",
    distribution="flashkan",
    rival=True,
    refuses=_refuses,
    warm=warm_compiled,
)


def inkan(problem: Workload, *, compiled: bool) -> Subject:
    """Make the layer of a problem."""
    cell, package = problem.cell, load("inkan")
    with unseeded():
        layer = package.KANLayer(
            cell.in_features,
            cell.out_features,
            grid_size=cell.grid_size,
            compile_basis=compiled,
        ).to(problem.x)
    splines = cell.in_features * cell.basis
    with torch.no_grad():
        flat = problem.coefficients.flatten(1)
        layer.weight.copy_(torch.cat([flat, problem.base_weight], 1))
    return spline_subject(
        problem,
        layer,
        lambda named: named["weight"][:, :splines].reshape(problem.coefficients.shape),
    )


def _peer(name: str, *, compiled: bool) -> Peer:
    return Peer(
        name=name,
        build=partial(inkan, compiled=compiled),
        module="inkan",
        distribution="inkan",
        rival=True,
        refuses=only_uniform_cubic,
        warm=warm_compiled if compiled else Subject.warm,
    )


INKAN = _peer("inkan", compiled=True)
INKAN_EAGER = _peer("inkan eager", compiled=False)
