"""Kernels for one row or two, which read the weights where they lie.

Each weight is used once or twice: packing them first takes longer than what is done with them.
"""

from __future__ import annotations

import functools

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from kanlens.model.kernels.compiling import get, inlined, inner, put
from kanlens.model.kernels.sparse_loops import locate, locate_slopes
from kanlens.model.kernels.vectors import Value, emitted

TOGETHER = 4  # sums kept at a time, for one has to wait for every product that it gains


@emitted
def add_live(emit, y, to, matrix, at, stride, factors, count, numbers, firsts, window):
    """Add to y[to] the dot products of live numbers of some inputs, each times its factor.

    Of input i these are ``matrix[at + i * stride + firsts[i] + k]`` and
    ``numbers[i * (window + 1) + k]`` for every k of the window.
    """
    builder, live = emit.builder, len(window)
    sums = [cgutils.alloca_once_value(builder, emit.zero(live)) for _ in range(TOGETHER)]
    for total in sums:
        builder.store(emit.zero(live), total)

    def body(i: Value, total: Value) -> None:
        first = builder.add(builder.mul(i, stride), builder.load(builder.gep(firsts, [i])))
        weights = emit.load(matrix, builder.add(at, first), live)
        place = builder.mul(i, ir.Constant(i.type, live + 1))
        product = emit.product(weights, emit.load(numbers, place, live))
        factor = emit.splat(emit.load(factors, i, 1), live)
        builder.store(emit.sum(emit.product(product, factor), builder.load(total)), total)

    zero, one, step = (ir.Constant(count.type, each) for each in (0, 1, TOGETHER))
    whole = builder.mul(builder.sdiv(count, step), step)
    with cgutils.for_range_slice(builder, zero, whole, step, count.type) as (i, _):
        for j, total in enumerate(sums):
            body(emit.offset(i, j), total)
    with cgutils.for_range_slice(builder, whole, count, one, count.type) as (i, _):
        body(i, sums[0])
    result = emit.load(y, to, 1)
    vector = functools.reduce(emit.sum, map(builder.load, sums))
    for k in range(live):
        lane = ir.Constant(ir.IntType(32), k)
        result = emit.sum(result, builder.extract_element(vector, lane) if live > 1 else vector)
    emit.store(result, y, to, 1)


@inner
def find_live(x, base, basis, n_in, r, numbers, firsts, window):
    """Write the functions alive at every input of a row, and where their coefficients begin."""
    for i in range(n_in):
        room = numbers[i * (len(window) + 1) :], firsts[i:]
        locate(x, base, n_in, i, r, r + 1, basis, *room, 1, window)


@inner
def write_outputs(numbers, firsts, base, given, base_weight, bias, y, shape, window, begin, end):
    """Write outputs begin to end of a row."""
    (spline, scale, mask), (r, n_in, n_basis) = given, shape
    factors = np.empty(n_in, numbers.dtype)
    for o in range(begin, end):
        at, to, total = o * n_in, r * len(bias) + o, get(bias, o)
        for i in range(n_in):
            on = get(mask, at + i)
            put(factors, i, on)
            total += on * get(base_weight, at + i) * get(base, r * n_in + i)
        if len(scale) > 0:
            for i in range(n_in):
                put(factors, i, get(factors, i) * get(scale, at + i))
        put(y, to, total)
        add_live(y, to, spline, at * n_basis, n_basis, factors, n_in, numbers, firsts, window)


@emitted
def add_live_gradients(
    emit, spline, at, stride, factors, count, numbers, firsts, grad, bends, dots, window
):
    """Add to the gradients of some inputs' coefficients, live numbers times a factor of each input.

    `bends` (input, live) gain the coefficients times the factor; `dots` (input,) become the dot
    products of coefficients and numbers.
    """
    builder, live = emit.builder, len(window)
    zero, one = (ir.Constant(count.type, each) for each in (0, 1))
    with cgutils.for_range_slice(builder, zero, count, one, count.type) as (i, _):
        first = builder.add(builder.mul(i, stride), builder.load(builder.gep(firsts, [i])))
        there, here = builder.add(at, first), builder.mul(i, ir.Constant(i.type, live))
        weights, factor = emit.load(spline, there, live), emit.splat(emit.load(factors, i, 1), live)
        values = emit.load(numbers, builder.add(here, i), live)
        for vector, array, place in ((values, grad, there), (weights, bends, here)):
            more = emit.sum(emit.product(vector, factor), emit.load(array, place, live))
            emit.store(more, array, place, live)
        product = emit.product(weights, values)
        lanes = [ir.Constant(ir.IntType(32), k) for k in range(live)]
        parts = [builder.extract_element(product, lane) for lane in lanes]
        emit.store(functools.reduce(emit.sum, parts), dots, i, 1)


@inner
def write_each_row(points, given, base_weight, basis, grad, grad_x, wanted, sizes, window):
    """Write the gradients of some inputs, and tell so: not where NaN is among them."""
    (x, base, slope), (rows, n_in, n_out, n_basis, begin, end) = points, sizes
    live, count, first = len(window), end - begin, basis[4]
    size = count * (live + 1)
    numbers, slopes = np.empty(size, x.dtype), np.empty(size, x.dtype)
    firsts, held = np.empty(count, np.int64), np.empty(1, np.int32)
    for r in range(rows):
        for i in range(count):
            row = begin + i, r, r + 1
            room = numbers[i * (live + 1) :], slopes[i * (live + 1) :], held
            if locate_slopes(x, base, slope, n_in, *row, basis, *room, window):
                return False
            put(firsts, i, get(first, held[0]))
        bends = np.zeros(size, x.dtype)
        mine, fresh = grad[r * n_out : (r + 1) * n_out], r == 0
        places = n_in, n_basis, begin, fresh
        add_row_gradients(numbers, firsts, given, base_weight, mine, bends, wanted, places, window)
        for i in range(count if len(grad_x) > 0 else 0):
            total = get(slopes, i * (live + 1) + live) * get(bends, count * live + i)
            for k in range(live):
                total += get(slopes, i * (live + 1) + k) * get(bends, i * live + k)
            put(grad_x, r * n_in + begin + i, total)
    return True


@inner
def add_row_gradients(numbers, firsts, given, base_weight, grad, bends, wanted, places, window):
    """Add the gradients of the weights over one row, the first of which begins them.

    `bends` gain the sums of the weights over outputs, each times its gradient: of the coefficients
    alive (input, live), then of the base function (input,).
    """
    (spline, scale, mask), (grad_spline, grad_scale, grad_base) = given, wanted
    (n_in, n_basis, begin, fresh), live, count = places, len(window), len(firsts)
    factors, scaled, dots, bases, totals = np.zeros((5, count), grad.dtype)
    for i in range(count):
        put(bases, i, get(numbers, i * (live + 1) + live))
    for o in range(len(grad)):
        at = o * n_in + begin
        if fresh:
            grad_spline[at * n_basis : (at + count) * n_basis] = 0
            grad_base[at : at + count] = 0
            grad_scale[at : at + count] = 0
        for i in range(count):
            put(factors, i, get(mask, at + i) * get(grad, o))
        for i in range(count):
            put(scaled, i, get(factors, i) * (get(scale, at + i) if len(scale) > 0 else 1))
        add_products_of(factors, bases, grad_base, at, count)
        for i in range(count):
            put(totals, i, get(totals, i) + get(factors, i) * get(base_weight, at + i))
        into = grad_spline, bends, dots
        add_live_gradients(
            spline, at * n_basis, n_basis, scaled, count, numbers, firsts, *into, window
        )
        if len(scale) > 0:
            add_products_of(factors, dots, grad_scale, at, count)
    for i in range(count):
        put(bends, count * live + i, get(totals, i))


@inlined
def add_products_of(a, b, sums, at, count):
    """Add the products of two arrays to sums from a place on."""
    for i in range(count):
        put(sums, at + i, get(sums, at + i) + get(a, i) * get(b, i))
