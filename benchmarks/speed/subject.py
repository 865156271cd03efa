"""A layer of one peer, ready to be timed and compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.cells import Cell
from benchmarks.speed.reference import Expected
from benchmarks.speed.workload import Workload

FEW = 8  # rows of a warm-up


@dataclass(kw_only=True)
class Subject:
    """A layer that holds the numbers of a problem.

    Attributes
    ----------
    layer : Module
        Its parameters that are trained require gradients.
    x : Tensor, shape (batch, in)
        Requires a gradient, as the input of a hidden layer does.
    cotangent : Tensor, shape (batch, out)
        Gradient of a loss with respect to the output.
    right : callable
        Returns what the layer should compute, in float64.
    weight_gradient : callable
        Finds, in the gradients of the layer's parameters, those `right` has.
    call : callable, optional
        Maps x to y; the layer itself by default.
    """

    layer: nn.Module
    x: Tensor
    cotangent: Tensor
    right: Callable[[], Expected]
    weight_gradient: Callable[[dict[str, Tensor]], Tensor]
    call: Callable[[Tensor], Tensor] | None = None
    names: list[str] = field(init=False)
    leaves: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Collect what is differentiated."""
        self.x = self.x.detach().requires_grad_()
        trained = {n: p for n, p in self.layer.named_parameters() if p.requires_grad}
        self.names, self.leaves = list(trained), [self.x, *trained.values()]

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(leaf.numel() for leaf in self.leaves[1:])

    def forward(self) -> Tensor:
        """Run the layer as in a prediction, without recording gradients."""
        with torch.no_grad():
            return self._run(self.x)

    def forward_backward(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the layer as in training; return the output and all gradients, x's first."""
        y = self._run(self.x)
        return y, torch.autograd.grad(y, self.leaves, self.cotangent)

    def warm(self, *, any_batch: bool = False) -> None:
        """Run a few rows forward and backward; with `any_batch`, compile for any number of them."""
        x = self.x.detach()[:FEW].clone().requires_grad_()
        if any_batch:
            torch._dynamo.mark_dynamic(x, 0)
        y = self._run(x)
        torch.autograd.grad(y, [x, *self.leaves[1:]], self.cotangent[:FEW].clone())

    def _run(self, x: Tensor) -> Tensor:
        return (self.call or self.layer)(x)

    def found(self) -> Expected:
        """Run the layer and return what it gives, in the layout of what is right."""
        y, gradients = self.forward_backward()
        named = dict(zip(self.names, gradients[1:], strict=True))
        return Expected(
            value=y.detach(),
            input_gradient=gradients[0],
            weight_gradient=self.weight_gradient(named).detach(),
        )


def spline_subject(
    problem: Workload,
    layer: nn.Module,
    weight_gradient: Callable[[dict[str, Tensor]], Tensor],
    **options: Any,
) -> Subject:
    """Return the subject of a layer that should give what a problem's B-splines give."""
    return Subject(
        layer=layer,
        x=problem.x,
        cotangent=problem.cotangent,
        right=lambda: problem.expected,
        weight_gradient=weight_gradient,
        **options,
    )


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A layer that is compared.

    Attributes
    ----------
    build : callable
        Makes a subject of a problem.
    module, distribution : str
        What has to be installed, as it is imported and as it is called by pip; empty for none.
    rival : bool
        Whether it is somebody else's B-spline layer: what kanlens must be faster than.
    refuses : callable
        Returns why a cell is beyond this peer; empty when it is not.
    memory : callable
        Bytes that forward and backward are expected to need, for peers that may need too many.
    warm : callable
        Runs a few rows so that nothing is left to compile for any number of them.
    """

    name: str
    build: Callable[[Workload], Subject]
    module: str = ""
    distribution: str = ""
    rival: bool = False
    refuses: Callable[[Cell], str] = lambda cell: ""
    memory: Callable[[Cell], int] = lambda cell: 0
    warm: Callable[[Subject], None] = lambda subject: subject.warm()
    devices: tuple[str, ...] = ("cpu", "cuda")


def warm_compiled(subject: Subject) -> None:
    """Warm a layer that calls torch.compile, which otherwise compiles anew for other batches."""
    subject.warm(any_batch=True)


def only_uniform_cubic(cell: Cell) -> str:
    """Return why a package of uniform cubic splines cannot compute a cell; empty when it can."""
    if cell.order != 3:
        return "cubic splines only"
    return "" if cell.uniform else "uniform grids only"
