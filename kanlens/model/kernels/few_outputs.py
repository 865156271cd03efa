"""Kernel for many rows and few outputs, over piecewise polynomials.

Where all outputs fit a vector, finding what multiplies the weights takes longest. Here the weights
are turned first into a polynomial for every edge and piece, whose powers are those of one number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from kanlens.model.kernels.compiling import get, inner, put
from kanlens.model.kernels.pieces import points_of_rows, room_of_rows
from kanlens.model.kernels.sparse_loops import PAIRS, add_part
from kanlens.model.kernels.vectors import Value, emitted, empty_line


@emitted
def add_polynomials(emit, y, width, rows, table, points, basis, inputs, starts, sizes, window):
    """Add to y (row, width) what some inputs give each row.

    At ``starts[m]`` the table has the polynomials of input ``inputs[m]``, as many numbers for each
    of its pieces, highest power first, and then the weights of the base function.
    """
    builder, (x, base, _, held), (n_in, step, last) = emit.builder, points, sizes
    _, _, origins, scales, _, _, jump, _ = basis
    zero, one = (ir.Constant(rows.type, each) for each in (0, 1))

    def over_rows(add: Callable[..., None]) -> None:
        with cgutils.for_range_slice(builder, zero, rows, one, rows.type) as (r, _):
            found = []
            for i, start in zip(inputs, starts, strict=True):
                place = builder.add(builder.mul(r, n_in), i)
                piece = builder.sext(builder.load(builder.gep(held, [place])), i.type)
                own = builder.add(builder.mul(i, jump), piece)
                distance = builder.fsub(emit.load(x, place, 1), emit.load(origins, own, 1))
                u = emit.product(distance, emit.load(scales, own, 1))
                at = builder.add(start, builder.mul(piece, step))
                found.append((u, at, emit.load(base, place, 1), builder.add(start, last)))
            add(builder.mul(r, width), found)

    def add(to: Value, found: list[Any], left: Value, lanes: int) -> None:
        total = emit.load(y, builder.add(to, left), lanes)
        for u, at, number, weights in found:
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


@inner
def write_polynomials_of(packed, table, basis, sizes, window, begin, end):
    """Write the polynomials of inputs begin to end, highest power first, and the base's."""
    (width, stride, size), live, first, powers = sizes, len(window), basis[4], basis[5]
    pieces = len(first)
    whole = (pieces * live + 1) * width
    for i in range(begin, end):
        for c in range(pieces):
            for p in range(live):
                to = i * whole + (c * live + live - 1 - p) * width
                at = ((i * basis[6] + c) * live + p) * live
                table[to : to + width] = 0
                for k in range(live):
                    row, factor = i * size + (get(first, c) + k) * stride, get(powers, at + k)
                    for j in range(width):
                        put(table, to + j, get(table, to + j) + factor * get(packed, row + j))
        to, row = (i + 1) * whole - width, (i + 1) * size - stride
        table[to : to + width] = packed[row : row + width]


@inner
def write_narrow_rows(points, table, basis, window, bias, y, sizes, block, begin, end):
    """Write y (row, out) of rows begin to end."""
    (n_in, width), n_out, step = sizes, len(bias), len(window) * sizes[1]
    last = len(basis[4]) * step
    whole = last + width
    part, room = empty_line(block * width, y), room_of_rows(points, block * n_in)
    for top in range(begin, end, block):
        rows = min(end, top + block) - top
        mine = points_of_rows(points, room, basis, n_in, top, top + rows)
        for r in range(top, top + rows):
            y[r * n_out : (r + 1) * n_out] = bias
        for i in range(0, n_in, 2):
            if i % (2 * PAIRS) == 0:
                part[:] = 0
            given = part, width, rows, table, mine, basis
            lengths, start = (n_in, step, last), i * whole
            if i + 1 < n_in:
                add_polynomials(*given, (i, i + 1), (start, start + whole), lengths, window)
            else:
                add_polynomials(*given, (i,), (start,), lengths, window)
            if (i + 2) % (2 * PAIRS) == 0 or i + 2 >= n_in:
                add_part(part, width, y, top, top + rows, n_out)
