"""Sparse passes: only the degree + 1 basis functions that are nonzero at each point."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.model.edge_sum import Weights
from kanlens.model.kernels import pool
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.passes import Array, Gradients, flat

FORWARD_BLOCK = 16_384  # outputs of the rows kept at hand, so that they stay in a core's cache
BACKWARD_BLOCK = 65_536  # likewise of the rows of a gradient
LINE = 64  # bytes
PAIR, PRODUCT = 4.0, 1 / 60  # nanoseconds of one number of x, and of one product beside it
PACKED = 0.2  # of one number of the weights


def forward(x: Tensor, base: Tensor, basis: LocalBasis, weights: Weights) -> Tensor:
    """Return y (batch, out).

    Parameters
    ----------
    x : Tensor, shape (batch, in)
    base : Tensor, shape (batch, in)
        The base function of `x`.
    basis : LocalBasis
    weights : Weights
    """
    from kanlens.model.kernels import sparse_loops

    rows, n_in = x.shape
    n_out = len(weights.bias)
    packed, stride = _pack(weights), stride_of(n_out, x)
    sizes = (n_in, stride, (weights.spline.shape[2] + 1) * stride)
    y = x.new_empty(rows, n_out)
    threads = pool.threads_for(nanoseconds(rows * n_in, basis, n_out))
    block = max(16, min(128, FORWARD_BLOCK // n_out, -(-rows // threads)))
    given, based, bias, wanted = flat(x), flat(base), flat(weights.bias), flat(y)

    def task(begin: int, end: int) -> None:
        spans = (begin, end, block)
        sparse_loops.forward(
            given, based, packed, basis.arrays, bias, wanted, sizes, spans, basis.window
        )

    pool.run(task, pool.shares(rows, threads, block), threads)
    return y


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
    """Return the gradients of x and of the weights, of those that are wanted.

    Parameters
    ----------
    x, base, base_slope : Tensor, shape (batch, in)
        The base function of `x` and its derivative.
    basis : LocalBasis
    weights : Weights
    grad : Tensor, shape (batch, out)
        Of the output.
    want_x, want_weights : bool
    """
    from kanlens.model.kernels import backward_by_feature

    (rows, n_in), n_out = x.shape, grad.shape[1]
    threads = pool.threads_for(2 * nanoseconds(rows * n_in, basis, n_out))
    if n_in >= 2 * threads or not want_weights or not rows:
        return backward_by_feature.backward(
            x, base, base_slope, basis, weights, grad, want_x=want_x, want_weights=want_weights
        )
    stride = stride_of(n_out, x)
    size = (weights.spline.shape[2] + 1) * stride  # numbers of one packed input
    spans = pool.split(rows, threads)  # too few inputs to share out: added up at the end
    sums = x.new_empty(len(spans), n_in * size)
    grad_x = torch.empty_like(x) if want_x else x[:0]
    packed = _pack(weights) if want_x else flat(x[:0])
    given = tuple(flat(each) for each in (x, base, base_slope, grad, grad_x))
    block, sizes = backward_block(grad), (n_in, n_out, stride, size)

    def part(j: int, _: int) -> None:
        reach = (*spans[j], 0, n_in, block, 0)
        _write(given, packed, basis, flat(sums[j]), sizes, reach)

    pool.run(part, [(j, j + 1) for j in range(len(spans))], threads)
    return _unpack(sums.numpy().sum(0), weights, grad_x if want_x else None)


def backward_block(grad: Tensor) -> int:
    """Return how many rows of a gradient (batch, out) are taken together."""
    return max(64, min(1024, BACKWARD_BLOCK // max(1, grad.shape[1])))


def bias_gradient(grad: Tensor) -> Tensor:  # (batch, out) -> (out,)
    """Return the sum over rows."""
    from kanlens.model.kernels import sparse_loops

    sums = grad.new_empty(grad.shape[1])
    sparse_loops.column_sums(flat(grad), len(sums), flat(sums))
    return sums


def _write(
    given: tuple[Array, ...],
    packed: Array,
    basis: LocalBasis,
    total: Array,
    sizes: tuple[int, int, int, int],
    spans: tuple[int, int, int, int, int, int],
) -> None:
    """Write the gradients of some inputs over some rows, in this thread."""
    from kanlens.model.kernels import sparse_loops

    x, base, base_slope, grad, grad_x = given
    sparse_loops.backward(
        x, base, base_slope, packed, basis.arrays, grad, total, grad_x, sizes, spans, basis.window
    )


def nanoseconds(numbers: int, basis: LocalBasis, n_out: int) -> float:
    """Estimate how long one pass over so many numbers of x takes one thread."""
    return numbers * (PAIR + PRODUCT * (len(basis.window) + 1) * n_out)


def lanes_of(like: Tensor) -> int:
    """Return how many numbers fill a line of memory, the length of a kernel's vectors."""
    return LINE // like.element_size()


def stride_of(n_out: int, like: Tensor) -> int:
    """Return the numbers from one packed row to the next: whole lines of memory."""
    lanes = lanes_of(like)
    return -(-n_out // lanes) * lanes


def _pack(weights: Weights) -> Array:
    """Return the weights as (in, basis + 1, lane), flat."""
    from kanlens.model.kernels import packing

    n_out, n_in, n_basis = weights.spline.shape
    lanes, stride = lanes_of(weights.spline), stride_of(n_out, weights.spline)
    packed = flat(weights.spline.new_empty(n_in * (n_basis + 1) * stride))
    given, base = tensors(weights), flat(weights.base)

    def task(begin: int, end: int) -> None:
        packing.pack(given, base, packed, (n_in, n_out, stride), begin, end, 0, lanes)

    threads = pool.threads_for(PACKED * packed.size)
    pool.run(task, pool.split(n_in, threads), threads)
    return packed


def _unpack(grad: Array, weights: Weights, grad_x: Tensor | None) -> Gradients:
    """Return the gradients of the weights from that of the packed ones."""
    from kanlens.model.kernels import packing

    n_out, n_in, _ = weights.spline.shape
    lanes, stride = lanes_of(weights.spline), stride_of(n_out, weights.spline)
    found = empty_gradients(weights, grad_x)
    given = tensors(weights)
    wanted = arrays(found, grad[:0])

    def task(begin: int, end: int) -> None:
        packing.unpack(grad, given, wanted, (n_in, n_out, stride), begin, end, 0, lanes)

    threads = pool.threads_for(PACKED * grad.size)
    pool.run(task, pool.split(n_in, threads), threads)
    return found


def tensors(weights: Weights) -> tuple[Array, Array, Array]:
    """Return spline, scale (empty when there is none) and mask as flat arrays."""
    mask = flat(weights.mask)
    return flat(weights.spline), mask[:0] if weights.scale is None else flat(weights.scale), mask


def empty_gradients(weights: Weights, grad_x: Tensor | None) -> Gradients:
    """Return room for the gradients of the weights, beside that of x."""

    def like(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, memory_format=torch.contiguous_format)

    scale = None if weights.scale is None else like(weights.scale)
    return Gradients(x=grad_x, spline=like(weights.spline), scale=scale, base=like(weights.base))


def arrays(found: Gradients, none: Array) -> tuple[Array, Array, Array]:
    """Return the gradients of spline, scale and base, flat; `none` for one there is not."""
    kinds = (found.spline, found.scale, found.base)
    spline, scale, base = (none if each is None else flat(each) for each in kinds)
    return spline, scale, base
