"""kanlens: KANLinear as it comes, and on a GPU through torch.compile, too."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.speed.subject import Peer, Subject, spline_subject, warm_compiled
from benchmarks.speed.workload import Workload
from kanlens.model import kernels
from kanlens.model._kan_linear import KANLinear
from kanlens.model.kernels._choice import Path

SCALER = 0.5
WAYS: tuple[Path, ...] = ("sparse", "torch")


def build(problem: Workload, *, compiled: bool = False) -> Subject:
    """Make the layer of a problem, as it is with compiled kernels, or through torch.compile."""
    cell = problem.cell
    layer = KANLinear(
        cell.in_features,
        cell.out_features,
        grid_size=cell.grid_size,
        spline_order=cell.order,
        generator=torch.Generator(),
    ).to(problem.x)
    with torch.no_grad():
        layer.grid.copy_(problem.knots)
        layer.spline_weight.copy_(problem.coefficients / SCALER)
        layer.spline_scaler.fill_(SCALER)
        layer.base_weight.copy_(problem.base_weight)
    subject = spline_subject(
        problem,
        layer,
        lambda named: named["spline_weight"] / SCALER,
        call=torch.compile(layer) if compiled else None,
    )
    if not compiled:
        with kernels.use("sparse"):
            subject.forward_backward()
    return subject


def _warm(subject: Subject) -> None:
    """Run a few rows on every path: which one many rows will take is the layer's choice."""
    for path in WAYS:
        with kernels.use(path):
            subject.warm()
    subject.warm()


AUTO = Peer(name="kanlens", build=build, warm=_warm)
COMPILED = Peer(
    name="kanlens compiled",
    build=partial(build, compiled=True),
    warm=warm_compiled,
    devices=("cuda",),
)
