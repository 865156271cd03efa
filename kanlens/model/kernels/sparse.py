"""The fused spline layer as a `torch.autograd.Function`.

Its passes take only the degree + 1 basis functions that are nonzero at each point.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights, edge_sum
from kanlens.model.kernels import base_function, packing, passes, pool
from kanlens.model.kernels.compiling import Array, flat
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.second_order import batched, differentiable

LINE = 64  # bytes
FEW = 64  # rows up to which a forward pass of a large layer is shared out by inputs
DENSE = 80  # numbers of the design matrix for an input up to which it is the quicker way
TABLE = 131_072  # numbers of polynomials that stay in a core's cache
MOST = 8  # vectors of outputs up to which they pay
MANY = 32  # rows for each vector of a piece from which turning weights into polynomials pays
PAIR, PRODUCT = 4.0, 1 / 60  # nanoseconds of one number of x, and of one product beside it
PACKED = 0.2  # of one number of the weights


def plain_sum(basis: LocalBasis, base: str, x: Tensor, *tensors: Any) -> Tensor:
    """Return y (batch, out) from x (batch, in) and the fields of `Weights` in their order."""
    weights, y = Weights(*tensors), x.new_empty(len(x), len(tensors[3]))
    values = None if base == "silu" else base_function.values(base, x)
    (rows, n_in), at = x.shape, layout(weights.spline.shape, x.dtype, basis.degree)
    kernel, count = passes.forward, rows
    room = n_in * (basis.pieces * (basis.degree + 1) + 1) * at.stride
    if rows <= passes.DIRECT:
        kernel, count = passes.forward_single, 1  # no range of rows
    elif rows * at.columns <= DENSE:
        kernel, count = passes.forward_by_design, 1
    elif rows <= FEW and n_in * at.size > passes.DESK:
        kernel, count = passes.forward_spans, 1
    elif room <= TABLE and basis.pieces * at.stride * MANY <= rows * at.lanes:
        kernel = passes.forward_narrow if at.stride <= MOST * at.lanes else kernel
    run(kernel, weights, basis, [(x, values, weights.bias, y)], count)
    return y


def run(
    kernel: Callable[..., None],
    weights: Weights,
    basis: LocalBasis,
    tensors: Sequence[Sequence[Any]],
    count: int,
) -> None:
    """Call a pass with weights and tuples of tensors; threads of Python share out a range."""
    x, (n_out, n_in, n_basis) = tensors[0][0], weights.spline.shape
    groups = (weights.spline, weights.scale, weights.mask, weights.base), *tensors
    held = [[each if each is None else each.contiguous() for each in group] for group in groups]
    at = [tuple([0 if each is None else each.data_ptr() for each in group]) for group in held]
    time = layout(weights.spline.shape, x.dtype, basis.degree).time
    work = len(tensors) * (time * x.numel() + PACKED * weights.spline.numel())
    given = *at, basis.arrays, basis.window, (len(x), n_in, n_out, n_basis)
    threads, openmp = pool.team(work)
    if threads == 1 or openmp:
        kernel(*given, (0, count), (threads, openmp))
        return

    def task(begin: int, end: int) -> None:
        kernel(*given, (begin, end), (1, 0))

    pool.run(task, pool.split(count, threads), threads)


class FusedSum(torch.autograd.Function):
    """The sum over edges; keeps x and weights for its gradient, nothing in between."""

    @staticmethod
    def forward(ctx: Any, basis: LocalBasis, base: str, x: Tensor, *tensors: Any) -> Tensor:
        """Return what `plain_sum` does."""
        ctx.basis, ctx.base = basis, base
        ctx.save_for_backward(x, *tensors)
        return plain_sum(basis, base, x, *tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        basis, base = ctx.basis, ctx.base
        given, wanted = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or batched(grad):
            return None, None, *differentiable(edge_sum, basis, base, given, grad, wanted)
        return None, None, *backward(basis, base, given, grad.resolve_neg(), wanted), None


def backward(
    basis: LocalBasis,
    base: str,
    given: Sequence[Any],
    grad: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of x and the weights that are wanted, from that of y (batch, out)."""
    (x, *tensors), order = given, torch.contiguous_format
    pair = (None, None) if base == "silu" else base_function.pair(base, x)
    wants = wanted[0], *3 * [any(wanted[1:4])], wanted[4]
    found = [
        torch.empty_like(each, memory_format=order) if want and each is not None else None
        for each, want in zip(given, wants, strict=False)
    ]
    grad_x, spline, scale, base_weight, bias = found
    into = grad_x, spline, scale, None, base_weight, bias
    run(passes.backward, Weights(*tensors), basis, [(x, *pair, grad), into], x.shape[1])
    return found


class PackedLayout(NamedTuple):
    """How the weights of a layer are packed, and what a pass over them costs."""

    lanes: int  # numbers of a vector, as long as a line of memory
    stride: int  # from one packed row to the next: whole vectors
    size: int  # numbers of one packed input
    columns: int  # numbers of one edge in short vectors
    time: float  # nanoseconds of one number of x on one thread, by a rough estimate


@functools.cache
def layout(shape: tuple[int, int, int], dtype: torch.dtype, degree: int) -> PackedLayout:
    """Return the layout of spline weights (out, in, basis)."""
    n_out, _, n_basis = shape
    lanes = LINE // dtype.itemsize
    stride = passes.stride_of.py_func(n_out, lanes)  # type: ignore[attr-defined]
    time = PAIR + PRODUCT * (degree + 2) * n_out
    columns, size = -(-2 * n_basis // lanes) * lanes // 2, (n_basis + 1) * stride
    return PackedLayout(lanes=lanes, stride=stride, size=size, columns=columns, time=time)


def pack(weights: Weights, at: PackedLayout) -> Array:
    """Return the weights as (in, basis + 1, lane), flat."""
    n_out, n_in, _ = weights.spline.shape
    packed = flat(weights.spline.new_empty(n_in * at.size))
    sizes = (n_in, n_out, at.stride)
    scale = weights.mask[:0] if weights.scale is None else weights.scale
    factors = flat(weights.spline), flat(scale), flat(weights.mask)
    given = factors, flat(weights.base), packed, sizes, at.lanes, 0
    pool.share(packing.pack, given, n_in, PACKED * packed.size, chunks=1)
    return packed


def unpack(grad: Array, weights: Weights, at: PackedLayout) -> tuple[Tensor | None, ...]:
    """Return the gradients of spline, scale and base weights from that of the packed ones."""
    (n_out, n_in, _), order = weights.spline.shape, torch.contiguous_format
    kept = weights.spline, weights.scale, weights.base
    found = tuple(t if t is None else torch.empty_like(t, memory_format=order) for t in kept)
    scale = weights.mask[:0] if weights.scale is None else weights.scale
    factors = flat(weights.spline), flat(scale), flat(weights.mask)
    wanted = tuple(grad[:0] if each is None else flat(each) for each in found)
    given = grad, factors, wanted, (n_in, n_out, at.stride), at.lanes, 0
    pool.share(packing.unpack, given, n_in, PACKED * grad.size, chunks=1)
    return found
