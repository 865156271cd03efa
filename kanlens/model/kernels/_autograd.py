"""The fused spline layer as a `torch.autograd.Function`, over the nonzero basis functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from kanlens.model._spline_forward import LayerBasis, Weights, edge_sum
from kanlens.model.kernels import _forward_backward as entry_points
from kanlens.model.kernels import _pool as pool
from kanlens.model.kernels import _silu as silu
from kanlens.model.kernels._choice import Compilation
from kanlens.model.kernels._compiling import on_disk
from kanlens.model.kernels._vectors import BYTES
from kanlens.splines._local_basis import LocalBasis

LARGE = 8192  # number of packed weights above which kernels for few rows save time
PAIR, PRODUCT = 4.0, 1 / 60  # nanoseconds per number in x, and per product of it
PACKED = 0.2  # nanoseconds to pack one weight

SPARED = 2e-6  # seconds that kernels for few rows save per call

_compilations: dict[tuple[Any, ...], Compilation] = {}  # by kernels, dtype and degree


def plain_sum(basis: LocalBasis, base: str, x: Tensor, weights: Weights) -> Tensor:
    """Return y (batch, out) from x (batch, in)."""
    rows, (n_out, n_in, n_basis) = x.shape[0], (shape := weights.spline.shape)
    values = None if base == "silu" else silu.values(base, x)
    y, (size, time) = x.new_empty(rows, n_out), cost(shape, x.dtype, basis.degree)
    kernel, count = entry_points.forward, rows
    if size > LARGE and rows <= entry_points.MAX_PRIVATE_TABLE_ROWS:
        wide = n_in > 2 * entry_points.SPAN or size > entry_points.DESK
        direct = rows <= entry_points.DIRECT
        few = entry_points.forward_single if direct else entry_points.forward_spans
        if (direct or wide) and compilation(basis, few).ready(SPARED):
            kernel, count = few, 1  # they ignore the range of rows
    sizes = rows, n_in, n_out, n_basis
    run(kernel, weights, basis, [(x, values, weights.bias, y)], sizes, count, time)
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
    """Call a kernel with addresses of weights and tensors; threads divide range(count).

    `time` is in nanoseconds per number in x and group of `tensors`; `sizes` count rows, inputs,
    outputs and basis functions.
    """
    rows, n_in, n_out, n_basis = sizes
    groups = (weights.spline, weights.scale, weights.mask, weights.base), *tensors
    held = [[t if t is None else t.contiguous() for t in group] for group in groups]
    addresses = [tuple([0 if t is None else t.data_ptr() for t in group]) for group in held]
    work = len(tensors) * n_in * (time * rows + PACKED * n_out * n_basis)
    pool.share(kernel, (*addresses, basis.arrays, basis.window, sizes), count, work)


def compilation(basis: LocalBasis, *kernels: Callable[..., Any]) -> Compilation:
    """Return the compilation of the kernels for a dtype and degree."""
    key = kernels, basis.knots.dtype, basis.degree
    if key not in _compilations:
        four, rest, span = (0,) * 4, (basis.arrays, basis.window), ((0, 0, 0), (0, 0))
        forward, backward = (four, four, *rest, four), (four, four, (0,) * 6, *rest, four)
        arguments: dict[Any, tuple[Any, ...]]
        arguments = dict.fromkeys(kernels or (entry_points.forward,), (forward, *span))
        if not kernels:
            arguments[entry_points.backward] = backward, *span
        _compilations.setdefault(key, compilation_of(arguments, basis))
    return _compilations[key]


def compilation_of(arguments: Mapping[Any, tuple[Any, ...]], basis: LocalBasis) -> Compilation:
    """Return the compilation of kernels for these arguments, with those of spline layers."""
    dtype = str(basis.knots.dtype).removeprefix("torch.")
    code = "from kanlens.model.kernels.__main__ import compile_passes; "
    code += f"compile_passes({dtype!r}, {basis.degree})"
    return Compilation(lambda: all(on_disk(*item) for item in arguments.items()), code)


class FusedSum(torch.autograd.Function):
    """The sum over edges; only x and weights are saved for the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, basis: LocalBasis, base: str, x: Tensor, *tensors: Any) -> Tensor:
        """Return y (batch, out) from x (batch, in) and the fields of `Weights` in their order."""
        ctx.basis, ctx.base = basis, base
        ctx.save_for_backward(x, *tensors)
        return plain_sum(basis, base, x, Weights(*tensors))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        basis, base = ctx.basis, ctx.base
        tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or batched(grad):
            return None, None, *differentiable(edge_sum, basis, base, tensors, grad, wanted)
        return None, None, *backward(basis, base, tensors, grad.resolve_neg(), wanted), None


def backward(
    basis: LocalBasis, base: str, tensors: Sequence[Any], grad: Tensor, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Return the wanted gradients of x and the weights, from that of y (batch, out)."""
    x, weights = tensors[0], Weights(*tensors[1:])
    pair = (None, None) if base == "silu" else silu.pair(base, x)
    wants = wanted[0], *3 * [any(wanted[1:4])], wanted[4]
    gradients = [
        torch.empty_like(t, memory_format=torch.contiguous_format)
        if want and t is not None
        else None
        for t, want in zip(tensors, wants, strict=False)
    ]
    into = *gradients[:3], None, *gradients[3:]
    n_out, n_in, n_basis = shape = weights.spline.shape
    sizes, time = (len(x), n_in, n_out, n_basis), cost(shape, x.dtype, basis.degree)[1]
    run(entry_points.backward, weights, basis, [(x, *pair, grad), into], sizes, n_in, time)
    return gradients


def differentiable(
    reference: Callable[..., Tensor],
    basis: LocalBasis,
    base: str,
    tensors: Sequence[Tensor | None],
    grad: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `reference` in torch operations, themselves differentiable."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():  # aliases: a tensor may have been made from another
        leaves: list[Any] = [t if t is None else t.view_as(t) for t in tensors]
        functions = LayerBasis(basis.knots, basis.degree, basis.extrapolation, base)
        y = reference(leaves[0], Weights(*leaves[1:]), functions)
    leaves = [leaf for leaf, want in zip(leaves, wanted, strict=True) if want]
    gradients = iter(torch.autograd.grad(y, leaves, grad.to(y.dtype), create_graph=again))
    return [next(gradients) if want else None for want in wanted]


def batched(grad: Tensor) -> bool:
    """Return whether gradients are batched, as by ``is_grads_batched``."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(grad) or functorch.is_legacy_batchedtensor(grad)


@functools.cache
def cost(shape: tuple[int, int, int], dtype: torch.dtype, degree: int) -> tuple[int, float]:
    """Return the number of packed weights, and roughly the nanoseconds per number in x."""
    n_out, n_in, n_basis = shape
    stride = entry_points.stride_of.py_func(n_out, BYTES // dtype.itemsize)
    return n_in * (n_basis + 1) * stride, PAIR + PRODUCT * (degree + 2) * n_out
