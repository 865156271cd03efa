"""Kernels of games: all coalitions of some players, and cosines of a sum in closed form.

Frequencies are taken `LANES` at a time in explicit vectors (the compiler's own code took 3.3 times
as long); complex numbers are (row, 2, LANES). Gauss-Legendre nodes above 1/2 follow from the
others: on the unit circle ``t + (1 - t) z`` is z times the conjugate of ``(1 - t) + t z``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from kanlens.model.kernels._compiling import FASTMATH, get, inlined, inner, jit, number_like, put
from kanlens.model.kernels._parallel import share_out
from kanlens.model.kernels._silu import write_silu
from kanlens.model.kernels._vectors import Emitter, Value, emitted

LANES = 32
TOGETHER = 10  # players whose coalitions are taken at once: 1024 numbers stay in a core's cache


@inlined
def find(x, starts, bins, at_start, at_bin, low, density, last, hops):
    """Return the index of the piece that contains x, by bins of the line; 0 for NaN."""
    guess = (x - low) * density
    inside = guess if guess > 0 else number_like(starts, 0)
    piece = get(bins, at_bin + int(min(inside, last)))
    for _ in range(hops):
        piece += 1 if x >= get(starts, at_start + piece) else 0
    return piece


@inner
def add_function(points, count, totals, at, j, curves, window):
    """Add the j-th piecewise polynomial at some points to `totals`, from index `at` on."""
    numbers, starts, bins, low, density, n_pieces, n_bins, hops = curves
    degree, size = len(window) - 1, len(window) + 2  # of a piece: origin, scale, powers
    left, rate, last = low[j], density[j], number_like(points, n_bins - 1)
    for k in range(count):
        x = get(points, k)
        piece = find(x, starts, bins, j * n_pieces, j * n_bins, left, rate, last, hops)
        here = (j * n_pieces + piece) * size
        u = (x - get(numbers, here)) * get(numbers, here + 1)
        value = get(numbers, here + 2 + degree)
        for p in range(1, degree + 1):
            value = value * u + get(numbers, here + 2 + degree - p)
        put(totals, at + k, get(totals, at + k) + value)


@inner
def add_base(points, count, room, totals, at, weight):
    """Add a multiple of silu at some points to `totals`, from index `at` on."""
    write_silu(points, room, 0, count)
    for k in range(count):
        put(totals, at + k, get(totals, at + k) + weight * get(room, k))


@inner
def write_sums(start, ours, mine, theirs, yours, players, block, sums):
    """Write the sums of all coalitions of the first players, each joined by those of a block.

    Bit p of an index is player p, bit p of `block` player TOGETHER + p. Each adds the difference of
    `ours` from index `mine` on and `theirs` from index `yours` on.
    """
    few = min(players, TOGETHER)
    for p in range(few, players):
        if (block >> (p - few)) & 1:
            start += get(ours, mine + p) - get(theirs, yours + p)
    put(sums, 0, start)
    for p in range(few):
        step, half = get(ours, mine + p) - get(theirs, yours + p), 1 << p
        for k in range(half):
            put(sums, half + k, get(sums, k) + step)


@inner
def multiply_points(points, factors, count):
    """Multiply the first `count` numbers of an array by those of another."""
    for k in range(count):
        put(points, k, get(points, k) * get(factors, k))


@inner
def move_points(points, scale, shift, count):
    """Scale and shift the first `count` numbers of an array."""
    for k in range(count):
        put(points, k, get(points, k) * scale + shift)


@jit
def add_worths(arrays, span, team):
    """Call `add_worths_of` on a span of samples."""
    share_out(add_worths_of, arrays, span, team)


@inner
def add_worths_of(ours, theirs, start, totals, nodes, curves, base, sizes, window, begin, end):
    """Add to totals (batch, coalition) the worths of coalitions against each background row.

    For samples a from begin to end, rows b and all sets S of players p it is ``sum_j f_j(node_j)``,
    where a node is a product of sums ``start_bs + sum over p in S of (ours_asp - theirs_bsp)``,
    scaled and shifted. Everything is flat: ours (batch, sum, player), theirs (rows, sum, player),
    start (rows, sum); the sums of node j end at ``ends[j]``.
    """
    (rows, n_sums, players), (ends, scale, shift) = sizes, nodes
    count = 1 << min(players, TOGETHER)
    points, room = np.empty(count), np.empty(count)
    for a in range(begin, end):
        for b in range(rows):
            for block in range((1 << players) // count):
                at, first = (a << players) + block * count, 0
                for j in range(len(ends)):
                    for s in range(first, ends[j]):
                        here, there = (a * n_sums + s) * players, b * n_sums + s
                        at_start, yours = get(start, there), there * players
                        sums = points if s == first else room
                        write_sums(at_start, ours, here, theirs, yours, players, block, sums)
                        if s > first:
                            multiply_points(points, room, count)
                    if scale[j] != 1 or shift[j] != 0:
                        move_points(points, scale[j], shift[j], count)
                    first = ends[j]
                    add_function(points, count, totals, at, j, curves, window)
                    if base[j] != 0:
                        add_base(points, count, room, totals, at, base[j])


# --- cosines of a sum, over many frequencies ------------------------------------------------------


@inlined
def turn(angle, numbers, to):
    """Write exp(i * angle * r) for r = 1 to LANES."""
    for r in range(LANES):
        numbers[to, 0, r] = math.cos(angle * (r + 1))
        numbers[to, 1, r] = math.sin(angle * (r + 1))


@inlined
def rotate(angle, numbers, at, to):
    """Rotate numbers on the unit circle by an angle."""
    c, s = math.cos(angle), math.sin(angle)
    for r in range(LANES):
        real, imaginary = numbers[at, 0, r], numbers[at, 1, r]
        to[at, 0, r] = c * real - s * imaginary
        to[at, 1, r] = s * real + c * imaginary


def _load(emit: Emitter, numbers: Value, row: Value, here: Value, width: int) -> tuple[Any, Any]:
    """Return the real and the imaginary parts of some numbers of a row."""
    at = _place(emit, row, here)
    return emit.load(numbers, at, width), emit.load(numbers, emit.offset(at, LANES), width)


def _place(emit: Emitter, row: Value, here: Value) -> Value:
    return emit.builder.add(emit.builder.mul(row, ir.Constant(row.type, 2 * LANES)), here)


def _times(emit: Emitter, left: tuple[Any, Any], right: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return the product of complex numbers given as pairs."""
    (a, b), (c, d) = left, right
    real = emit.builder.fsub(emit.product(a, c), emit.product(b, d), flags=FASTMATH)
    return real, emit.sum(emit.product(a, d), emit.product(b, c))


def _over_lanes(emit: Emitter, to: Value, row: Value, value: Callable[..., Any]) -> None:
    """Write ``value(here, width)``, a pair, for every vector of a row."""

    def body(here: Value, width: int) -> None:
        at = _place(emit, row, here)
        real, imaginary = value(here, width)
        emit.store(real, to, at, width)
        emit.store(imaginary, to, emit.offset(at, LANES), width)

    emit.lanes(ir.Constant(row.type, LANES), body)


@emitted
def multiply(emit, to, row, numbers, at, factors, by, t):
    """Write to row `row` the product of row `at` and ``(1 - t) + t z``, z in row `by`."""
    rest = emit.builder.fsub(ir.Constant(emit.element, 1.0), t)

    def value(here: Value, width: int) -> tuple[Any, Any]:
        share, z = emit.splat(t, width), _load(emit, factors, by, here, width)
        c = emit.sum(emit.product(share, z[0]), emit.splat(rest, width))
        factor = c, emit.product(share, z[1])
        return _times(emit, _load(emit, numbers, at, here, width), factor)

    _over_lanes(emit, to, row, value)


@emitted
def add_product(emit, to, row, numbers, at, factors, by):
    """Add the product of two rows of numbers to a third."""

    def value(here: Value, width: int) -> tuple[Any, Any]:
        left = _load(emit, numbers, at, here, width)
        product = _times(emit, left, _load(emit, factors, by, here, width))
        real, imaginary = _load(emit, to, row, here, width)
        return emit.sum(real, product[0]), emit.sum(imaginary, product[1])

    _over_lanes(emit, to, row, value)


@inlined
def amplitudes(cosines, block, sign, z, live, a):
    """Replace A = C exp(i m pi start), in the row after the players' z, by A + sign * conj(A Z)."""
    for r in range(LANES):
        c = cosines[block + r] if block + r < len(cosines) else 0.0
        z[live, 0, r], z[live, 1, r] = c * z[live, 0, r], c * z[live, 1, r]
        a[0, 0, r], a[0, 1, r] = z[live, 0, r], z[live, 1, r]
    for j in range(live):
        multiply(z, live, z, live, z, j, 1.0)
    for r in range(LANES):
        a[0, 0, r] += sign * z[live, 0, r]
        a[0, 1, r] -= sign * z[live, 1, r]


@inlined
def seated(steps, starts, p, who, numbers):
    """Write phase factors of players with a nonzero step and of the start; return their number."""
    live = 0
    for j in range(steps.shape[1]):
        if steps[p, j] != 0.0:
            who[live] = j
            turn(math.pi * steps[p, j], numbers, live)
            live += 1
    turn(math.pi * starts[p], numbers, live)
    return live


@inlined
def scale(factor, numbers, at, to, row):
    """Write a multiple of a row of numbers."""
    for part in range(2):
        for r in range(LANES):
            to[row, part, r] = factor * numbers[at, part, r]


@inlined
def write_prefixes(t, live, z, before):
    """Write the product of the factors of all players before each."""
    before[0, 0], before[0, 1] = 1.0, 0.0
    for j in range(live - 1):
        multiply(before, j + 1, before, j, z, j, t)


@inlined
def add_node(t, live, z, before, s, total):
    """Add to each player's total the product of all others' factors, times s."""
    write_prefixes(t, live, z, before)
    for j in range(live - 1, -1, -1):
        add_product(total, j, before, j, s, 0)
        multiply(s, 0, s, 0, z, j, t)


@inlined
def hand_out(values, p, who, live, z, total):
    """Add each player's total, times z - 1, to the values of a game."""
    for j in range(live):
        value = 0.0
        for r in range(LANES):
            value += (z[j, 0, r] - 1.0) * total[j, 0, r] - z[j, 1, r] * total[j, 1, r]
        values[p, who[j]] += value


@inlined
def complex_rows(count):
    """Allocate rows of complex numbers."""
    return np.empty((count, 2, LANES))


@inlined
def add_pairs(t, live, z, before, after, s, total):
    """Add ``after[live]`` times the product of the other players' factors to pairs' totals."""
    for j in range(live - 1, -1, -1):
        multiply(after, j, after, j + 1, z, j, t)
    write_prefixes(t, live, z, before)
    for j in range(live - 1):
        scale(1.0, before, j, s, 0)
        for k in range(j + 1, live):
            add_product(total, j * live + k, s, 0, after, k + 1)
            multiply(s, 0, s, 0, z, k, t)


@inlined
def hand_out_pairs(values, p, who, live, z, total, n):
    """Add the real parts of pairs' totals, times (z_j - 1) (z_k - 1), to the interactions."""
    for j in range(live - 1):
        for k in range(j + 1, live):
            value, at = 0.0, j * live + k
            for r in range(LANES):
                x, y = z[j, 0, r] - 1.0, z[k, 0, r] - 1.0
                real = x * y - z[j, 1, r] * z[k, 1, r]
                imaginary = x * z[k, 1, r] + z[j, 1, r] * y
                value += real * total[at, 0, r] - imaginary * total[at, 1, r]
            values[p, who[j] * n + who[k]] += value
            values[p, who[k] * n + who[j]] += value


@jit
def add_games(arrays, span, team):
    """Call `add_games_of` on a span of games."""
    share_out(add_games_of, arrays, span, team)


@inner
def add_games_of(steps, starts, cosines, nodes, weights, pairs, values, first, last):
    """Add the Shapley values (game, player) of games ``first`` to ``last``, by `half_rules`.

    If `pairs` is 1, not 0, add the interactions (game, player * player) instead.
    """
    n = steps.shape[1]
    who, w, z = np.empty(n, np.int64), complex_rows(n + 1), complex_rows(n + 1)
    before, after, total = complex_rows(n), complex_rows(n + 1), complex_rows(n ** (1 + pairs))
    a, s = complex_rows(1), complex_rows(1)
    for p in range(first, last):
        live = seated(steps, starts, p, who, w)
        order = (live + 1 - pairs) // 2
        for block in range(0, len(cosines), LANES):
            for j in range(live):
                rotate(math.pi * steps[p, who[j]] * block, w, j, z)
            rotate(math.pi * starts[p] * block, w, live, z)
            amplitudes(cosines, block, 2.0 * pairs - 1.0, z, live, a)
            total[: live ** (1 + pairs)] = 0.0
            for q in range((order + 1) // 2):
                if pairs:
                    scale(weights[order, q], a, 0, after, live)
                    add_pairs(nodes[order, q], live, z, before, after, s, total)
                else:
                    scale(weights[order, q], a, 0, s, 0)
                    add_node(nodes[order, q], live, z, before, s, total)
            if pairs:
                hand_out_pairs(values, p, who, live, z, total, n)
            else:
                hand_out(values, p, who, live, z, total)
