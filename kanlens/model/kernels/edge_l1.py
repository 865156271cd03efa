"""Mean absolute edge value of a spline layer, without the (batch, out, in) tensor of edge values.

The forward pass keeps the gradient to the weights, so value and all gradients take two passes over
the edge values: 1.9 times as long as the layer itself forward and backward, measured for 2048 rows
and 256 inputs and outputs. Memory is that of x and of the weights, some times over.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kanlens.model import kernels
from kanlens.model.edge_sum import Weights
from kanlens.model.kernels import base_function, function, pool, sparse
from kanlens.model.kernels.edge_l1_reference import mean_size
from kanlens.model.kernels.passes import Array, Gradients, flat

if TYPE_CHECKING:
    from kanlens.model.layers import KANLinear

__all__ = ["activation_l1"]


def activation_l1(layer: KANLinear, x: Tensor) -> Tensor:  # (out, in)
    """Return the mean over the rows of |phi_oi(x_i)|, exact.

    Parameters
    ----------
    layer : KANLinear
    x : Tensor, shape (batch, in)
        In the scaled units of the layer; at least one row.

    Returns
    -------
    Tensor, shape (out, in)
        Differentiable in the weights and in `x`; the slope of |phi| where phi is zero is zero. An
        input with a value that is not finite has NaN.

    Examples
    --------
    >>> from kanlens.model.layers import KANLinear
    >>> layer, x = KANLinear(3, 2), torch.rand(50, 3)
    >>> torch.allclose(activation_l1(layer, x), layer.edge_values(x).abs().mean(0))
    True
    """
    weights = layer.weights()
    if (
        torch.compiler.is_compiling()
        or kernels.asked() == "torch"
        or not kernels._can_run(layer, x, weights)
    ):
        return mean_size(
            x,
            weights,
            grid=layer.grid,
            degree=layer.spline_order,
            extrapolation=layer.mode,
            base=layer.base_name,
        )
    given = (getattr(weights, field.name) for field in fields(weights))
    result: Tensor = EdgeL1.apply(plan_of(layer), x, *given)
    return result


class EdgeL1Plan(function.Plan):
    """What a layer is, weights and rows aside."""

    def reference(self, x: Tensor, weights: Weights) -> Tensor:
        """Return the norms in torch operations."""
        return mean_size(
            x,
            weights,
            grid=self.basis.knots,
            degree=self.degree,
            extrapolation=self.extrapolation,
            base=self.base,
            again=False,
        )


def plan_of(layer: KANLinear) -> EdgeL1Plan:
    """Return what a layer is.

    Examples
    --------
    >>> from kanlens.model.layers import KANLinear
    >>> plan_of(KANLinear(3, 2)).degree
    3
    """
    return EdgeL1Plan(
        path="sparse",
        basis=kernels._basis(layer),
        degree=layer.spline_order,
        extrapolation=layer.mode,
        base=layer.base_name,
    )


class EdgeL1(torch.autograd.Function):
    """The norms of all edges of a layer; keeps what is as large as x and as the weights."""

    @staticmethod
    def forward(ctx: Any, plan: EdgeL1Plan, x: Tensor, *tensors: Tensor | None) -> Tensor:
        """Return norms (out, in) from x (batch, in) and the fields of `Weights` in their order."""
        result, ctx.slopes = norms(x.contiguous(), function._weights(tensors), plan)
        ctx.plan = plan
        ctx.save_for_backward(x, *tensors)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        plan, (x, *tensors) = ctx.plan, ctx.saved_tensors
        want_x, *want = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or function._batched(grad):
            asked = want_x, *want[:3], False, False
            return function._differentiable(plan, x, tensors, grad, asked)
        weights, found = function._weights(tensors), Gradients()
        given = np.zeros((x.shape[1], sparse.stride_of(len(grad), x)), ctx.slopes.dtype)
        given[:, : len(grad)] = grad.resolve_neg().numpy().T
        if any(want[:3]):
            total = ctx.slopes.reshape(len(given), -1, given.shape[1]) * given[:, None]
            found = sparse._unpack(total.reshape(-1), weights, None)
        grad_x = gradient_x(x.contiguous(), weights, plan, given) if want_x else None
        return None, grad_x, found.spline, found.scale, found.base, None, None


def norms(x: Tensor, weights: Weights, plan: EdgeL1Plan) -> tuple[Tensor, Array]:
    """Return the norms (out, in) over x (batch, in), and their slopes in the packed weights."""
    from kanlens.model.kernels import edge_l1_loops

    sizes, packed = _sizes(x, weights), sparse._pack(weights)
    slopes, found = np.zeros_like(packed), np.empty((x.shape[1], sizes[3]), packed.dtype)
    arrays = flat(x), flat(base_function.values(plan.base, x)), packed, plan.basis.arrays
    wanted = found.reshape(-1), slopes

    def task(begin: int, end: int) -> None:
        edge_l1_loops.norms_of(*arrays, *wanted, sizes, (begin, end), plan.basis.window)

    _share(task, x, plan, sizes)
    return torch.from_numpy(np.ascontiguousarray(found[:, : sizes[2]].T)), slopes


def gradient_x(x: Tensor, weights: Weights, plan: EdgeL1Plan, grad: Array) -> Tensor:
    """Return the gradient to x (batch, in) from that of the norms (in, stride)."""
    from kanlens.model.kernels import edge_l1_loops

    sizes, found = _sizes(x, weights), torch.empty_like(x)
    value, slope = base_function.pair(plan.base, x)
    points, wanted = (flat(x), flat(value), flat(slope)), (grad.reshape(-1), flat(found))
    weight = sparse._pack(weights), plan.basis.arrays

    def task(begin: int, end: int) -> None:
        edge_l1_loops.gradient_x(*points, *weight, *wanted, sizes, (begin, end), plan.basis.window)

    _share(task, x, plan, sizes)
    return found


def _sizes(x: Tensor, weights: Weights) -> tuple[int, ...]:
    """Return the numbers of rows, inputs and outputs, and the strides of packed weights."""
    n_out, n_in, n_basis = weights.spline.shape
    stride = sparse.stride_of(n_out, x)
    return len(x), n_in, n_out, stride, (n_basis + 1) * stride


def _share(task: Any, x: Tensor, plan: EdgeL1Plan, sizes: tuple[int, ...]) -> None:
    """Run a task on shares of the inputs."""
    threads = pool.threads_for(2 * sparse.nanoseconds(x.numel(), plan.basis, sizes[2]))
    pool.run(task, pool.shares(sizes[1], threads), threads)
