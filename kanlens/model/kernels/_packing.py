"""Pack weights into the memory layouts of the kernels, and unpack their gradients.

Blocks are transposed in SIMD registers within a core's cache: packing a 784 -> 64 layer took 62 us,
and 216 with a buffer for each edge.

For many rows and few outputs, if all outputs fit a vector, evaluating the basis takes longest. The
weights are then first converted to a polynomial for every edge and piece, in the powers of one
number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from kanlens.model.kernels._compiling import get, inlined, inner, put
from kanlens.model.kernels._local_support import PAIRS, add_part
from kanlens.model.kernels._vectors import BYTES, Emitter, Value, emitted, empty_line

COLUMNS = 256  # basis functions, of some inputs, whose weights are packed at a time
TABLE = 131_072  # coefficients of polynomials that stay in a core's cache
MAX_VECTORS = 4  # vectors of outputs up to which polynomials are faster
# rows for each piece, times vectors squared, from which converting the weights is faster
MIN_ROWS_PER_PIECE = 5


@emitted
def turn_block(emit, source, at, stride, rows, columns, target, to, target_stride, stored):
    """Write the transpose of `rows` and `columns` of a matrix.

    Rows and columns beyond one vector are left out; `stored` numbers of each are written, the last
    row repeated.
    """
    emit.mask = emit.first(columns)
    block = _transposed(emit, _masked_rows(emit, source, at, stride, rows))
    mask = emit.first(stored)
    nothing = ir.Constant(mask.type, [0] * emit.full)
    for j, row in enumerate(block):
        there = emit.builder.icmp_signed("<", ir.Constant(columns.type, j), columns)
        emit.mask = emit.builder.select(there, mask, nothing)
        emit.store(row, target, to, emit.full)
        to = emit.builder.add(to, target_stride)


def _masked_rows(emit: Emitter, data: Value, at: Value, stride: Value, count: Value) -> list[Value]:
    """Load `count` rows of a block; the last one is repeated to fill it."""
    rows = []
    for j in range(emit.full):
        rows.append(emit.load(data, at, emit.full))
        following = emit.builder.add(at, stride)
        more = emit.builder.icmp_signed("<", ir.Constant(count.type, j + 1), count)
        at = emit.builder.select(more, following, at)
    return rows


def _transposed(emit: Emitter, rows: list[Value]) -> list[Value]:
    """Return the columns of a block, by recursive exchange of off-diagonal quarters."""
    width = len(rows)
    lanes = ir.VectorType(ir.IntType(32), width)
    step = width // 2
    while step:
        low = [j + (width - step if j & step else 0) for j in range(width)]
        high = [j + (width if j & step else step) for j in range(width)]
        masks = ir.Constant(lanes, low), ir.Constant(lanes, high)
        for first in (j for j in range(width) if not j & step):
            pair = rows[first], rows[first + step]
            rows[first], rows[first + step] = (
                emit.builder.shuffle_vector(*pair, mask) for mask in masks
            )
        step //= 2
    return rows


@emitted
def scale_rows(emit, target, to, to_stride, source, at, stride, factors, f, count):
    """Write `count` rows (one vector each), multiplied by the vector at factors[f]."""
    factor = emit.load(factors, f, emit.full)
    with cgutils.for_range(emit.builder, count) as loop:
        here = emit.builder.add(at, emit.builder.mul(loop.index, stride))
        there = emit.builder.add(to, emit.builder.mul(loop.index, to_stride))
        scaled = emit.product(emit.load(source, here, emit.full), factor)
        emit.store(scaled, target, there, emit.full)


@emitted
def dot_rows(emit, target, to, a, at, stride, b, place, count):
    """Write one row: the sum of `count` rows of a, each multiplied by a consecutive row of b."""
    builder, zero = emit.builder, emit.zero(emit.full)
    total = cgutils.alloca_once_value(builder, zero)
    builder.store(zero, total)
    width = ir.Constant(place.type, emit.full)
    with cgutils.for_range(builder, count) as loop:
        here = builder.add(at, builder.mul(loop.index, stride))
        there = builder.add(place, builder.mul(loop.index, width))
        left, right = emit.load(a, here, emit.full), emit.load(b, there, emit.full)
        builder.store(emit.sum(emit.product(left, right), builder.load(total)), total)
    emit.store(builder.load(total), target, to, emit.full)


@inner
def lay_out(matrix, width, top, rows, left, columns, desk, to, lanes):
    """Copy some rows and columns of a matrix to the buffer `desk`, transposed."""
    for j in range(0, columns, lanes):
        at, place = top * width + left + j, to + j * lanes
        turn_block(matrix, at, width, rows, columns - j, desk, place, lanes, lanes)


@inner
def put_back(desk, at, lanes, matrix, width, top, rows, left, columns):
    """Copy rows of the buffer `desk` to columns of a matrix."""
    for j in range(0, columns, lanes):
        to, place = top * width + left + j, at + j * lanes
        turn_block(desk, place, lanes, columns - j, rows, matrix, to, width, columns - j)


@inner
def lay_out_factors(scale, mask, n_in, span, desk, places, lanes):
    """Copy the mask, and the coefficients' factor (mask times scale, if any), to the buffer."""
    (top, rows, left, inputs), (at_mask, at_factor) = span, places
    lay_out(mask, n_in, top, rows, left, inputs, desk, at_mask, lanes)
    scaled = len(scale) > 0
    lay_out(scale if scaled else mask, n_in, top, rows, left, inputs, desk, at_factor, lanes)
    for i in range(inputs if scaled else 0):
        place = at_factor + i * lanes
        scale_rows(desk, place, 0, desk, place, 0, desk, at_mask + i * lanes, 1)


@inner
def pack_inputs(splines, base, packed, sizes, lanes, origin, begin, end):
    """Pack the weights of inputs begin to end as (in, basis + 1, lane).

    `spline` (out, in, basis) is multiplied by `mask` and `scale` (out, in), unless empty; `base` by
    `mask`. The packed array starts at input `origin`.
    """
    (spline, scale, mask), (n_in, n_out, stride) = splines, sizes
    n_basis = len(spline) // (n_in * n_out)
    group = max(1, COLUMNS // n_basis)
    part, width = group * lanes, n_in * n_basis
    at_factor, at_base, at_spline = part, 2 * part, 3 * part
    desk = np.empty(3 * part + group * n_basis * lanes, packed.dtype)
    for left in range(begin, end, group):
        inputs = min(group, end - left)
        column, columns = left * n_basis, inputs * n_basis
        for top in range(0, n_out, lanes):
            rows = n_out - top
            span = (top, rows, left, inputs)
            lay_out_factors(scale, mask, n_in, span, desk, (np.int64(0), at_factor), lanes)
            lay_out(base, n_in, top, rows, left, inputs, desk, at_base, lanes)
            lay_out(spline, width, top, rows, column, columns, desk, at_spline, lanes)
            for i in range(inputs):
                here, to = i * lanes, (left + i - origin) * (n_basis + 1) * stride + top
                at = at_spline + here * n_basis
                scale_rows(packed, to, stride, desk, at, lanes, desk, at_factor + here, n_basis)
                to += n_basis * stride
                scale_rows(packed, to, stride, desk, at_base + here, lanes, desk, here, 1)


@inner
def unpack_inputs(grad, splines, wanted, sizes, lanes, origin, begin, end):
    """Write the gradients of a layer's weights from packed ones that start at input `origin`."""
    (spline, scale, mask), (grad_spline, grad_scale, grad_base) = splines, wanted
    n_in, n_out, stride = sizes
    n_basis = len(spline) // (n_in * n_out)
    group = max(1, COLUMNS // n_basis)
    part, width = group * lanes, n_in * n_basis
    at_factor, at_base, at_scale, at_spline = part, 2 * part, 3 * part, 4 * part
    desk = np.empty(4 * part + group * n_basis * lanes, grad.dtype)
    for left in range(begin, end, group):
        inputs = min(group, end - left)
        column, columns = left * n_basis, inputs * n_basis
        for top in range(0, n_out, lanes):
            rows = n_out - top
            span = (top, rows, left, inputs)
            lay_out_factors(scale, mask, n_in, span, desk, (np.int64(0), at_factor), lanes)
            if len(scale) > 0:
                lay_out(spline, width, top, rows, column, columns, desk, at_spline, lanes)
            for i in range(inputs):
                here, at = i * lanes, (left + i - origin) * (n_basis + 1) * stride + top
                to = at_spline + here * n_basis
                if len(scale) > 0:
                    dot_rows(desk, at_scale + here, grad, at, stride, desk, to, n_basis)
                    place = at_scale + here
                    scale_rows(desk, place, 0, desk, place, 0, desk, here, 1)
                scale_rows(desk, to, lanes, grad, at, stride, desk, at_factor + here, n_basis)
                at += n_basis * stride
                scale_rows(desk, at_base + here, 0, grad, at, 0, desk, here, 1)
            put_back(desk, at_spline, lanes, grad_spline, width, top, rows, column, columns)
            put_back(desk, at_base, lanes, grad_base, n_in, top, rows, left, inputs)
            if len(scale) > 0:
                put_back(desk, at_scale, lanes, grad_scale, n_in, top, rows, left, inputs)


@inlined
def pays(rows, pieces, vectors, numbers):
    """Return whether polynomials are faster than packed weights."""
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
    """Write polynomials and base weights of inputs begin to end; the table's first is `origin`."""
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
