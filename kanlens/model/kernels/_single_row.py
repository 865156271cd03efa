"""Kernels for one row or two, which read the weights in place, without packing.

On one thread, a row of 784 -> 64 took 48 us in place of 116, 208 in place of 371 with gradients.
"""

from __future__ import annotations

import functools

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from kanlens.model.kernels._compiling import get, inlined, inner, put
from kanlens.model.kernels._local_support import locate, locate_slopes
from kanlens.model.kernels._vectors import emitted

TOGETHER = (0,) * 4  # outputs whose sums are kept at a time; its length is part of a type


@emitted
def add_live(emit, y, to, matrix, at, stride, factors, count, numbers, firsts, outputs, window):
    """Add edges of some inputs to some outputs: weights times basis values times factors.

    Of output m and input i these are ``matrix[at + (m * count + i) * stride + firsts[i] + k]`` and
    ``numbers[i * (window + 1) + k]`` for every k of the window, and ``factors[m * count + i]``.
    """
    builder, live = emit.builder, len(window)
    totals = [cgutils.alloca_once_value(builder, emit.zero(live)) for _ in outputs]
    for total in totals:
        builder.store(emit.zero(live), total)
    with cgutils.for_range(builder, count) as loop:
        i = loop.index
        first = builder.add(at, builder.load(builder.gep(firsts, [i])))
        values = emit.load(numbers, builder.mul(i, ir.Constant(i.type, live + 1)), live)
        for m, total in enumerate(totals):
            edge = builder.add(builder.mul(count, ir.Constant(i.type, m)), i)
            weights = emit.load(matrix, builder.add(first, builder.mul(edge, stride)), live)
            factor = emit.splat(emit.load(factors, edge, 1), live)
            product = emit.product(emit.product(weights, values), factor)
            builder.store(emit.sum(product, builder.load(total)), total)
    for m, total in enumerate(totals):
        place, vector = emit.offset(to, m), builder.load(total)
        for k in range(live):
            part = builder.extract_element(vector, ir.Constant(ir.IntType(32), k))
            emit.store(emit.sum(emit.load(y, place, 1), part), y, place, 1)


@inner
def find_live(points, basis, n_in, r, numbers, firsts, window):
    """Write the nonzero basis values of every input of a row, and the indices of their weights."""
    for i in range(n_in):
        room = numbers[i * (len(window) + 1) :], firsts[i:]
        locate(points, n_in, i, r, r + 1, basis, *room, 1, window)


@inner
def write_outputs(numbers, firsts, base, splines, base_weight, bias, y, shape, window, begin, end):
    """Write outputs begin to end of a row."""
    (spline, scale, mask), (r, n_in, n_basis) = splines, shape
    factors, live = np.empty(len(TOGETHER) * n_in, numbers.dtype), (n_in, numbers, firsts)
    to, first = r * len(bias), begin
    while first < end:
        many = len(TOGETHER) if end - first >= len(TOGETHER) else 1
        for m in range(many):
            at, mine, total = (first + m) * n_in, m * n_in, get(bias, first + m)
            for i in range(n_in):
                on = get(mask, at + i)
                put(factors, mine + i, on * (get(scale, at + i) if len(scale) > 0 else 1))
                total += on * get(base_weight, at + i) * get(base, r * n_in + i)
            put(y, to + first + m, total)
        sources = y, to + first, spline, first * n_in * n_basis, n_basis, factors
        if many > 1:
            add_live(*sources, *live, TOGETHER, window)
        else:
            add_live(*sources, *live, TOGETHER[:1], window)
        first += many


@emitted
def add_live_gradients(
    emit, spline, at, factors, numbers, firsts, grad, into, sizes, outputs, window
):
    """Add nonzero basis values, times a factor per edge, to the gradients of some coefficients.

    In `into`, `bends` (input, live) gain the coefficients times the factor; `dots` (output, input)
    are set to the dot products of coefficients and basis values.
    """
    builder, live, (bends, dots), (count, stride, row) = emit.builder, len(window), into, sizes
    lanes = [ir.Constant(ir.IntType(32), k) for k in range(live)]
    with cgutils.for_range(builder, count) as loop:
        i = loop.index
        first = builder.add(builder.mul(i, stride), builder.load(builder.gep(firsts, [i])))
        here = builder.mul(i, ir.Constant(i.type, live))
        values, bend = emit.load(numbers, builder.add(here, i), live), emit.load(bends, here, live)
        for m in range(len(outputs)):
            o = ir.Constant(i.type, m)
            edge, there = (builder.add(builder.mul(a, o), b) for a, b in ((count, i), (row, first)))
            there = builder.add(there, at)
            weights = emit.load(spline, there, live)
            factor = emit.splat(emit.load(factors, edge, 1), live)
            more = emit.sum(emit.product(values, factor), emit.load(grad, there, live))
            emit.store(more, grad, there, live)
            bend = emit.sum(emit.product(weights, factor), bend)
            product = emit.product(weights, values)
            parts = [builder.extract_element(product, lane) for lane in lanes]
            emit.store(functools.reduce(emit.sum, parts), dots, edge, 1)
        emit.store(bend, bends, here, live)


@inner
def write_each_row(points, splines, base_weight, basis, grad, grad_x, wanted, sizes, window):
    """Write the gradients of inputs begin to end; return False if x has NaN there."""
    rows, n_in, n_out, n_basis, begin, end = sizes
    live, count, first = len(window), end - begin, basis[4]
    size = count * (live + 1)
    numbers, slopes = np.empty((2, size), grad.dtype)
    firsts, held = np.empty(count, np.int64), np.empty(1, np.int32)
    for r in range(rows):
        for i in range(count):
            row = begin + i, r, r + 1
            room = numbers[i * (live + 1) :], slopes[i * (live + 1) :], held
            if locate_slopes(points, n_in, *row, basis, *room, window):
                return False
            put(firsts, i, get(first, held[0]))
        bends = np.zeros(size, grad.dtype)
        mine, fresh = grad[r * n_out : (r + 1) * n_out], r == 0
        into = bends, wanted, (n_in, n_basis, begin, fresh)
        add_row_gradients(numbers, firsts, splines, base_weight, mine, *into, window)
        for i in range(count if len(grad_x) > 0 else 0):
            total = get(slopes, i * (live + 1) + live) * get(bends, count * live + i)
            for k in range(live):
                total += get(slopes, i * (live + 1) + k) * get(bends, i * live + k)
            put(grad_x, r * n_in + begin + i, total)
    return True


@inner
def add_row_gradients(numbers, firsts, splines, base_weight, grad, bends, wanted, places, window):
    """Add the gradients of the weights for one row; the first row overwrites them.

    `bends` gain the sums of the weights over outputs, each times its gradient: of the coefficients
    of nonzero basis functions (input, live), then of the base function (input,).
    """
    (spline, scale, mask), (grad_spline, grad_scale, grad_base) = splines, wanted
    (n_in, n_basis, begin, fresh), live, count = places, len(window), len(firsts)
    bases, totals = np.empty(count, grad.dtype), bends[count * live :]
    factors, scaled, dots = np.empty((3, len(TOGETHER) * count), grad.dtype)
    row, top = n_in * n_basis, 0
    for i in range(count):
        put(bases, i, get(numbers, i * (live + 1) + live))
    while top < len(grad):
        many = len(TOGETHER) if len(grad) - top >= len(TOGETHER) else 1
        for m in range(many):
            at, mine = (top + m) * n_in + begin, m * count
            if fresh:
                grad_spline[at * n_basis : (at + count) * n_basis] = 0
                grad_base[at : at + count] = 0
                grad_scale[at : at + count] = 0
            for i in range(count):
                on = get(mask, at + i) * get(grad, top + m)
                put(factors, mine + i, on)
                put(scaled, mine + i, on * (get(scale, at + i) if len(scale) > 0 else 1))
                put(totals, i, get(totals, i) + on * get(base_weight, at + i))
            for i in range(count):
                put(grad_base, at + i, get(grad_base, at + i) + get(factors, mine + i) * bases[i])
        sources = spline, (top * n_in + begin) * n_basis, scaled, numbers, firsts, grad_spline
        into, sizes = (bends, dots), (count, n_basis, row)
        if many > 1:
            add_live_gradients(*sources, into, sizes, TOGETHER, window)
        else:
            add_live_gradients(*sources, into, sizes, TOGETHER[:1], window)
        scaled_outputs = many if len(scale) > 0 else 0
        add_scales(factors, dots, grad_scale, top * n_in + begin, n_in, scaled_outputs)
        top += many


@inlined
def add_scales(factors, dots, gradients, first, n_in, many):
    """Add to the gradients of the scales of some outputs."""
    count = len(factors) // len(TOGETHER)
    for m in range(many):
        at, mine = first + m * n_in, m * count
        for i in range(count):
            more = get(factors, mine + i) * get(dots, mine + i)
            put(gradients, at + i, get(gradients, at + i) + more)
