"""Kernels over the basis functions that are nonzero at each point.

Weights are packed as a flat array (in, basis + 1, lane): outputs are contiguous, and the rows of an
input are those of its coefficients, then of the base function.

On an even grid, pieces are computed by vector instructions; numbers that are within rounding of a
knot are compared with it.
"""

from __future__ import annotations

import numpy as np

from kanlens.model.kernels._compiling import get, inlined, inner, put
from kanlens.model.kernels._silu import write_silu, write_silu_pair
from kanlens.model.kernels._vectors import (
    BYTES,
    add_dot_product,
    add_products,
    add_rows,
    empty_line,
    write_polynomials,
    write_slopes,
)

RUN = 128  # terms added up before they join a longer sum, which then is rounded less often
PAIRS = 16  # of inputs, likewise
SHARED = 2  # rows that must share a piece, on average, for it to pay to bring them together
LANES = 256  # outputs taken together, so that the weights of two inputs stay in a core's cache


@inner
def write_pieces(x, n_in, basis, held, begin, end):
    """Write to `held` the piece index of each number in rows begin to end; 0 for NaN."""
    starts, ends, _, _, first, _, jump, (low, density, cuts, sure) = basis
    tile, stop, pieces = len(low), end * n_in, len(first)
    for top in range(begin * n_in, stop, tile):
        count = min(tile, stop - top)
        if len(cuts) > 0:
            count_pieces(x, top, count, cuts, tile, held)
        elif guess_pieces(x, top, count, low, density, sure, pieces, held):
            for j in range(count):
                value, piece = get(x, top + j), get(held, top + j)
                at = j % n_in * jump + piece
                piece += np.int32(value >= get(ends, at)) - np.int32(value < get(starts, at))
                put(held, top + j, piece)


@inlined
def guess_pieces(x, top, count, low, density, sure, pieces, held):
    """Write the likely pieces of consecutive numbers; return whether any is uncertain."""
    half, within, doubts = x.dtype.type(0.5), x.dtype.type(sure), np.int32(0)
    most = x.dtype.type(pieces) - half
    for j in range(count):
        place = (get(x, top + j) - get(low, j)) * get(density, j)
        place = place if place > half else half
        place = place if place < most else most
        piece = np.int32(place)
        put(held, top + j, piece)
        doubts |= np.int32(abs(place - x.dtype.type(piece) - half) > within)
    return doubts > 0


@inlined
def count_pieces(x, top, count, cuts, tile, held):
    """Write the pieces of consecutive numbers: the number of cuts not above each."""
    held[top : top + count] = 0
    for at in range(0, len(cuts), tile):
        for j in range(count):
            more = np.int32(get(x, top + j) >= get(cuts, at + j))
            put(held, top + j, get(held, top + j) + more)


@inner
def write_points(points, silu, basis, n_in, begin, end):
    """Write the pieces of rows begin to end, and silu if it is the base function."""
    x, base, slope, held = points
    if silu and len(slope) > 0:
        write_silu_pair(x, base, slope, begin * n_in, end * n_in)
    elif silu:
        write_silu(x, base, begin * n_in, end * n_in)
    write_pieces(x, n_in, basis, held, begin, end)


@inlined
def room_of_rows(points, count):
    """Allocate the arrays that `points_of_rows` needs."""
    values = np.empty(count if len(points[1]) == 0 else 0, points[0].dtype)
    return values, np.empty(count, np.int32)


@inlined
def points_of_rows(points, room, basis, n_in, begin, end):
    """Return the points of rows begin to end; missing arrays are computed in `room`."""
    (x, base, slope, _), (values, held) = points, room
    some, silu = slice(begin * n_in, end * n_in), len(base) == 0
    mine = x[some], values if silu else base[some], slope, held
    write_points(mine, silu, basis, n_in, 0, end - begin)
    return mine


@inlined
def locate(points, n_in, i, begin, end, basis, numbers, firsts, stride, window):
    """Write the nonzero basis values of input i for rows of x, and the indices of their weights."""
    (x, base, _, held), live = points, len(window)
    _, _, origins, scales, first, powers, jump, _ = basis
    for r in range(end - begin):
        place, to = (begin + r) * n_in + i, r * (live + 1)
        piece = get(held, place)
        row = i * jump + piece
        u = (get(x, place) - get(origins, row)) * get(scales, row)
        write_polynomials(u, powers, row * live * live, numbers, to, window)
        put(numbers, to + live, get(base, place))
        put(firsts, r, get(first, piece) * stride)


@inner
def add_edges(points, packed, basis, y, shape, spans, window):
    """Add the contributions of inputs first to last, all that `packed` holds, to rows of y."""
    (_, n_in, n_out, _, stride, size), (rows, first, last) = shape, spans
    half = rows * (len(window) + 1)
    numbers, firsts = np.empty(2 * half, y.dtype), np.empty(2 * rows, np.int64)
    others, other_firsts, part = numbers[half:], firsts[rows:], empty_line(rows * stride, y)
    for i in range(first, last, 2):
        if (i - first) % (2 * PAIRS) == 0:
            part[:] = 0
        locate(points, n_in, i, 0, rows, basis, numbers, firsts, stride, window)
        if i + 1 < last:
            locate(points, n_in, i + 1, 0, rows, basis, others, other_firsts, stride, window)
        places = (i + 1 < last, n_out, stride, size, i - first, rows, half)
        add_inputs(packed, part, places, numbers, firsts, other_firsts, window)
        if (i - first + 2) % (2 * PAIRS) == 0 or i + 2 >= last:
            add_part(part, stride, y, rows, n_out)


@inlined
def write_bias(y, bias, begin, end):
    """Write the bias to rows begin to end of y, three times faster than by a slice."""
    for r in range(begin, end):
        for o in range(len(bias)):
            put(y, r * len(bias) + o, get(bias, o))


@inner
def add_part(part, stride, y, rows, n_out):
    """Add rows that are padded to whole vectors to rows of y."""
    for r in range(rows):
        to, at = r * n_out, r * stride
        for j in range(n_out):
            put(y, to + j, get(y, to + j) + get(part, at + j))


@inner
def add_inputs(packed, y, places, numbers, firsts, other_firsts, window):
    """Add the contributions of input i, and of i + 1 if `two`, to y (row, lane).

    Rows of y and of the weights are padded to whole vectors: a vector that overlapped two rows
    would have to wait until the first is written, which doubled the time.
    """
    two, n_out, stride, size, i, rows, half = places
    step, lanes = len(window) + 1, BYTES // y.itemsize
    for left in range(0, n_out, LANES):
        width = min(LANES, -(-(n_out - left) // lanes) * lanes)
        start, base = i * size + left, (i + 1) * size - stride + left
        for r in range(rows):
            to, row, at = r * stride + left, start + get(firsts, r), r * step
            if two:
                both = row, start + size + get(other_firsts, r)
                bases, places = (base, base + size), (at, half + at)
                add_products(y, to, width, packed, stride, both, bases, numbers, places, window)
            else:
                add_products(y, to, width, packed, stride, (row,), (base,), numbers, (at,), window)


@inlined
def locate_slopes(points, n_in, i, begin, end, basis, numbers, slopes, mine, window):
    """Write values, slopes and piece of input i for rows of x; return whether there is NaN."""
    (x, base, base_slope, held), live, bad = points, len(window), False
    _, _, origins, scales, _, powers, jump, _ = basis
    for r in range(end - begin):
        place, to = (begin + r) * n_in + i, r * (live + 1)
        value, piece = get(x, place), get(held, place)
        row = i * jump + piece
        scale, bad = get(scales, row), bad or value != value
        u = (value - get(origins, row)) * scale
        write_slopes(u, scale, powers, row * live * live, numbers, slopes, to, window)
        put(numbers, to + live, get(base, place))
        put(slopes, to + live, get(base_slope, place))
        put(mine, r, piece)
    return bad


@inner
def sort_rows(held, count, ends, order):
    """Write row indices sorted by piece to `order`; those of piece c end at ends[c]."""
    ends[:] = 0
    for r in range(count):
        piece = get(held, r)
        put(ends, piece, get(ends, piece) + 1)
    total = 0
    for c in range(len(ends)):
        total, ends[c] = total + ends[c], total
    for r in range(count):
        piece = get(held, r)
        place = get(ends, piece)
        put(order, place, r)
        put(ends, piece, place + 1)


@inner
def backward_some(points, packed, basis, grad, grad_packed, grad_x, sizes, spans, window):
    """Write grad_packed and grad_x (row, in), of some inputs over some rows.

    A gradient with an empty array is not computed; that of x adds up if outputs came `before`. The
    packed arrays start at input `origin`.
    """
    n_in, n_out, stride, size = sizes
    begin, end, first_input, last_input, block, origin, before = spans
    live, first = len(window), basis[4]
    want_weights, want_x = len(grad_packed) > 0, len(grad_x) > 0
    numbers, slopes = np.empty((2, block * (live + 1)), grad.dtype)
    held = np.empty(block, np.int32)
    room = numbers, slopes, held
    for top in range(begin, end, block):
        count = min(end, top + block) - top
        rows = grad[top * n_out : (top + count) * n_out]
        for i in range(first_input, last_input):
            bad = locate_slopes(points, n_in, i, top, top + count, basis, *room, window)
            start = (i - origin) * size
            base_row = start + size - stride
            if want_x:
                for r in range(count):
                    place, at = (top + r) * n_in + i, r * (live + 1)
                    if before == 0:
                        put(grad_x, place, 0)
                    alive = start + get(first, get(held, r)) * stride, stride, base_row
                    sources = grad_x, place, rows, r * n_out, n_out, packed
                    add_dot_product(*sources, alive, slopes, at, window)
            if want_weights:
                mine = grad_packed[start : start + size]
                if top == begin:
                    mine[:] = 0
                add_pieces(mine, stride, n_out, rows, held, count, first, numbers, window)
                if bad:
                    mine[:] = np.nan


@inner
def add_pieces(mine, stride, n_out, rows, held, count, first, numbers, window):
    """Add the gradient of one input's weights, by pieces, or by rows if there are few."""
    base_row, order = len(mine) - stride, np.empty(count, np.int32)
    if count < SHARED * len(first):
        for r in range(count):
            put(order, r, r)
            place = get(first, get(held, r)) * stride
            add_rows(mine, stride, place, base_row, n_out, rows, order, r, r + 1, numbers, window)
        return
    ends, done = np.empty(len(first), np.int64), 0
    sort_rows(held, count, ends, order)
    for c in range(len(first)):
        while done < ends[c]:
            stop, place = min(ends[c], done + RUN), first[c] * stride
            add_rows(mine, stride, place, base_row, n_out, rows, order, done, stop, numbers, window)
            done = stop
