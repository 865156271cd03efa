"""Pack weights into the memory layout of the kernels, and unpack their gradients.

Blocks are transposed in SIMD registers within a core's cache: packing a 784 -> 64 layer took 62 us,
and 216 with a buffer for each edge.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from kanlens.model.kernels._compiling import inner
from kanlens.model.kernels._vectors import Emitter, Value, emitted

COLUMNS = 256  # basis functions, of some inputs, whose weights are packed at a time


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
    """Write `count` rows of one vector each, multiplied by the row at factors[f]."""
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
    part = group * lanes
    at_factor, at_base, at_spline = part, 2 * part, 3 * part
    desk = np.empty(3 * part + group * n_basis * lanes, packed.dtype)
    for left in range(begin, end, group):
        inputs = min(group, end - left)
        for top in range(0, n_out, lanes):
            rows = n_out - top
            span = (top, rows, left, inputs)
            lay_out_factors(scale, mask, n_in, span, desk, (np.int64(0), at_factor), lanes)
            lay_out(base, n_in, top, rows, left, inputs, desk, at_base, lanes)
            columns = inputs * n_basis
            lay_out(
                spline, n_in * n_basis, top, rows, left * n_basis, columns, desk, at_spline, lanes
            )
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
