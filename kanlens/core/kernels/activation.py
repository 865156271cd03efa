"""The mean of |phi(x)| of every edge of a spline layer, without the values of the edges.

Each input is sorted once; then an edge needs its sign changes only, whose number has little to do
with that of the rows: for 256 inputs and outputs, 5 intervals and 2048 rows there are 134 million
values, and in a new layer some 67,000 sign changes. Measured on one core there, value and all
gradients take half as long as the layer itself forward and backward, and from 16,384 rows on a
third. Memory is that of x and of the weights, some times over.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from kanlens.core import kernels
from kanlens.core.edge_sum import Weights
from kanlens.core.kernels import base_function, function, pool, sparse
from kanlens.core.kernels.activation_reference import mean_size
from kanlens.core.kernels.local_basis import LocalBasis, local_basis
from kanlens.core.kernels.passes import Array, Gradients, flat

if TYPE_CHECKING:
    from kanlens.core.spline_edges import SplineEdges

__all__ = ["activation_l1"]

LANES = 16  # rows of weights a kernel may read beyond the last
ROW, EDGE, TURN = 8.0, 1.2, 0.5  # nanoseconds of a row, of an edge in a run, of a number

_wide: WeakKeyDictionary[LocalBasis, Any] = WeakKeyDictionary()


def activation_l1(layer: SplineEdges, x: Tensor) -> Tensor:  # (out, in)
    """Return the mean over the rows of |phi_oi(x_i)|, exact.

    Parameters
    ----------
    layer : SplineEdges
    x : Tensor, shape (batch, in)
        In the scaled units of the layer; at least one row.

    Returns
    -------
    Tensor, shape (out, in)
        Differentiable in the weights and in `x`; the slope of |phi| where phi is zero is zero. An
        input with a value that is not finite has NaN.

    Examples
    --------
    >>> from kanlens.core.layers import KANLinear
    >>> layer, x = KANLinear(3, 2), torch.rand(50, 3)
    >>> torch.allclose(activation_l1(layer, x), layer.edge_values(x).abs().mean(0))
    True
    """
    weights = layer.weights()
    if (
        torch.compiler.is_compiling()
        or kernels.asked() == "torch"
        or not kernels._can_run(layer, x, layer.weights())
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
    result: Tensor = ActivationL1.apply(plan_of(layer), x, *given)
    return result


def direct_points(n_out: int) -> int:
    """Return up to how many points of a run all edges are evaluated one by one.

    More are left to the search for sign changes. With so many points both were measured to take as
    long, forward and backward, the search somewhat less for new layers, whose edges hardly bend,
    and somewhat more for rough ones: 110 points for 1 output, 45 to 80 for 32, 24 to 40 for 128
    and more.

    Examples
    --------
    >>> direct_points(1), direct_points(256)
    (105, 32)
    """
    return 30 + 600 // (n_out + 7)


class NormPlan(function.Plan):
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


def plan_of(layer: SplineEdges) -> NormPlan:
    """Return what a layer is.

    Examples
    --------
    >>> from kanlens.core.layers import KANLinear
    >>> plan_of(KANLinear(3, 2)).degree
    3
    """
    return NormPlan(
        path="sparse",
        basis=kernels._basis(layer),
        degree=layer.spline_order,
        extrapolation=layer.mode,
        base=layer.base_name,
    )


class ActivationL1(torch.autograd.Function):
    """The norms of all edges of a layer; keeps what is as large as x and as the weights."""

    @staticmethod
    def forward(ctx: Any, plan: NormPlan, x: Tensor, *tensors: Tensor | None) -> Tensor:
        """Return norms (out, in) from x (batch, in) and the fields of `Weights` in their order."""
        result, signs = norms(x.contiguous(), function._weights(tensors), plan)
        ctx.plan = plan
        ctx.save_for_backward(x, *tensors)
        ctx.signs = signs if any(ctx.needs_input_grad) else None
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        plan, (x, *tensors) = ctx.plan, ctx.saved_tensors
        want_x, *want = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or function._batched(grad):
            asked = want_x, *want[:3], False, False
            return function._differentiable(plan, x, tensors, grad, asked)
        given = _by_input(grad, ctx.signs.stride)
        found = Gradients()
        if any(want[:3]):
            found = gradient_weights(function._weights(tensors), ctx.signs, given)
        grad_x = gradient_x(len(x), ctx.signs, plan, given) if want_x else None
        return None, grad_x, found.spline, found.scale, found.base, None, None


@dataclass(frozen=True, kw_only=True, eq=False)
class Sorted:
    """The distinct finite values of every input (in, batch), and the rows in their order.

    Attributes
    ----------
    points, ends : ndarray, shape (in * batch,)
        The values in ascending order, then zeros, and how many rows are at or below each value.
    order : ndarray, shape (in * batch,)
        The rows in ascending order, those that are not finite last.
    groups : ndarray, shape (in,)
        Number of distinct values.
    """

    points: Array
    ends: Array
    order: Array
    groups: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Signs:
    """The signs of all edges on sorted inputs, and what they make of the weights.

    Attributes
    ----------
    rows : Sorted
    base : ndarray, shape (in * batch,)
        The base function at the points.
    packed, slopes : ndarray, shape (in * (basis + 1) * stride,)
        The weights, and the slopes of the norms in them.
    stride, n_out : int
        Numbers from one row of outputs to the next, and outputs.
    marks : ndarray, shape (in,)
        Number of runs up to each input, counted from the first of its part.
    parts : list
        First and last input, and their runs, signs at the beginnings of runs, and events.
    """

    rows: Sorted
    base: Array
    packed: Array
    slopes: Array
    stride: int
    n_out: int
    marks: Array
    parts: list[tuple[int, int, Any]]


def norms(x: Tensor, weights: Weights, plan: NormPlan) -> tuple[Tensor, Signs]:
    """Return the mean of |phi| (out, in) over x (batch, in), and what its gradient needs."""
    from kanlens.core.kernels import activation_passes
    from kanlens.core.kernels.activation_loops import make_desk

    (n_rows, n_in), n_out = x.shape, len(weights.base)
    rows, packed = sort_columns(x), sparse._pack(weights)
    stride = len(packed) // (n_in * (weights.spline.shape[2] + 1))
    found, marks = np.empty((n_in, stride)), np.empty(n_in, np.int64)
    slopes, parts = np.empty_like(packed), []
    base = flat(base_function.values(plan.base, torch.from_numpy(rows.points)))
    basis = _arrays(plan)
    samples = rows.points, base, rows.ends
    desk = make_desk(n_rows, len(packed) // n_in, stride, n_out, len(plan.basis.window))
    direct = direct_points(n_out)

    def task(begin: int, end: int) -> None:
        part = activation_passes.norms_of(
            samples,
            rows.groups,
            packed,
            n_rows,
            direct,
            desk,
            np.empty(desk.end),
            basis,
            slopes,
            found.reshape(-1),
            marks,
            (begin, end),
            plan.basis.window,
        )
        parts.append((begin, end, part))

    _share(task, n_in, ROW * n_rows + EDGE * plan.basis.pieces * n_out)
    result = np.ascontiguousarray(found[:, :n_out].T, dtype=packed.dtype)
    signs = Signs(
        rows=rows,
        base=base,
        packed=packed,
        slopes=slopes,
        stride=stride,
        n_out=n_out,
        marks=marks,
        parts=parts,
    )
    return torch.from_numpy(result), signs


def gradient_x(n_rows: int, signs: Signs, plan: NormPlan, grad: Array) -> Tensor:  # (batch, in)
    """Return the gradient to x from that of the norms (in, stride)."""
    from kanlens.core.kernels import activation_passes
    from kanlens.core.kernels.activation_loops import make_desk

    n_out = signs.n_out
    samples, basis = (signs.rows.points, signs.base, signs.rows.ends), _arrays(plan)
    base_slope = flat(base_function.pair(plan.base, torch.from_numpy(signs.rows.points))[1])
    found, size = np.empty_like(signs.rows.points), len(signs.packed) // len(grad)
    desk = make_desk(n_rows, size, signs.stride, n_out, len(plan.basis.window))
    given = grad.astype(np.float64).reshape(-1)

    def task(j: int, _: int) -> None:
        first, last, part = signs.parts[j]
        activation_passes.slopes_of(
            samples,
            base_slope,
            signs.rows.order,
            signs.packed,
            n_rows,
            desk,
            np.empty(desk.end),
            basis,
            given,
            found,
            signs.marks,
            part,
            (first, last),
            plan.basis.window,
        )

    work = len(grad) * (ROW * n_rows + EDGE * plan.basis.pieces * n_out)
    jobs = [(j, j + 1) for j in range(len(signs.parts))]
    pool.run(task, jobs, pool.threads_for(work))
    return torch.from_numpy(_turned(found, n_rows).reshape(n_rows, -1))


def gradient_weights(weights: Weights, signs: Signs, grad: Array) -> Gradients:
    """Return the gradients of spline, scale and base from that of the norms (in, stride)."""
    size, (n_in, stride) = len(signs.slopes), grad.shape
    total = np.empty(size + LANES * stride, dtype=grad.dtype)  # what is beyond is read, not used
    total[size:] = 0
    shape = n_in, -1, stride
    np.multiply(signs.slopes.reshape(shape), grad[:, None], out=total[:size].reshape(shape))
    return sparse._unpack(total, weights, None)


def sort_columns(x: Tensor) -> Sorted:
    """Sort every column of x (batch, in).

    Examples
    --------
    >>> found = sort_columns(torch.tensor([[2.0], [1.0], [2.0]]))
    >>> found.points.tolist(), found.ends[:2].tolist(), found.order.tolist()
    ([1.0, 2.0, 0.0], [1, 3], [1, 0, 2])
    """
    from kanlens.core.kernels import activation_sorting

    n_rows, n_in = x.shape
    columns = _turned(flat(x), n_in)
    bits = columns.view(f"u{columns.itemsize}")
    sign, infinite = np.array([-0.0, np.inf], columns.dtype).view(bits.dtype)
    marks = sign, ~sign, infinite, sign | ~sign
    found = Sorted(
        points=np.empty_like(columns),
        ends=np.empty(len(columns), np.int32),
        order=np.empty(len(columns), np.int32),
        groups=np.empty(n_in, np.int64),
    )
    wanted = found.points, found.ends, found.order, found.groups

    def task(begin: int, end: int) -> None:
        activation_sorting.sort_columns(columns, bits, n_rows, marks, *wanted, begin, end)

    _share(task, n_in, ROW * n_rows)
    return found


def _turned(matrix: Array, width: int) -> Array:
    """Return a flat matrix of so many columns the other way round."""
    from kanlens.core.kernels import activation_sorting

    found, height = np.empty_like(matrix), len(matrix) // width

    def task(begin: int, end: int) -> None:
        activation_sorting.turn(matrix, width, found, begin, end)

    threads = pool.threads_for(TURN * len(matrix))
    pool.run(task, pool.shares(height, threads, 16), threads)
    return found


def _arrays(plan: NormPlan) -> Any:
    """Return what the kernels take of a basis, worked out in float64."""
    known = _wide.get(plan.basis)
    if known is None:
        knots = plan.basis.knots.double()
        known = local_basis(knots, plan.degree, extrapolation=plan.extrapolation).arrays
        _wide[plan.basis] = known
    return known


def _by_input(grad: Tensor, stride: int) -> Array:  # (out, in) -> (in, stride)
    found = np.zeros((grad.shape[1], stride), flat(grad[:0]).dtype)
    found[:, : len(grad)] = grad.detach().numpy().T
    return found


def _share(task: Any, n_in: int, work: float) -> None:
    threads = pool.threads_for(work * n_in)
    pool.run(task, pool.shares(n_in, threads), threads)
