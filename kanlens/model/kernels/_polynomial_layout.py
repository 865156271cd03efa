"""Kernel for many rows and few outputs, over piecewise polynomials.

If all outputs fit a vector, evaluating the basis takes longest. Here the weights are first
converted to a polynomial for every edge and piece, in the powers of one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from kanlens.model.kernels._compiling import get, inlined, inner, put
from kanlens.model.kernels._local_support import PAIRS, add_part
from kanlens.model.kernels._packing import COLUMNS, pack_inputs
from kanlens.model.kernels._vectors import BYTES, Emitter, Value, emitted, empty_line

TABLE = 131_072  # numbers of polynomials that stay in a core's cache
MAX_VECTORS = 4  # vectors of outputs up to which they pay
# rows for each piece, times vectors squared, from which turning the weights pays
MIN_ROWS_PER_PIECE = 5


@inlined
def pays(rows, pieces, vectors, numbers):
    """Return whether polynomials are faster."""
    return (
        vectors <= MAX_VECTORS
        and pieces * vectors * vectors * MIN_ROWS_PER_PIECE <= rows
        and numbers <= TABLE
    )


@emitted
def add_polynomials(emit, y, width, rows, table, points, basis, inputs, starts, sizes, window):
    """Add the contributions of some inputs to y (row, width).

    At ``starts[m]`` the table has the polynomials of input ``inputs[m]``, piece by piece, highest
    power first, and then the weights of the base function.
    """
    builder, (n_in, step, last) = emit.builder, sizes

    def over_rows(add: Callable[..., None]) -> None:
        with cgutils.for_range(builder, rows) as loop:
            inputs_here = []
            for i, start in zip(inputs, starts, strict=True):
                place = builder.add(builder.mul(loop.index, n_in), i)
                u, piece, number = _place(emit, points, basis, place, i)
                at = builder.add(start, builder.mul(piece, step))
                inputs_here.append((u, at, number, builder.add(start, last)))
            add(builder.mul(loop.index, width), inputs_here)

    def add(to: Value, inputs_here: list[Any], left: Value, lanes: int) -> None:
        total = emit.load(y, builder.add(to, left), lanes)
        for u, at, number, weights in inputs_here:
            point, row = emit.splat(u, lanes), builder.add(at, left)
            value = emit.load(table, row, lanes)
            for _ in window[1:]:
                row = builder.add(row, width)
                value = emit.sum(emit.product(value, point), emit.load(table, row, lanes))
            weight = emit.load(table, builder.add(weights, left), lanes)
            multiple = emit.product(emit.splat(number, lanes), weight)
            total = emit.sum(multiple, emit.sum(total, value))
        emit.store(total, y, builder.add(to, left), lanes)

    emit.widths = emit.full, emit.full // 2
    single = builder.icmp_signed("<=", width, ir.Constant(width.type, emit.full))
    with builder.if_else(single) as (one_vector, many):  # a loop less for every row
        with one_vector:
            emit.lanes(width, lambda *at: over_rows(lambda *row: add(*row, *at)), whole=True)
        with many:
            over_rows(lambda *row: emit.lanes(width, lambda *at: add(*row, *at), whole=True))


def _place(emit: Emitter, points: Any, basis: Any, place: Value, i: Value) -> list[Value]:
    """Return the position of a number within its piece, the piece, and the base function."""
    builder, (x, base, _, held) = emit.builder, points
    _, _, origins, scales, _, _, jump, _ = basis
    piece = builder.sext(builder.load(builder.gep(held, [place])), i.type)
    own = builder.add(builder.mul(i, jump), piece)
    distance = builder.fsub(emit.load(x, place, 1), emit.load(origins, own, 1))
    return [emit.product(distance, emit.load(scales, own, 1)), piece, emit.load(base, place, 1)]


@emitted
def turn_weights(emit, table, to, width, packed, row, stride, powers, at, window):
    """Convert the weights of one piece to polynomials, the highest power first."""
    builder, live = emit.builder, len(window)

    def body(left: Value, lanes: int) -> None:
        place, weights, here = builder.add(row, left), [], builder.add(to, left)
        for _ in window:
            weights.append(emit.load(packed, place, lanes))
            place = builder.add(place, stride)
        for p in reversed(range(live)):
            total = emit.zero(lanes)
            for k, weight in enumerate(weights):
                factor = emit.load(powers, emit.offset(at, p * live + k), 1)
                total = emit.sum(emit.product(emit.splat(factor, lanes), weight), total)
            emit.store(total, table, here, lanes)
            here = builder.add(here, width)

    emit.widths = emit.full, emit.full // 2
    emit.lanes(width, body, whole=True)


@inner
def write_curves(splines, base_weight, table, basis, shape, window, origin, begin, end):
    """Write polynomials and base weights of inputs begin to end; the table begins with `origin`."""
    (_, n_in, n_out, n_basis, width, whole), live = shape, len(window)
    first, powers, jump = basis[4], basis[5], basis[6]
    lanes, step = BYTES // table.itemsize, live * width
    stride = -(-n_out // lanes) * lanes
    size, group = (n_basis + 1) * stride, min(end - begin, max(1, COLUMNS // n_basis))
    packed = empty_line(group * size, table)
    for left in range(begin, end, group):
        right = min(end, left + group)
        pack_inputs(splines, base_weight, packed, (n_in, n_out, stride), lanes, left, left, right)
        for i in range(left, right):
            row, to = (i - left) * size, (i - origin) * whole
            for c in range(len(first)):
                at, place = (i * jump + c) * live * live, row + get(first, c) * stride
                turn_weights(table, to + c * step, width, packed, place, stride, powers, at, window)
            for j in range(width):
                put(table, to + whole - width + j, get(packed, row + size - stride + j))


@inner
def add_curves(points, table, basis, y, shape, spans, window):
    """Add the contributions of inputs first to last, which the table holds, to rows of y."""
    (_, n_in, n_out, _, width, whole), (rows, first, last) = shape, spans
    part, lengths = empty_line(rows * width, y), (n_in, len(window) * width, whole - width)
    for i in range(first, last, 2):
        if (i - first) % (2 * PAIRS) == 0:
            part[:] = 0
        sources, start = (part, width, rows, table, points, basis), (i - first) * whole
        if i + 1 < last:
            add_polynomials(*sources, (i, i + 1), (start, start + whole), lengths, window)
        else:
            add_polynomials(*sources, (i,), (start,), lengths, window)
        if (i - first + 2) % (2 * PAIRS) == 0 or i + 2 >= last:
            add_part(part, width, y, rows, n_out)
