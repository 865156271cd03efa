"""kanlens: KANLinear as it comes, and each of its ways of computing for those who ask."""

from __future__ import annotations

import contextlib
from functools import partial

import torch

from benchmarks.machine import missing
from benchmarks.speed.subject import Peer, Subject, spline_subject, warm_compiled
from benchmarks.speed.workload import Workload
from kanlens.model import kernels
from kanlens.model.kernels import Path
from kanlens.model.layers import KANLinear

SCALER = 0.5
WAYS: tuple[Path, ...] = ("sparse", "torch")


def build(problem: Workload, *, path: Path = "auto", compiled: bool = False) -> Subject:
    """Make the layer of a problem.

    Parameters
    ----------
    problem : Workload
        Its numbers.
    path : {"auto", "sparse", "torch"}
        As `kanlens.model.kernels.use` takes it; "auto" is the layer's own choice.
    compiled : bool
        Whether the layer goes through torch.compile.
    """
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
    return spline_subject(
        problem,
        layer,
        lambda named: named["spline_weight"] / SCALER,
        call=torch.compile(layer) if compiled else None,
        around=contextlib.nullcontext if path == "auto" else partial(kernels.use, path),
    )


def _lacks(path: Path) -> str:
    """Say what a path needs that is not there; torch operations would run in its place."""
    return "needs numba" if path != "torch" and missing("numba") else ""


def _warm(subject: Subject) -> None:
    """Run a few rows on every path: which one many rows will take is the layer's choice."""
    around = subject.around
    for path in WAYS:
        subject.around = partial(kernels.use, path)
        subject.warm()
    subject.around = around
    subject.warm()


def _path(path: Path) -> Peer:
    return Peer(
        name=f"kanlens {path}",
        build=partial(build, path=path),
        refuses=lambda cell: _lacks(path),
        devices=("cpu", "cuda") if path == "torch" else ("cpu",),
        optional=True,
    )


AUTO = Peer(name="kanlens", build=build, warm=_warm)
COMPILED = Peer(
    name="kanlens compiled",
    build=partial(build, compiled=True),
    warm=warm_compiled,
    devices=("cuda",),
)
PATHS = tuple(_path(path) for path in WAYS)
