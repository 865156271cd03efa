"""Where every edge of an input changes its sign, on a run of the input's sorted points.

Between two points of a run an edge is a polynomial plus its weight times the base function, and the
base function is a cubic plus what that misses at each point. The control points of an edge on a run
prove its sign, as a rule, or that it has one root; else it is followed from point to point, in
vectors, which for all edges would take about as long as the layer itself. Every sign is proven or
computed, so the sums that the signs make of the basis are exact.

All numbers of an input lie in one array, `room`, and a `Desk` tells what begins where: arrays in
tuples were found to double the time of compilation.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from kanlens.core.kernels.activation_vectors import find_roots, next_turn, run_up, write_hulls
from kanlens.core.kernels.compiling import inner
from kanlens.core.kernels.vectors import write_polynomials

ROUNDING = 64 * 2.0**-52  # of a value, relative to the size of what it is summed from
DENSE = 16  # times as many points as edges to be placed: up to there they are indexed
TINY = 1e-290  # a gap whose reciprocal might not be a number
APART = 0.05  # of a run: least distance of two points the cubic goes through
UNSETTLED = 2
VECTOR = 8  # numbers


class Desk(NamedTuple):
    """Where things begin in the room; the weights (basis + 1, stride) of an input do at 0."""

    size: int  # of the weights; their sums follow
    stride: int
    n_out: int
    lanes: int  # outputs up to whole vectors; what is beyond the last is zero
    numbers: int  # (point + 1, live + 1) values alive, then their running sums
    counts: int  # (point,) rows
    t: int  # (point,) place within the run, 0 to 1
    missed: int  # (point,) base function less its cubic
    steps: int  # (point + 2,) first point from each of even steps of t on
    fit: int  # the cubic's coefficients, the points it goes through, and differences
    terms: int  # (power,)
    matrix: int  # (control point + 1, live + 1)
    hulls: int  # (control point, out)
    shapes: int  # (power, out) coefficients, times the sign of the first control point
    columns: int  # (power, out) those of edges with one sign change
    margins: int  # (out,)
    codes: int  # (out,) signs at the beginning of the run
    roots: int  # (out,)
    single: int  # (out,) edges with one sign change
    doubts: int  # (out, 2) those of them to be looked at, and where
    hard: int  # (out,) edges to look at closely
    end: int


def make_desk(rows: int, size: int, stride: int, n_out: int, live: int) -> Desk:
    """Return where things begin for runs of up to so many rows."""
    points = max(live, 4)
    widths = {
        "numbers": (rows + 1) * (live + 1),
        "counts": rows,
        "t": rows + VECTOR,
        "missed": rows + VECTOR,
        "steps": rows + 2,
        "fit": 12,
        "terms": points,
        "matrix": (points + 1) * (live + 1),
        "hulls": points * stride,
        "shapes": points * stride,
        "columns": points * stride,
        "margins": stride,
        "codes": stride,
        "roots": stride,
        "single": stride,
        "doubts": 2 * stride,
        "hard": stride,
        "end": 0,
    }
    places = itertools.accumulate(widths.values(), initial=2 * size)
    begins = dict(zip(widths, places, strict=False))
    lanes = -(-n_out // VECTOR) * VECTOR
    return Desk(size=size, stride=stride, n_out=n_out, lanes=lanes, **begins)


@inner
def first_from(room, begin, end, value):
    """Return the first place from `begin` to `end` that does not hold less than a value."""
    while begin < end:
        middle = (begin + end) >> 1
        if room[middle] < value:
            begin = middle + 1
        else:
            end = middle
    return begin


@inner
def tabulate(samples, begin, end, start, piece, room, desk, window):
    """Write the values alive at points begin to end of a flat column that begins at start."""
    live = len(window)
    origin, scale, powers, at, _ = piece
    points, base, ends = samples
    before = ends[begin - 1] if begin > start else 0
    for j in range(end - begin):
        u = (points[begin + j] - origin) * scale
        to = desk.numbers + j * (live + 1)
        write_polynomials(u, powers, at, room, to, window)
        room[to + live] = base[begin + j]
        room[desk.counts + j] = ends[begin + j] - before
        before = ends[begin + j]


@inner
def spread(points, begin, count, room, t):
    """Write where points lie between the first and the last; tell whether they are apart."""
    low = 0.5 * points[begin]
    gap = 0.5 * points[begin + count - 1] - low
    for j in range(count):
        room[t + j] = (0.5 * points[begin + j] - low) / gap
    return gap > TINY


@inner
def fit_base(base, begin, count, room, desk):
    """Put a cubic through the base function; return its largest miss and the largest value."""
    t, fit, nodes, values, used = desk.t, desk.fit, desk.fit + 4, desk.fit + 8, 0
    for quarter in range(5):
        j = min(first_from(room, t, t + count, 0.25 * quarter), t + count - 1)
        if j > t and 0.25 * quarter - room[j - 1] < room[j] - 0.25 * quarter:
            j -= 1
        if quarter != 2 and (used == 0 or room[j] - room[nodes + used - 1] > APART):
            room[nodes + used], room[values + used] = room[j], base[begin + j - t]
            used += 1
    for q in range(1, used):
        for j in range(used - 1, q - 1, -1):
            step = room[nodes + j] - room[nodes + j - q]
            room[values + j] = (room[values + j] - room[values + j - 1]) / step
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for j in range(used - 1, -1, -1):
        node = room[nodes + j]
        d, c, b, a = c - node * d, b - node * c, a - node * b, room[values + j] - node * a
    room[fit], room[fit + 1], room[fit + 2], room[fit + 3] = a, b, c, d
    worst, top = 0.0, 0.0
    for j in range(count):
        value, x = base[begin + j], room[t + j]
        off = value - (a + x * (b + x * (c + x * d)))
        room[desk.missed + j] = off
        worst, top = max(worst, abs(off)), max(top, abs(value))
    return worst, top


@inner
def write_control(room, terms, points, to, step):
    """Write a polynomial's control points on 0 to 1 into a column."""
    for j in range(points):
        total, ratio = 0.0, 1.0
        for p in range(j + 1):
            total += ratio * room[terms + p]
            ratio *= (j - p) / (points - 1 - p) if p < points - 1 else 0.0
        room[to + j * step] = total


@inner
def write_matrix(piece, low, width, worst, top, room, desk, window):
    """Write what makes control points and margins on a run out of weights."""
    live = len(window)
    points, terms, matrix, powers, at = max(live, 4), desk.terms, desk.matrix, piece[2], piece[3]
    bottom, big = matrix + points * (live + 1), max(abs(low), abs(low + width))
    for k in range(live):
        size = 0.0
        for p in range(points - 1, -1, -1):
            room[terms + p] = powers[at + p * live + k] if p < live else 0.0
            size = size * big + abs(room[terms + p])
        for p in range(live - 1):
            for q in range(live - 2, p - 1, -1):
                room[terms + q] += low * room[terms + q + 1]
        factor = 1.0
        for p in range(live):
            room[terms + p] *= factor
            factor *= width
        write_control(room, terms, points, matrix + k, live + 1)
        room[bottom + k] = ROUNDING * size
    for p in range(points):
        room[terms + p] = room[desk.fit + p] if p < 4 else 0.0
    write_control(room, terms, points, matrix + live, live + 1)
    room[bottom + live] = worst + ROUNDING * top


@inner
def divide_edges(room, desk, window):
    """List the edges with one sign change, and those to look at closely."""
    points, stride = max(len(window), 4), desk.stride
    singles, hards = 0, 0
    for o in range(desk.n_out):
        code = room[desk.codes + o]
        if abs(code) <= 1:
            continue
        if code == UNSETTLED:
            room[desk.hard + hards] = o
            hards += 1
        else:
            for p in range(points):
                room[desk.columns + p * stride + singles] = room[desk.shapes + p * stride + o]
            room[desk.single + singles] = o
            room[desk.codes + o] = 1.0 if code > 0 else -1.0
            singles += 1
    return singles, hards


@inner
def make_index(room, t, count, index):
    """Write the first point from each of `count` even steps of t on."""
    c = 0
    for j in range(count):
        step = room[t + j] * count
        while c <= step:
            room[index + c] = j
            c += 1
    while c < count + 2:
        room[index + c] = count
        c += 1


@inner
def value_at(room, column, stride, points, t):
    """Return a polynomial of which a column holds the coefficients."""
    value = room[column + (points - 1) * stride]
    for p in range(points - 2, -1, -1):
        value = value * t + room[column + p * stride]
    return value


@inner
def place_roots(room, desk, count, singles, events, n, window):
    """Write the event of every edge with one sign change; return how many are left in doubt."""
    points, t, stride = max(len(window), 4), desk.t, desk.stride
    lanes = (singles + VECTOR - 1) // VECTOR * VECTOR
    find_roots(room, desk.columns, stride, lanes, desk.roots, window)
    indexed = singles * DENSE > count
    if indexed:
        make_index(room, t, count, desk.steps)
    begin, end, doubts = t, t + count, 0
    for e in range(singles):
        o, root, column = int(room[desk.single + e]), room[desk.roots + e], desk.columns + e
        if indexed:
            step = desk.steps + int(root * count)
            begin, end = t + int(room[step]), t + int(room[step + 1])
        j = min(max(first_from(room, begin, end, root) - t, 1), count - 1)
        left = value_at(room, column, stride, points, room[t + j - 1])
        right = value_at(room, column, stride, points, room[t + j])
        margin = room[desk.margins + o]
        if left > margin and right < -margin:
            if 3 * n + 2 < len(events):
                events[3 * n], events[3 * n + 1] = j, o
                events[3 * n + 2] = -2 if room[desk.codes + o] > 0 else 2
            n += 1
        else:
            room[desk.doubts + 2 * doubts], room[desk.doubts + 2 * doubts + 1] = e, j
            doubts += 1
    return n, doubts


@inner
def turn_sign(room, codes, o, j, sign, now, events, n):
    """Write down that the sign of an edge is another one from point j on; return the count."""
    if sign == UNSETTLED:
        room[codes + o] = now
        return n
    if 3 * n + 2 < len(events):
        events[3 * n], events[3 * n + 1], events[3 * n + 2] = j, o, now - sign
    return n + 1


@inner
def scan(room, desk, o, begin, end, weight, noise, sign, events, n, window):
    """Follow the sign of an edge from point to point; return the last one."""
    points, shape = max(len(window), 4), desk.shapes + o
    side = -1.0 if room[desk.hulls + o] < 0 else 1.0
    j = begin
    while j < end:
        value = side * value_at(room, shape, desk.stride, points, room[desk.t + j])
        value += weight * room[desk.missed + j]
        now = 1 if value > noise else (-1 if value < -noise else 0)
        if now != sign:
            n = turn_sign(room, desk.codes, o, j, sign, now, events, n)
            sign = now
        j += 1
        if sign != 0:
            j = next_turn(
                room,
                shape,
                desk.stride,
                desk.t,
                desk.missed,
                j,
                end,
                side * weight,
                noise,
                side * sign,
                window,
            )
    return sign, n


@inner
def follow_root(room, desk, d, count, worst, events, n, window):
    """Write the events of an edge with one sign change that has points in doubt around it."""
    e, left = int(room[desk.doubts + 2 * d]), int(room[desk.doubts + 2 * d + 1])
    o, right, column = int(room[desk.single + e]), left, desk.columns + e
    points, margin = max(len(window), 4), room[desk.margins + o]
    while left > 0:
        if value_at(room, column, desk.stride, points, room[desk.t + left - 1]) > margin:
            break
        left -= 1
    while right < count:
        if value_at(room, column, desk.stride, points, room[desk.t + right]) < -margin:
            break
        right += 1
    sign, weight = int(room[desk.codes + o]), room[desk.size - desk.stride + o]
    noise = margin - abs(weight) * worst
    now, n = scan(room, desk, o, left, right, weight, noise, sign, events, n, window)
    if right < count and now != -sign:
        n = turn_sign(room, desk.codes, o, right, now, -sign, events, n)
    return n


@inner
def search(room, desk, first, count, worst, events, n, window):
    """Write the sign of every edge at the beginning of a run, and its events; return their count.

    Events are triples of point, edge and change of sign. Those the array has no room for are
    only counted.
    """
    write_hulls(
        room,
        desk.hulls,
        desk.shapes,
        desk.margins,
        desk.codes,
        desk.stride,
        desk.lanes,
        first,
        desk.size - desk.stride,
        desk.matrix,
        window,
    )
    singles, hards = divide_edges(room, desk, window)
    n, doubts = place_roots(room, desk, count, singles, events, n, window)
    for d in range(doubts):
        n = follow_root(room, desk, d, count, worst, events, n, window)
    for e in range(hards):
        o = int(room[desk.hard + e])
        weight = room[desk.size - desk.stride + o]
        noise = room[desk.margins + o] - abs(weight) * worst
        _, n = scan(room, desk, o, 0, count, weight, noise, UNSETTLED, events, n, window)
    return n


@inner
def add_run(room, desk, first, count, events, begin, end, window):
    """Add a run's signed sums to those of every edge."""
    live, sums = len(window), desk.size
    run_up(room, desk.numbers, desk.counts, count, window)
    bottom = desk.numbers + count * (live + 1)
    for k in range(live + 1):
        at = sums + (first + k * desk.stride if k < live else desk.size - desk.stride)
        total = room[bottom + k]
        for o in range(desk.n_out):
            room[at + o] += room[desk.codes + o] * total
        for e in range(begin, end):
            o, place = events[3 * e + 1], desk.numbers + events[3 * e] * (live + 1)
            room[at + o] += events[3 * e + 2] * (total - room[place + k])
