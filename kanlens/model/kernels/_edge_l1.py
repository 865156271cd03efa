"""Mean absolute edge value of a spline layer, without the (batch, out, in) tensor of edge values.

The rows of an input are sorted by the piece of its grid that they lie in, on which an edge is one
polynomial plus its weight times the base function; vector instructions sum all rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.model._spline_forward import Weights, mean_absolute_edges
from kanlens.model.kernels import _pool as pool
from kanlens.model.kernels import _silu as silu
from kanlens.model.kernels._autograd import _compilations, batched, compilation_of, differentiable
from kanlens.model.kernels._choice import Compilation
from kanlens.model.kernels._compiling import Array, flat, inlined, inner, jit
from kanlens.model.kernels._local_support import sort_rows, write_pieces
from kanlens.model.kernels._parallel import share_out
from kanlens.model.kernels._vectors import add_signed_slopes, add_signed_sums
from kanlens.splines._local_basis import LocalBasis

BLOCK = 2048  # rows whose pieces are looked up together
RUN = 256  # rows of one piece whose basis is tabulated
PAIR, PRODUCT = 4.0, 1 / 60  # nanoseconds per number in x, and per product with a weight
LANES = 16  # numbers of the longest vector: runs are filled up with zeros to a multiple


class EdgeL1(torch.autograd.Function):
    """The norms of all edges of a layer; saves tensors of the sizes of x and of the weights.

    The forward pass also computes the gradient of the weights, so that two passes suffice.
    """

    @staticmethod
    def forward(ctx: Any, basis: LocalBasis, base: str, x: Tensor, *tensors: Any) -> Tensor:
        """Return norms (out, in) from x (batch, in) and the fields of `Weights` in their order."""
        ctx.basis, ctx.base = basis, base
        norms, slopes = edge_norms(basis, base, x, Weights(*tensors))
        ctx.save_for_backward(x, *tensors, slopes if any(ctx.needs_input_grad[3:]) else None)
        return norms.mT.contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients, by torch operations when they must be differentiable again."""
        basis, base, (*tensors, slopes) = ctx.basis, ctx.base, ctx.saved_tensors
        want_x, *want = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or batched(grad):
            reference = partial(mean_absolute_edges, again=False)
            wanted = want_x, *want[:3], False, False
            return None, None, *differentiable(reference, basis, base, tensors, grad, wanted)
        x, weights, grad_x = tensors[0], Weights(*tensors[1:]), None
        gradients: tuple[Tensor | None, ...] = (None, None, None)
        grad = grad.mT.contiguous().resolve_neg()
        if any(want[:3]):
            with pool.safe():
                gradients = weights.unpacked(slopes * grad.unsqueeze(1))
        if want_x:
            grad_x = norms_gradient(basis, base, x, weights, grad)
        return None, None, grad_x, *gradients, None, None


def compilation(basis: LocalBasis) -> Compilation:
    """Return the compilation of the norms and of their gradient for a dtype and degree."""
    key = "norms", basis.knots.dtype, basis.degree
    if key not in _compilations:
        line, rest, span = basis.starts, (basis.arrays, basis.window), ((0, 0, 0), (0, 0))
        points, ends = (line, line, np.empty(0, np.int32)), (*rest, line, line, (0,) * 4)
        arguments = {
            norms_of: ((points, line, *ends), *span),
            gradient_x: ((points, line, line, *ends), *span),
        }
        _compilations.setdefault(key, compilation_of(arguments, basis))
    return _compilations[key]


def edge_norms(basis: LocalBasis, base: str, x: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Return the norms (in, out) over x (batch, in), and their gradient by the packed weights."""
    x = x.contiguous()
    packed, sizes, time = _packed(x, weights)
    slopes, norms = torch.zeros_like(packed), torch.empty_like(packed[:, 0])
    points = flat(x), flat(silu.values(base, x)), _pieces(x, basis)
    arrays = flat(packed), basis.arrays, basis.window, flat(norms), flat(slopes)
    pool.share(norms_of, (points, *arrays, sizes), len(packed), time)
    return norms, slopes


def _packed(x: Tensor, weights: Weights) -> tuple[Tensor, tuple[int, ...], float]:
    """Return the packed weights, the sizes for kernels, and roughly the nanoseconds of a pass."""
    with pool.safe():
        packed = weights.packed()
    time = 2 * len(x) * (PAIR * x.shape[1] + PRODUCT * packed.numel())
    return packed, (*x.shape, packed.shape[2], packed[0].numel()), time


def norms_gradient(
    basis: LocalBasis, base: str, x: Tensor, weights: Weights, grad: Tensor
) -> Tensor:
    """Return the gradient by x (batch, in) from that by the norms (in, out)."""
    x = x.contiguous()
    packed, sizes, time = _packed(x, weights)
    grad_x = torch.empty_like(x)
    value, slope = silu.pair(base, x)
    points = (flat(x), flat(value), _pieces(x, basis)), flat(slope)
    arrays = flat(packed), basis.arrays, basis.window, flat(grad), flat(grad_x)
    pool.share(gradient_x, (*points, *arrays, sizes), len(packed), time)
    return grad_x


def _pieces(x: Tensor, basis: LocalBasis) -> Array:
    """Return the index of the piece that contains each number of x."""
    held, (rows, n_in) = np.empty(x.numel(), np.int32), x.shape
    pool.share(pieces_of, (flat(x), n_in, basis.arrays, held), rows, PAIR * x.numel() / 10)
    return held


@jit
def pieces_of(arguments, span, team):
    """Call `write_pieces` on a span of rows."""
    share_out(write_pieces, arguments, span, team)


@inlined
def make_room(pieces, like, window):
    """Allocate the arrays that `cut` and one run of points need."""
    held, order = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int64)
    ends, runs = np.empty(pieces, np.int64), np.empty((pieces + BLOCK // RUN, 3), np.int64)
    live, kind = len(window), like.dtype
    run = np.empty(RUN, kind), np.zeros((live + 1, RUN), kind)
    return (held, order, ends, runs), (*run, np.empty(live + 1, kind))


@inner
def cut(points, n_in, i, begin, end, room):
    """Sort rows of input i into runs (piece, first, end); return (count, True if x is finite)."""
    (x, _, pieces), (held, order, ends, runs), finite, number, done = points, room, True, 0, 0
    for r in range(begin, end):
        held[r - begin] = pieces[r * n_in + i]
        finite = finite and abs(x[r * n_in + i]) < np.inf
    sort_rows(held, end - begin, ends, order)
    for j in range(end - begin):
        order[j] = (begin + order[j]) * n_in + i
    for c in range(len(ends)):
        while done < ends[c]:
            runs[number, 0], runs[number, 1] = c, done
            done = min(ends[c], done + RUN)
            runs[number, 2] = done
            number += 1
    return number, finite


@inner
def tabulate(source, places, at, basis, points, numbers, window):
    """Write the nonzero basis functions and the base at x[places]; return the padded count."""
    (x, base, _), live, count = source, len(window), len(places)
    origin, scale, powers = basis[2], basis[3], basis[5]
    for j in range(count):
        points[j] = (x[places[j]] - origin[at]) * scale[at]
        numbers[live, j] = base[places[j]]
    for k in range(live):
        column = at * live * live + k
        for j in range(count):
            value = powers[column + (live - 1) * live]
            for p in range(live - 2, -1, -1):
                value = value * points[j] + powers[column + p * live]
            numbers[k, j] = value
    padded = -(-count // LANES) * LANES
    numbers[:, count:padded] = 0
    return padded


@inner
def tabulate_slopes(base_slope, places, at, basis, points, slopes, window):
    """Write the derivatives in x of the functions of `tabulate`."""
    live, count, scale, powers = len(window), len(places), basis[3], basis[5]
    kind = points.dtype.type
    for j in range(count):
        slopes[live, j] = base_slope[places[j]]
    for k in range(live):
        column = at * live * live + k
        for j in range(count):
            value = kind(0)
            for p in range(live - 1, 0, -1):
                value = value * points[j] + kind(p) * powers[column + p * live]
            slopes[k, j] = value * scale[at]


@inlined
def load_weights(packed, at, stride, base_at, weights, window):
    """Copy the weights of one edge's nonzero functions in a piece, the base function's last."""
    for k in range(len(window)):
        weights[k] = packed[at + k * stride]
    weights[len(window)] = packed[base_at]


@jit
def norms_of(arguments, span, team):
    """Call `sum_edges` on a span of inputs."""
    share_out(sum_edges, arguments, span, team)


@inner
def sum_edges(source, packed, basis, window, norms, grads, sizes, begin, end):
    """Write the norms (in, out) of some inputs, and their gradients by the packed weights."""
    (rows, n_in, n_out, size), first = sizes, basis[4]
    room, (points, numbers, weights) = make_room(len(first), packed, window)
    order, runs, sums = room[1], room[3], np.empty(size)
    for i in range(begin, end):
        sums[:] = 0
        for top in range(0, rows, BLOCK):
            number, finite = cut(source, n_in, i, top, min(rows, top + BLOCK), room)
            if not finite:
                sums[:] = np.nan
            for n in range(number):
                c, places = runs[n, 0], order[runs[n, 1] : runs[n, 2]]
                count = tabulate(source, places, i * basis[6] + c, basis, points, numbers, window)
                for o in range(n_out):
                    at, base_at = first[c] * n_out + o, size - n_out + o
                    load_weights(packed, i * size + at, n_out, i * size + base_at, weights, window)
                    add_signed_sums(numbers, RUN, count, weights, sums, at, n_out, base_at, window)
        write_norms(packed, sums, i, rows, norms, grads, n_out)


@inner
def write_norms(packed, sums, i, rows, norms, grads, n_out):
    """Write the norms of one input and their gradients from the signed sums of the basis."""
    size = len(sums)
    for o in range(n_out):
        total = 0.0
        for at in range(o, size, n_out):
            total += packed[i * size + at] * sums[at]
            grads[i * size + at] = sums[at] / rows
        norms[i * n_out + o] = total / rows


@jit
def gradient_x(arguments, span, team):
    """Call `sum_slopes` on a span of inputs."""
    share_out(sum_slopes, arguments, span, team)


@inner
def sum_slopes(source, base_slope, packed, basis, window, grad, grad_x, sizes, begin, end):
    """Write the gradient by x (row, in) of some inputs, from that by their norms (in, out)."""
    (rows, n_in, n_out, size), first = sizes, basis[4]
    room, (points, numbers, weights) = make_room(len(first), packed, window)
    order, runs, slopes, totals = room[1], room[3], np.zeros_like(numbers), np.empty_like(points)
    for i in range(begin, end):
        for top in range(0, rows, BLOCK):
            number, _ = cut(source, n_in, i, top, min(rows, top + BLOCK), room)
            for n in range(number):
                c, places = runs[n, 0], order[runs[n, 1] : runs[n, 2]]
                piece, totals[:] = i * basis[6] + c, 0
                count = tabulate(source, places, piece, basis, points, numbers, window)
                tabulate_slopes(base_slope, places, piece, basis, points, slopes, window)
                for o in range(n_out):
                    at, base_at = i * size + first[c] * n_out + o, (i + 1) * size - n_out + o
                    load_weights(packed, at, n_out, base_at, weights, window)
                    factor = grad[i * n_out + o]
                    add_signed_slopes(numbers, slopes, RUN, count, weights, factor, totals, window)
                for j in range(len(places)):
                    grad_x[places[j]] = totals[j] / rows
