"""Kernels for a few rows: their design matrix times the weights where these lie in memory.

For up to about ten rows, packing the weights takes longer than all else. The design matrix (row,
in * basis) has every basis function, zeros too, so that rows meet the weights in memory's order.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from kanlens.model.kernels.compiling import get, inner, put
from kanlens.model.kernels.sparse_loops import locate
from kanlens.model.kernels.vectors import Emitter, Value, add_number, emitted

SHORT = 32  # bytes of the vectors, for an edge has few weights
TILES = (8, 6, 4, 3, 2, 1)  # rows whose sums are kept in registers
NEAR = 24_576  # bytes of the design matrix that stay in a core's nearest cache


@functools.partial(emitted, size=SHORT)
def add_dot_products(emit, factors, count, splines, bases, n_basis, rows, sums, to):
    """Add to sums[to + r] what some inputs give an output at row r.

    Of `splines` (weights, their place, design, its place, distance of rows) input i has `n_basis`
    weights, which factors[i] multiplies, and as many functions; of `bases` one weight and one
    number, with the mask after them.
    """
    builder = emit.builder
    done = cgutils.alloca_once_value(builder, ir.Constant(rows.type, 0))
    for tile in TILES:
        begin, step = builder.load(done), ir.Constant(rows.type, tile)
        tiles = builder.sdiv(builder.sub(rows, begin), step)
        end = builder.add(begin, builder.mul(tiles, step))
        with cgutils.for_range_slice(builder, begin, end, step, rows.type) as (r, _):
            totals = [cgutils.alloca_once(builder, emit.zero(emit.full).type) for _ in range(tile)]
            for total in totals:
                builder.store(emit.zero(emit.full), total)
            _add_splines(emit, (factors, count, n_basis), splines, r, totals)
            _add_bases(emit, count, bases, r, totals)
            for j, total in enumerate(totals):
                add_number(emit, builder.load(total), sums, emit.offset(builder.add(to, r), j))
        builder.store(end, done)


def _add_splines(emit: Emitter, sizes: Any, splines: Any, r: Value, totals: list[Value]) -> None:
    """Add spline weights times their factor and the basis functions, a vector of each input."""
    builder, (factors, count, n_basis) = emit.builder, sizes
    weights, at, *design = splines

    def body(j: Value, _: int) -> None:
        with cgutils.for_range(builder, count) as loop:
            here = builder.add(builder.mul(loop.index, n_basis), j)
            factor = emit.splat(emit.load(factors, loop.index, 1), emit.full)
            weight = emit.load(weights, builder.add(at, here), emit.full)
            _add_rows(emit, emit.product(weight, factor), design, here, r, totals)

    emit.lanes(n_basis, body)


def _add_bases(emit: Emitter, count: Value, bases: Any, r: Value, totals: list[Value]) -> None:
    """Add base weights times mask and base function, a vector of inputs at a time."""
    weights, at, *base, mask = bases

    def body(i: Value, width: int) -> None:
        here = emit.builder.add(at, i)
        scaled = emit.product(emit.load(weights, here, width), emit.load(mask, here, width))
        _add_rows(emit, scaled, base, i, r, totals)

    emit.lanes(count, body)


def _add_rows(
    emit: Emitter, scaled: Value, matrix: Any, here: Value, r: Value, totals: list[Value]
) -> None:
    """Add a vector times that of each row from r on."""
    builder, (array, start, stride) = emit.builder, matrix
    for j, total in enumerate(totals):
        place = builder.add(start, builder.mul(stride, emit.offset(r, j)))
        row = emit.load(array, builder.add(place, here), emit.full)
        builder.store(emit.sum(emit.product(scaled, row), builder.load(total)), total)


@inner
def write_design(points, basis, design, window, sizes, begin, end):
    """Write the basis functions of inputs begin to end: (row, in * basis)."""
    (rows, n_in, n_basis), live = sizes, len(window)
    numbers, firsts = np.empty(rows * (live + 1), design.dtype), np.empty(rows, np.int64)
    for r in range(rows):
        at = r * n_in * n_basis
        design[at + begin * n_basis : at + end * n_basis] = 0
    for i in range(begin, end):
        locate(points, n_in, i, 0, rows, basis, numbers, firsts, 1, window)
        for r in range(rows):
            to = (r * n_in + i) * n_basis + get(firsts, r)
            for k in range(live):
                put(design, to + k, get(numbers, r * (live + 1) + k))


@inner
def write_by_design(design, base, given, base_weight, bias, y, sizes, begin, end):
    """Write outputs begin to end of all rows."""
    (spline, scale, mask), (rows, n_in, n_out, n_basis) = given, sizes
    width, most = n_in * n_basis, min(rows, TILES[0])
    group = max(1, min(n_in, NEAR // (most * n_basis * design.itemsize)))
    factors, sums = np.empty(group, design.dtype), np.zeros((end - begin) * rows)
    for left in range(0, n_in, group):
        count = min(group, n_in - left)
        for top in range(0, rows, most):
            some = min(most, rows - top)
            for o in range(begin, end):
                at, to = o * n_in + left, (o - begin) * rows + top
                for i in range(count):
                    put(factors, i, get(mask, at + i) * (scale[at + i] if len(scale) > 0 else 1))
                splines = spline, at * n_basis, design, top * width + left * n_basis, width
                bases = base_weight, at, base, top * n_in + left, n_in, mask
                add_dot_products(factors, count, splines, bases, n_basis, some, sums, to)
    for o in range(begin, end):
        for r in range(rows):
            put(y, r * n_out + o, get(bias, o) + sums[(o - begin) * rows + r])
