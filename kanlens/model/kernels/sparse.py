"""The fused spline layer as a `torch.autograd.Function`.

Its passes take only the degree + 1 basis functions that are nonzero at each point.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights, edge_sum
from kanlens.model.kernels import base_function, packing, pool, sparse_loops
from kanlens.model.kernels.compiling import Array, flat
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.second_order import Gradients, batched, differentiable

FORWARD_BLOCK = 16_384  # outputs of the rows kept at hand, so that they stay in a core's cache
BACKWARD_BLOCK = 65_536  # likewise of the rows of a gradient
DESK = 65_536  # numbers of packed weights, likewise
LINE = 64  # bytes
PAIR, PRODUCT = 4.0, 1 / 60  # nanoseconds of one number of x, and of one product beside it
PACKED = 0.2  # of one number of the weights


def plain_sum(basis: LocalBasis, base: str, x: Tensor, *tensors: Any) -> Tensor:
    """Return y (batch, out) from x (batch, in) and the fields of `Weights` in their order."""
    (rows, n_in), weights = x.shape, Weights(*tensors)
    at, n_out = layout(weights.spline.shape, x.dtype, basis.degree), len(weights.bias)
    y, work = x.new_empty(rows, n_out), at.time * x.numel()
    threads = torch.get_num_threads() if work >= pool.SERIAL else 1
    block = max(16, min(128, FORWARD_BLOCK // n_out, -(-rows // threads)))
    points = flat(x.contiguous()), flat(base_function.values(base, x)), pack(weights, at)
    out = flat(weights.bias), flat(y), (n_in, at.stride, at.size), block
    given = *points, basis.arrays, basis.window, *out
    pool.share(sparse_loops.forward, given, rows, work, multiple=block)
    return y


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
        (x, *tensors), (want_x, *want) = given, wanted
        grad = grad.contiguous().resolve_neg()
        found = backward(
            x.contiguous(),
            *base_function.pair(base, x),
            basis,
            Weights(*tensors),
            grad,
            want_x=want_x,
            want_weights=any(want[:3]),
        )
        bias = grad.new_empty(grad.shape[1]) if want[3] else None
        if bias is not None:
            sparse_loops.column_sums(flat(grad), len(bias), flat(bias))
        return None, None, found.x, found.spline, found.scale, found.base, bias, None


def backward(
    x: Tensor,
    base: Tensor,
    base_slope: Tensor,
    basis: LocalBasis,
    weights: Weights,
    grad: Tensor,
    *,
    want_x: bool,
    want_weights: bool,
) -> Gradients:
    """Return the gradients from that of the output (batch, out), those that are wanted.

    The base function of `x` and its derivative are (batch, in).
    """
    at = layout(weights.spline.shape, x.dtype, basis.degree)
    work = 2 * at.time * x.numel() + 2 * PACKED * weights.spline.numel()
    threads = torch.get_num_threads() if work >= pool.SERIAL else 1
    points = flat(x), flat(base), flat(base_slope)
    given = points, basis, weights, at, grad, torch.empty_like(x) if want_x else None
    if x.shape[1] >= 2 * threads or not want_weights or not len(x):
        return _by_feature(*given, work, want_weights=want_weights)
    return _by_rows(*given, threads)


def _by_rows(
    points: tuple[Array, Array, Array],
    basis: LocalBasis,
    weights: Weights,
    at: PackedLayout,
    grad: Tensor,
    grad_x: Tensor | None,
    threads: int,
) -> Gradients:
    """Return all gradients, parallel over rows: with too few features to share out."""
    (rows, n_out), n_in = grad.shape, weights.spline.shape[1]
    spans = pool.split(rows, threads)
    sums = grad.new_empty(len(spans), n_in * at.size)  # added up at the end
    none = points[0][:0]
    packed, wanted = (none, none) if grad_x is None else (pack(weights, at), flat(grad_x))
    grads, block, sizes = flat(grad), _backward_block(grad), (n_in, n_out, at.stride, at.size)

    def part(j: int, _: int) -> None:
        reach, total = (*spans[j], 0, n_in, block, 0), flat(sums[j])
        given = packed, basis.arrays, grads, total, wanted, sizes, reach, basis.window
        sparse_loops.backward(*points, *given)

    pool.run(part, [(j, j + 1) for j in range(len(spans))], threads)
    return unpack(sums.numpy().sum(0), weights, at, grad_x)


def _by_feature(
    points: tuple[Array, Array, Array],
    basis: LocalBasis,
    weights: Weights,
    at: PackedLayout,
    grad: Tensor,
    grad_x: Tensor | None,
    work: float,
    *,
    want_weights: bool,
) -> Gradients:
    """Return gradients, parallel over features: no two threads share a write."""
    (rows, n_out), (_, n_in, n_basis) = grad.shape, weights.spline.shape
    group = max(1, min(packing.COLUMNS, DESK // at.stride) // n_basis)  # inputs packed at a time
    scale = weights.mask[:0] if weights.scale is None else weights.scale
    factors = flat(weights.spline), flat(scale), flat(weights.mask)
    base_weight, grads = flat(weights.base), flat(grad)
    none = grads[:0]
    found, arrays = _room(weights, none) if want_weights else ([None] * 3, [none] * 3)
    wanted = (none if grad_x is None else flat(grad_x), *arrays)
    sizes, block = (rows, n_in, n_out, at.stride, n_basis, group), _backward_block(grad)

    def task(begin: int, end: int) -> None:
        desks = (np.empty if rows else np.zeros)(
            (2, min(group, end - begin) * at.size), grads.dtype
        )
        held, reach = (desks[0], desks[1] if want_weights else none), (begin, end, block)
        given = points, factors, base_weight, basis.arrays, grads, held, wanted, sizes, reach
        sparse_loops.backward_inputs(*given, at.lanes, basis.window)

    pool.share(task, (), n_in, work)
    return Gradients(grad_x, *found)


def _backward_block(grad: Tensor) -> int:
    """Return how many rows of a gradient (batch, out) are taken together."""
    return max(64, min(1024, BACKWARD_BLOCK // max(1, grad.shape[1])))


class PackedLayout(NamedTuple):
    """How the weights of a layer are packed, and what a pass over them costs."""

    lanes: int  # numbers of a vector, as long as a line of memory
    stride: int  # from one packed row to the next: whole vectors
    size: int  # numbers of one packed input
    time: float  # nanoseconds of one number of x on one thread, by a rough estimate


@functools.cache
def layout(shape: tuple[int, int, int], dtype: torch.dtype, degree: int) -> PackedLayout:
    """Return the layout of spline weights (out, in, basis)."""
    n_out, _, n_basis = shape
    lanes = LINE // dtype.itemsize
    stride = -(-n_out // lanes) * lanes
    time = PAIR + PRODUCT * (degree + 2) * n_out
    return PackedLayout(lanes=lanes, stride=stride, size=(n_basis + 1) * stride, time=time)


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


def unpack(grad: Array, weights: Weights, at: PackedLayout, grad_x: Tensor | None) -> Gradients:
    """Return the gradients of the weights from that of the packed ones, beside that of x."""
    n_out, n_in, _ = weights.spline.shape
    found, wanted = _room(weights, grad[:0])
    scale = weights.mask[:0] if weights.scale is None else weights.scale
    factors = flat(weights.spline), flat(scale), flat(weights.mask)
    given = grad, factors, tuple(wanted), (n_in, n_out, at.stride), at.lanes, 0
    pool.share(packing.unpack, given, n_in, PACKED * grad.size, chunks=1)
    return Gradients(grad_x, *found)


def _room(weights: Weights, none: Array) -> tuple[list[Tensor | None], list[Array]]:
    """Return room for the gradients of spline, scale and base, and it as arrays, or `none`."""
    kept = weights.spline, weights.scale, weights.base
    order = torch.contiguous_format
    room = [None if t is None else torch.empty_like(t, memory_format=order) for t in kept]
    return room, [none if each is None else flat(each) for each in room]
