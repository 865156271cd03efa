"""Kernel that enumerates all coalitions of some players."""

from __future__ import annotations

import numpy as np

from kanlens.model.kernels._compiling import get, inlined, inner, jit, number_like, put
from kanlens.model.kernels._parallel import share_out
from kanlens.model.kernels._silu import write_silu

TOGETHER = 10  # players whose coalitions are taken at once: 1024 numbers stay in a core's cache


@inlined
def find(x, starts, bins, at_start, at_bin, low, density, last, hops):
    """Return the piece that holds x, from the first one its bin of the line touches; 0 for NaN."""
    guess = (x - low) * density
    inside = guess if guess > 0 else number_like(starts, 0)
    piece = get(bins, at_bin + int(min(inside, last)))
    for _ in range(hops):
        piece += 1 if x >= get(starts, at_start + piece) else 0
    return piece


@inner
def add_function(points, count, totals, at, j, curves, window):
    """Add the j-th piecewise polynomial at some points to totals from place `at` on."""
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
    """Add a multiple of silu at some points to totals from place `at` on."""
    write_silu(points, room, 0, count)
    for k in range(count):
        put(totals, at + k, get(totals, at + k) + weight * get(room, k))


@inner
def write_sums(start, ours, mine, theirs, yours, players, block, sums):
    """Write a sum for every set of the first players, joined by the others of a block.

    Bit p of a place is player p, bit p of `block` player TOGETHER + p. Each adds the difference of
    `ours` from place `mine` on and `theirs` from place `yours` on.
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
def multiply(points, factors, count):
    """Multiply the first numbers of an array by those of another."""
    for k in range(count):
        put(points, k, get(points, k) * get(factors, k))


@inner
def move(points, scale, shift, count):
    """Scale and shift the first numbers of an array."""
    for k in range(count):
        put(points, k, get(points, k) * scale + shift)


@jit
def add_worths(arrays, span, team):
    """Add the values of all coalitions for a span of samples, as `add_worths_of` does."""
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
                            multiply(points, room, count)
                    if scale[j] != 1 or shift[j] != 0:
                        move(points, scale[j], shift[j], count)
                    first = ends[j]
                    add_function(points, count, totals, at, j, curves, window)
                    if base[j] != 0:
                        add_base(points, count, room, totals, at, base[j])
