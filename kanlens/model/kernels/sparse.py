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
from kanlens.model.kernels import base_function, passes, pool
from kanlens.model.kernels.internals import on_disk
from kanlens.model.kernels.local_basis import LocalBasis
from kanlens.model.kernels.second_order import batched, differentiable
from kanlens.model.kernels.vectors import BYTES

LARGE = 8192  # packed weights up to which passes for few rows save 2 us, and take 4 s to compile
PAIR, PRODUCT = 4.0, 1 / 60  # nanoseconds of one number of x, and of one product beside it
PACKED = 0.2  # of one number of the weights

_stored: dict[tuple[torch.dtype, int], bool] = {}


def plain_sum(basis: LocalBasis, base: str, x: Tensor, weights: Weights) -> Tensor:
    """Return y (batch, out) from x (batch, in)."""
    rows, (n_out, n_in, n_basis) = x.shape[0], (shape := weights.spline.shape)
    values = None if base == "silu" else base_function.values(base, x)
    y, at = x.new_empty(rows, n_out), layout(shape, x.dtype, basis.degree)
    kernel, count, large = passes.forward, rows, at.size > LARGE
    if large and rows <= passes.DIRECT:
        kernel, count = passes.forward_single, 1  # no range of rows
    elif large and rows <= passes.FEW and (n_in > 2 * passes.SPAN or at.size > passes.DESK):
        kernel, count = passes.forward_spans, 1
    sizes = rows, n_in, n_out, n_basis
    run(kernel, weights, basis, [(x, values, weights.bias, y)], sizes, count, at.time)
    return y


def run(
    kernel: Callable[..., None],
    weights: Weights,
    basis: LocalBasis,
    tensors: Sequence[Sequence[Any]],
    sizes: tuple[int, int, int, int],
    count: int,
    time: float,
) -> None:
    """Call a pass with weights and tuples of tensors; threads of Python share out a range.

    It takes so many nanoseconds for one number of x; sizes are of its rows, inputs, outputs, basis.
    """
    rows, n_in, n_out, n_basis = sizes
    groups = (weights.spline, weights.scale, weights.mask, weights.base), *tensors
    held = [[each if each is None else each.contiguous() for each in group] for group in groups]
    at = [tuple([0 if each is None else each.data_ptr() for each in group]) for group in held]
    work = len(tensors) * n_in * (time * rows + PACKED * n_out * n_basis)
    given = *at, basis.arrays, basis.window, sizes
    threads, openmp = pool.team(work)
    if threads == 1 or openmp:
        kernel(*given, (0, count), (threads, openmp))
        return

    def task(begin: int, end: int) -> None:
        kernel(*given, (begin, end), (1, 0))

    pool.run(task, pool.split(count, threads), threads)


def is_stored(basis: LocalBasis) -> bool:
    """Return whether the passes for a dtype and degree were on disk when this was first asked."""
    key = basis.knots.dtype, basis.degree
    if key not in _stored:
        four, pair, rest = (0,) * 4, (0, 0), (basis.arrays, basis.window)
        arguments = {
            passes.forward: (four, four, *rest, four, pair, pair),
            passes.backward: (four, four, (0,) * 6, *rest, four, pair, pair),
        }
        _stored.setdefault(key, all(on_disk(*each) for each in arguments.items()))
    return _stored[key]


class FusedSum(torch.autograd.Function):
    """The sum over edges; keeps x and weights for its gradient, nothing in between."""

    @staticmethod
    def forward(ctx: Any, basis: LocalBasis, base: str, x: Tensor, *tensors: Any) -> Tensor:
        """Return what `plain_sum` does, for the fields of `Weights` in their order."""
        ctx.basis, ctx.base = basis, base
        ctx.save_for_backward(x, *tensors)
        return plain_sum(basis, base, x, Weights(*tensors))

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
    weights = Weights(*tensors)
    n_out, n_in, n_basis = shape = weights.spline.shape
    sizes, time = (len(x), n_in, n_out, n_basis), layout(shape, x.dtype, basis.degree).time
    run(passes.backward, weights, basis, [(x, *pair, grad), into], sizes, n_in, time)
    return found


class PackedLayout(NamedTuple):
    """How the weights of a layer are packed, and what a pass over them costs."""

    size: int  # numbers of all packed weights
    time: float  # nanoseconds of one number of x on one thread, by a rough estimate


@functools.cache
def layout(shape: tuple[int, int, int], dtype: torch.dtype, degree: int) -> PackedLayout:
    """Return the layout of spline weights (out, in, basis)."""
    n_out, n_in, n_basis = shape
    lanes = BYTES // dtype.itemsize
    stride = passes.stride_of.py_func(n_out, lanes)  # type: ignore[attr-defined]
    time = PAIR + PRODUCT * (degree + 2) * n_out
    return PackedLayout(n_in * (n_basis + 1) * stride, time)
