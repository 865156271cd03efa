"""inkan: the four live basis functions of every input; compiled by torch.compile, or eager."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.machine import load, unseeded
from benchmarks.speed.problem import Problem
from benchmarks.speed.subject import (
    Peer,
    Subject,
    only_uniform_cubic,
    warm_compiled,
)


def build(problem: Problem, *, compiled: bool) -> Subject:
    """Make the layer of a problem."""
    cell, package = problem.cell, load("inkan")
    with unseeded():
        layer = package.KANLayer(
            cell.in_features,
            cell.out_features,
            grid_size=cell.grid_size,
            compile_basis=compiled,
        ).to(problem.x.device)
    splines = cell.in_features * cell.basis
    with torch.no_grad():
        flat = problem.coefficients.flatten(1)
        layer.weight.copy_(torch.cat([flat, problem.base_weight], 1))
    return Subject(
        layer=layer,
        x=problem.x,
        cotangent=problem.cotangent,
        right=lambda: problem.expected,
        weight_gradient=lambda named: named["weight"][:, :splines].reshape(
            problem.coefficients.shape
        ),
    )


def _peer(name: str, *, compiled: bool) -> Peer:
    return Peer(
        name=name,
        build=partial(build, compiled=compiled),
        module="inkan",
        distribution="inkan",
        rival=True,
        refuses=only_uniform_cubic,
        warm=warm_compiled if compiled else Subject.warm,
    )


COMPILED = _peer("inkan", compiled=True)
EAGER = _peer("inkan eager", compiled=False)
