"""The two passes over the inputs of a layer: the norms of its edges, and their gradient to x."""

from __future__ import annotations

import numpy as np

from kanlens.core.kernels.activation_loops import (
    add_run,
    fit_base,
    search,
    spread,
    tabulate,
    write_matrix,
)
from kanlens.core.kernels.activation_vectors import add_signed, signed_slope
from kanlens.core.kernels.compiling import inner, jit
from kanlens.core.kernels.sparse_loops import find_piece
from kanlens.core.kernels.vectors import scalar_product, write_slopes

LOOSE = 4.0  # points of a run that may lie in doubt before it is cut in two
SHORT = 128  # points of a run that is never cut
SPAN = 5  # numbers of a run: piece, first point, end, first event, end: -1 where not searched


@inner
def grown(array, needed):
    """Return an array of at least this length that begins with the same numbers."""
    if needed <= len(array):
        return array
    longer = np.empty(2 * needed, np.int32)
    for j in range(len(array)):
        longer[j] = array[j]
    return longer


@inner
def widen(packed, begin, room, desk):
    """Copy the weights of one input into float64, and set the room for their sums to zero."""
    for at in range(0, desk.size, desk.stride):
        for o in range(desk.n_out):
            room[at + o] = packed[begin + at + o]
        for o in range(desk.n_out, desk.stride):
            room[at + o] = 0.0
    for j in range(desk.size, 2 * desk.size):
        room[j] = 0.0


@inner
def piece_at(points, begin, last, i, basis, stride, window):
    """Return where the piece that holds a point ends, its number and what describes it."""
    starts, ends, origins, scales, first, powers, low, density, even, jump, one = basis
    live, pieces, at = len(window), len(first), i * jump
    left, rate = low[i * one], density[i * one]
    c, end = find_piece(points[begin], starts, ends, at, pieces, left, rate, even), last
    if c + 1 < pieces:
        end = begin + 1
        while end < last and points[end] < ends[at + c]:
            end += 1
    alive = first[c] * stride
    return end, c, (origins[at + c], scales[at + c], powers, (at + c) * live * live, alive)


@inner
def next_run(samples, begin, end, room, desk):
    """Cut a run so short that a cubic follows the base function; return its end and the misses."""
    points, base, _ = samples
    while True:
        count = end - begin
        apart = spread(points, begin, count, room, desk.t)
        worst, top = fit_base(base, begin, count, room, desk)
        if count <= SHORT or worst * count <= LOOSE * top:
            return end, apart, worst, top
        end = begin + count // 2


@inner
def cover_run(samples, begin, end, start, piece, room, desk, direct, events, n, window):
    """Add what the points of a run give to every edge; return its end and the count of events.

    The count is -1 where the points were looked at one by one for all edges.
    """
    origin, scale, _, _, first = piece
    points, count, apart, worst, top = samples[0], end - begin, False, 0.0, 0.0
    if count > direct:
        end, apart, worst, top = next_run(samples, begin, end, room, desk)
        count = end - begin
    tabulate(samples, begin, end, start, piece, room, desk, window)
    if not apart:
        add_signed(
            room,
            desk.size,
            desk.stride,
            desk.lanes,
            first,
            desk.size - desk.stride,
            desk.numbers,
            desk.counts,
            count,
            window,
        )
        return end, -1
    low = (points[begin] - origin) * scale
    width = (points[end - 1] - origin) * scale - low
    write_matrix(piece, low, width, worst, top, room, desk, window)
    return end, search(room, desk, first, count, worst, events, n, window)


@inner
def finish(room, desk, i, factor, kept, norms):
    """Write the norms of one input, and their slopes in the weights, from the sums."""
    stride, size, n_out = desk.stride, desk.size, desk.n_out
    for o in range(n_out):
        norms[i * stride + o] = 0.0
    for at in range(0, size, stride):
        for o in range(n_out):
            norms[i * stride + o] += room[at + o] * room[size + at + o] * factor
    for j in range(size):
        kept[i * size + j] = room[size + j] * factor


@jit
def norms_of(
    samples, groups, packed, rows, direct, desk, room, basis, kept, norms, marks, inputs, window
):
    """Write the norms (in, stride) of some inputs and their slopes in the weights.

    Returns the runs, the signs of all edges at their beginnings, and the events; `marks` (in,)
    becomes the number of runs up to each input.
    """
    (points, _, ends), size, stride, n_out = samples, desk.size, desk.stride, desk.n_out
    runs, signs, events = (np.empty(64, np.int32), np.empty(64, np.int32), np.empty(96, np.int32))
    n_runs, n_events = 0, 0
    for i in range(inputs[0], inputs[1]):
        start = i * rows
        begin, last = start, start + groups[i]
        widen(packed, i * size, room, desk)
        while begin < last:
            stop, c, piece = piece_at(points, begin, last, i, basis, stride, window)
            while begin < stop:
                end, n = cover_run(
                    samples, begin, stop, start, piece, room, desk, direct, events, n_events, window
                )
                if 3 * n > len(events):
                    events = grown(events, 3 * n)
                    continue
                to, n_runs = SPAN * n_runs, n_runs + 1
                runs, signs = grown(runs, SPAN * n_runs), grown(signs, n_out * n_runs)
                runs[to], runs[to + 1], runs[to + 2] = c, begin - start, end - start
                runs[to + 3], runs[to + 4] = n_events, n
                if n >= 0:
                    add_run(room, desk, piece[4], end - begin, events, n_events, n, window)
                    for o in range(n_out):
                        signs[(n_runs - 1) * n_out + o] = int(room[desk.codes + o])
                    n_events = n
                begin = end
        marks[i] = n_runs
        whole = last > start and ends[last - 1] == rows
        finish(room, desk, i, 1.0 / rows if whole else np.nan, kept, norms)
    return runs[: SPAN * n_runs], signs[: n_out * n_runs], events[: 3 * n_events]


@inner
def slopes_one_by_one(samples, base_slope, begin, end, piece, room, desk, slope, window):
    """Write the gradient at each point of a run that was not searched."""
    origin, scale, powers, at, first = piece
    live, numbers, slopes = len(window), desk.numbers, desk.numbers + len(window) + 1
    for g in range(begin, end):
        u = (samples[0][g] - origin) * scale
        write_slopes(u, scale, powers, at, room[numbers:], room[slopes:], 0, window)
        room[numbers + live], room[slopes + live] = samples[1][g], base_slope[g]
        room[slope + g - begin] = signed_slope(
            room,
            desk.size,
            desk.stride,
            desk.lanes,
            first,
            desk.size - desk.stride,
            numbers,
            slopes,
            window,
        )


@inner
def add_slopes(piece, room, alive, factor, to, window):
    """Add factor times the derivative of what is alive, as powers of u and the base's slope."""
    live, (_, scale, powers, at, _) = len(window), piece
    for p in range(1, live):
        total = 0.0
        for k in range(live):
            total += powers[at + p * live + k] * room[alive + k]
        room[to + p - 1] += factor * scale * p * total
    room[to + live - 1] += factor * room[alive + live]


@inner
def slope_changes(piece, count, room, desk, signs, sign_at, events, window):
    """Write how the slope of the sum of all edges changes at each point of a searched run."""
    live, first, base, alive = len(window), piece[4], desk.size - desk.stride, desk.fit
    changes, signed = desk.numbers, desk.codes
    for j in range(changes, changes + count * live):
        room[j] = 0.0
    for o in range(desk.n_out):
        room[signed + o] = room[desk.size + o] * signs[sign_at + o]
    for k in range(live + 1):
        row = base if k == live else first + k * desk.stride
        room[alive + k] = scalar_product(room, signed, room, row, desk.n_out)
    add_slopes(piece, room, alive, 1.0, changes, window)
    for e in range(0, len(events), 3):
        o = events[e + 1]
        for k in range(live + 1):
            room[alive + k] = room[(base if k == live else first + k * desk.stride) + o]
        factor = room[desk.size + o] * events[e + 2]
        add_slopes(piece, room, alive, factor, changes + events[e] * live, window)


@inner
def slopes_between_events(samples, base_slope, begin, end, piece, room, changes, slope, window):
    """Write the gradient at each point of a searched run."""
    origin, scale, points, live = piece[0], piece[1], samples[0], len(window)
    for j in range(end - begin):
        here = changes + j * live
        if j > 0:
            for k in range(live):
                room[here + k] += room[here - live + k]
        u = (points[begin + j] - origin) * scale
        value = room[here + live - 2]
        for p in range(live - 3, -1, -1):
            value = value * u + room[here + p]
        room[slope + j] = value + room[here + live - 1] * base_slope[begin + j]


@inner
def write_rows(room, slope, begin, end, start, rows, ends, order, row, grad_x):
    """Give every row the slope at its point; return the next row in order."""
    for g in range(begin, end):
        value = room[slope + g - begin] / rows
        while row < ends[g]:
            grad_x[start + order[start + row]] = value
            row += 1
    return row


@jit
def slopes_of(
    samples,
    base_slope,
    order,
    packed,
    rows,
    desk,
    room,
    basis,
    grads,
    grad_x,
    marks,
    found,
    inputs,
    window,
):
    """Write the gradient to x (in, batch) of some inputs, from that of their norms (in, stride)."""
    origins, scales, first, powers, jump = basis[2], basis[3], basis[4], basis[5], basis[9]
    (runs, signs, events), live, run = found, len(window), 0
    size, stride, n_out = desk.size, desk.stride, desk.n_out
    for i in range(inputs[0], inputs[1]):
        start, row = i * rows, 0
        widen(packed, i * size, room, desk)
        for o in range(n_out):
            room[size + o] = grads[i * stride + o]
        while run < marks[i]:
            to = SPAN * run
            at, begin, end = i * jump + runs[to], start + runs[to + 1], start + runs[to + 2]
            alive = first[runs[to]] * stride
            piece = origins[at], scales[at], powers, at * live * live, alive
            if runs[to + 4] < 0:
                slopes_one_by_one(
                    samples, base_slope, begin, end, piece, room, desk, desk.t, window
                )
            else:
                known = events[3 * runs[to + 3] : 3 * runs[to + 4]]
                slope_changes(piece, end - begin, room, desk, signs, run * n_out, known, window)
                slopes_between_events(
                    samples, base_slope, begin, end, piece, room, desk.numbers, desk.t, window
                )
            row = write_rows(room, desk.t, begin, end, start, rows, samples[2], order, row, grad_x)
            run += 1
        while row < rows:
            grad_x[start + order[start + row]] = np.nan
            row += 1
