"""The spline layer on CUDA as a `torch.autograd.Function` on kernels in Triton.

Written and tested without a GPU, in triton's interpreter: how fast the kernels are has not been
measured.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from kanlens.functions.catalog import BASES
from kanlens.model.edge_sum import Weights, edge_sum, widened
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.second_order import NO_GRADIENTS, batched, differentiable

# Of a tile: so small that no kernel keeps registers in memory, by what ptxas says of an A100.
ROWS, LEAST = 32, 16  # rows, and the fewest outputs or functions of the basis
BYTES, TERMS = 128, 32  # of its outputs, and its functions, at most
PROGRAMS = 256  # among which a sum over rows is shared out, at least
OPTIONS = {"num_warps": 8, "num_stages": 1, "enable_fp_fusion": True}


class TritonSum(torch.autograd.Function):
    """The sum over edges; keeps x, the weights as they are and packed for its gradient."""

    @staticmethod
    def forward(ctx: Any, basis: LocalBasis, base: str, x: Tensor, *tensors: Any) -> Tensor:
        """Return y (batch, out) from x (batch, in) and the fields of `Weights` in their order."""
        from kanlens.model.kernels import triton_kernels

        weights = Weights(*tensors)
        packed = weights.packed()
        ctx.basis, ctx.base = basis, base
        ctx.save_for_backward(x, *tensors, packed if ctx.needs_input_grad[2] else None)
        points, bias = x.contiguous(), weights.bias.contiguous()
        given = points, BASES[base].value(widened(points)).contiguous(), packed, bias
        y = x.new_empty(len(x), len(bias), dtype=result_dtype(x))
        outs = tile(len(bias), BYTES // packed.itemsize)
        grid = -(-len(x) // ROWS), -(-len(bias) // outs)
        launch(triton_kernels.forward, grid, basis, (*given, y), packed, OUTS=outs)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        basis, base = ctx.basis, ctx.base
        (*given, packed), (want_x, *want) = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or batched(grad):
            wanted = want_x, *want
            return None, None, *differentiable(edge_sum, basis, base, given, grad, wanted)
        x, weights = given[0], Weights(*given[1:])
        grad, found = grad.contiguous().resolve_neg(), NO_GRADIENTS
        if any(want[:3]):
            found = weights.unpacked(over_rows(basis, base, x, weights, packed, grad)[0])
        grad_x = gradient_x(basis, base, x, packed, grad) if want_x else None
        bias = widened(grad).sum(0).to(weights.bias.dtype) if want[3] else None
        return None, None, grad_x, *found, bias, None


def over_rows(
    basis: LocalBasis,
    base: str,
    x: Tensor,
    weights: Weights,
    packed: Tensor | None,
    grad: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the gradient to the packed weights from that of y (batch, out).

    Without one it is that of the sums over the rows of the absolute values of the edges, and these
    are returned too: (in, out).
    """
    from kanlens.model.kernels import triton_kernels

    packed = weights.packed() if packed is None else packed
    (n_in, size, n_out), points = packed.shape, x.contiguous()
    outs, terms = tile(n_out, BYTES // packed.itemsize), tile(size, TERMS)
    others = -(-n_out // outs), -(-size // terms)
    blocks = max(1, -(-len(x) // ROWS))
    parts = max(1, min(blocks, PROGRAMS // (n_in * math.prod(others))))
    result = packed.new_empty(parts, *packed.shape)
    norms = packed.new_empty((parts, n_in, n_out) if grad is None else 0, dtype=torch.float64)
    given = points, BASES[base].value(widened(points)).contiguous(), packed
    tensors = *given, packed if grad is None else grad, result, norms
    options = {"SIGNED": grad is None, "OUTS": outs, "TERMS": terms}
    span = -(-blocks // parts) * ROWS
    grid = (parts * n_in, *others)
    launch(triton_kernels.by_weights, grid, basis, tensors, packed, span=span, **options)
    return result.sum(0), norms.sum(0)


def edge_norms(basis: LocalBasis, base: str, x: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Return the norms (in, out) over x (batch, in), and their slopes in the packed weights."""
    slopes, norms = over_rows(basis, base, x, weights, None, None)
    return norms / len(x), slopes / len(x)


def norms_gradient(
    basis: LocalBasis, base: str, x: Tensor, weights: Weights, grad: Tensor
) -> Tensor:
    """Return the gradient to x (batch, in) from that of the norms (in, out)."""
    return gradient_x(basis, base, x, weights.packed(), grad / len(x), signed=True)


def gradient_x(
    basis: LocalBasis, base: str, x: Tensor, packed: Tensor, grad: Tensor, *, signed: bool = False
) -> Tensor:
    """Return the gradient to x from that of y, or (in, out) from that of the sums over rows."""
    from kanlens.model.kernels import triton_kernels

    points = x.contiguous()
    value, slope = (each.contiguous() for each in BASES[base].pair(widened(points)))
    result, n_out = torch.empty_like(points), packed.shape[2]
    outs = tile(n_out, BYTES // packed.itemsize)
    tensors, grid = (points, value, slope, packed, grad, result), (-(-len(x) // ROWS) * x.shape[1],)
    launch(triton_kernels.by_x, grid, basis, tensors, packed, SIGNED=signed, OUTS=outs)
    return result


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    basis: LocalBasis,
    tensors: tuple[Tensor, ...],
    packed: Tensor,
    **options: int,
) -> None:
    """Run a kernel on the device of its tensors, the first of which is x."""
    tables, (rows, n_in), (_, size, n_out) = basis.tables, tensors[0].shape, packed.shape
    given = *tensors, tables.pieces, tables.first, tables.jump, basis.pieces
    fixed = {"DEGREE": basis.degree, "STEPS": tables.steps, "ROWS": ROWS, **options, **OPTIONS}
    if min(grid):
        with torch.cuda.device(packed.device) if packed.is_cuda else nullcontext():
            kernel[grid](*given, rows, n_in, n_out, size - 1, **fixed)


def tile(count: int, most: int) -> int:
    """Return the side of a tile: a power of two."""
    return max(LEAST, min(most, 1 << (count - 1).bit_length()))


def result_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of a matrix product of x, as autocast would have it."""
    kind = x.device.type
    if x.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype
