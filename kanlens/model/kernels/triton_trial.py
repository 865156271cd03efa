"""Whether kernels in Triton run on a device and are right there: tried once, on a small layer.

They were written without a GPU. Where they do not compile, which takes a C compiler too, or give
other numbers than torch, layers are left to torch.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights, edge_sum, mean_absolute_edges
from kanlens.model.kernels.local_basis import local_basis
from kanlens.model.kernels.norms import EdgeL1
from kanlens.splines import spline

TOLERANCE = 0.02  # relative: more than rounding to half precision, less than any mistake
DEGREE = 3
Function: TypeAlias = Callable[..., Tensor]


@functools.cache
def can_run(device: torch.device, dtype: torch.dtype) -> bool:
    """Tell whether kernels for numbers of a type run on a device and give what torch does."""
    import triton

    from kanlens.model.kernels import triton_sum

    pairs: list[tuple[Function, Function]]
    norms = functools.partial(EdgeL1.apply, triton_sum)
    pairs = [(triton_sum.TritonSum.apply, edge_sum), (norms, mean_absolute_edges)]
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            return all(_agrees(*pair, device, dtype) for pair in pairs)
    except (RuntimeError, OSError, subprocess.SubprocessError, triton.TritonError):
        return False


def _agrees(
    kernel: Function, reference: Function, device: torch.device, dtype: torch.dtype
) -> bool:
    """Tell whether a kernel and its gradients are those of a function in torch operations."""
    kind = torch.float64 if dtype == torch.float64 else torch.float32
    knots = spline.uniform_knots(2, -1, 1, 4, degree=DEGREE).to(device, kind)
    basis = local_basis(knots, DEGREE, extrapolation="linear")
    given = [_numbers(shape, device).to(dtype) for shape in ((40, 2), (3, 2, 7), (3, 2), (3, 2), 3)]
    given.append(torch.ones(3, 2, device=device, dtype=dtype))
    options = {"grid": knots.double(), "degree": DEGREE, "extrapolation": "linear", "base": "silu"}

    def run(function: Function, dtype: torch.dtype) -> list[Tensor]:
        tensors = [each.to(dtype).clone().requires_grad_() for each in given[:4]]
        y = function(*tensors, *(each.to(dtype) for each in given[4:]))
        grad = _numbers(y.shape, device).to(y.dtype)
        return [y.detach(), *torch.autograd.grad(y, tensors, grad)]

    found = run(lambda *tensors: kernel(basis, "silu", *tensors), dtype)
    wanted = run(lambda x, *tensors: reference(x, Weights(*tensors), **options), torch.float64)
    return all(
        bool((one - other).abs().max() <= TOLERANCE * other.abs().max())
        for one, other in zip(found, wanted, strict=True)
    )


def _numbers(shape: int | tuple[int, ...], device: torch.device) -> Tensor:
    """Return numbers between -1.2 and 1.2 without a pattern."""
    size = torch.zeros(shape).numel()
    found = 1.2 * torch.sin(37.0 * torch.arange(size, dtype=torch.float64) + size)
    return found.reshape(shape).to(device)
