"""Kernel for many rows and few outputs, over piecewise polynomials.

Where all outputs fit a vector, finding what multiplies the weights takes longest. Here the weights
are turned first into a polynomial for every edge and piece, whose powers are those of one number.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from kanlens.model.kernels.base_function import points_and_base
from kanlens.model.kernels.compiling import get, inlined, inner, put
from kanlens.model.kernels.sparse_loops import PAIRS, add_part, guess_piece, search_piece
from kanlens.model.kernels.vectors import emitted


@emitted
def add_polynomials(emit, y, width, rows, table, places, points, bases, base_rows, starts, window):
    """Add to y (row, width) polynomials of some inputs, and multiples of the base's weights.

    Input m gives each row the polynomial at ``places[starts[m] + r]``, highest power last, of
    ``points[starts[m] + r]``, and the weights at ``base_rows[m]`` times ``bases[starts[m] + r]``.
    """
    builder = emit.builder
    zero, one, full = (ir.Constant(width.type, each) for each in (0, 1, emit.full))
    with cgutils.for_range_slice(builder, zero, width, full, width.type) as (left, _):
        weights = [emit.load(table, builder.add(row, left), emit.full) for row in base_rows]
        with cgutils.for_range_slice(builder, zero, rows, one, width.type) as (r, _):
            to = builder.add(builder.mul(r, width), left)
            total = emit.load(y, to, emit.full)
            for start, weight in zip(starts, weights, strict=True):
                at = builder.add(start, r)
                u = emit.splat(emit.load(points, at, 1), emit.full)
                row = builder.add(builder.load(builder.gep(places, [at])), left)
                value = emit.load(table, row, emit.full)
                for _ in window[1:]:
                    row = builder.add(row, width)
                    value = emit.sum(emit.product(value, u), emit.load(table, row, emit.full))
                base = emit.splat(emit.load(bases, at, 1), emit.full)
                total = emit.sum(emit.product(base, weight), emit.sum(total, value))
            emit.store(total, y, to, emit.full)


@inner
def write_polynomials_of(packed, table, basis, sizes, window, begin, end):
    """Write the polynomials of inputs begin to end, highest power first, and the base's."""
    (stride, size), live, first, powers = sizes, len(window), basis[4], basis[5]
    pieces = len(first)
    whole = (pieces * live + 1) * stride
    for i in range(begin, end):
        for c in range(pieces):
            for p in range(live):
                to = i * whole + (c * live + live - 1 - p) * stride
                at = ((i * basis[9] + c) * live + p) * live
                table[to : to + stride] = 0
                for k in range(live):
                    row, factor = i * size + (get(first, c) + k) * stride, get(powers, at + k)
                    for j in range(stride):
                        put(table, to + j, get(table, to + j) + factor * get(packed, row + j))
        to, row = (i + 1) * whole - stride, (i + 1) * size - stride
        table[to : to + stride] = packed[row : row + stride]


@inlined
def place(x, base, n_in, i, begin, basis, points, places, bases, to, count, start, step):
    """Write for rows of input i where x lies in its piece, the piece's place, and the base."""
    starts, ends, origins, scales, first, _, low, density, even, jump, one = basis
    at, left, rate = i * jump, low[i * one], density[i * one]
    for r in range(count):
        here = (begin + r) * n_in + i
        value = get(x, here)
        if even:
            piece = guess_piece(value, starts, ends, at, len(first), left, rate)
        else:
            piece = search_piece(value, starts, at, len(first))
        put(points, to + r, (value - get(origins, at + piece)) * get(scales, at + piece))
        put(places, to + r, start + piece * step)
        put(bases, to + r, get(base, here))


@inner
def write_narrow_rows(x, base, table, basis, window, bias, y, sizes, block, begin, end):
    """Write y (row, out) of rows begin to end."""
    (n_in, stride), n_out, live = sizes, len(bias), len(window)
    step = live * stride
    whole = len(basis[4]) * step + stride
    points, bases = np.empty((2, 2 * block), x.dtype)
    places, part = np.empty(2 * block, np.int64), np.empty(block * stride, x.dtype)
    room = np.empty(block * n_in, x.dtype)
    for top in range(begin, end, block):
        rows = min(end, top + block) - top
        mine, values = points_and_base(x, base, room, top * n_in, (top + rows) * n_in)
        for r in range(top, top + rows):
            y[r * n_out : (r + 1) * n_out] = bias
        for i in range(0, n_in, 2):
            if i % (2 * PAIRS) == 0:
                part[:] = 0
            for m in range(min(2, n_in - i)):
                into = points, places, bases, m * block, rows
                place(mine, values, n_in, i + m, 0, basis, *into, (i + m) * whole, step)
            base_row = (i + 1) * whole - stride
            if i + 1 < n_in:
                both = (base_row, base_row + whole), (0, block)
                add_polynomials(part, stride, rows, table, places, points, bases, *both, window)
            else:
                one = (base_row,), (0,)
                add_polynomials(part, stride, rows, table, places, points, bases, *one, window)
            if (i + 2) % (2 * PAIRS) == 0 or i + 2 >= n_in:
                add_part(part, stride, y, top, top + rows, n_out)
