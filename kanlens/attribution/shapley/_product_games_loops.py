"""Shapley values and interactions of cosines of a sum, summed over many frequencies.

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

from kanlens.model.kernels._compiling import FASTMATH, inlined, inner, jit
from kanlens.model.kernels._parallel import share_out
from kanlens.model.kernels._vectors import Emitter, Value, emitted

LANES = 32


@inlined
def turn(angle, numbers, to):
    """Write exp(i * angle * r) for r = 1 to LANES."""
    for r in range(LANES):
        numbers[to, 0, r] = math.cos(angle * (r + 1))
        numbers[to, 1, r] = math.sin(angle * (r + 1))


@inlined
def rotate(angle, numbers, at, to):
    """Write numbers of the unit circle, turned by an angle."""
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
    """Write ``value(here, width)``, a pair, to every place of a row."""

    def body(here: Value, width: int) -> None:
        at = _place(emit, row, here)
        real, imaginary = value(here, width)
        emit.store(real, to, at, width)
        emit.store(imaginary, to, emit.offset(at, LANES), width)

    emit.lanes(ir.Constant(row.type, LANES), body)


@emitted
def multiply(emit, to, row, numbers, at, factors, by, t):
    """Write the product of a row of numbers and of ``(1 - t) + t z``."""
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
    """Turn A = C exp(i m pi start), the row after the players' z, into A + sign * conj(A Z)."""
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
    """Select players with a nonzero step; write their first phase factors, and the start's."""
    live = 0
    for j in range(steps.shape[1]):
        if steps[p, j] != 0.0:
            who[live] = j
            turn(math.pi * steps[p, j], numbers, live)
            live += 1
    turn(math.pi * starts[p], numbers, live)
    return live


@inlined
def begin_block(steps, starts, p, who, live, block, w, z):
    """Compute the phase factors of players and start for one frequency block."""
    for j in range(live):
        rotate(math.pi * steps[p, who[j]] * block, w, j, z)
    rotate(math.pi * starts[p] * block, w, live, z)


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
    """Add the totals to the values of a game."""
    for j in range(live):
        value = 0.0
        for r in range(LANES):
            value += (z[j, 0, r] - 1.0) * total[j, 0, r] - z[j, 1, r] * total[j, 1, r]
        values[p, who[j]] += value


@inlined
def complex_rows(count):
    """Return room for rows of complex numbers."""
    return np.empty((count, 2, LANES))


@jit
def add_values(arrays, span, team):
    """Add the Shapley values of a span of games, as `add_values_of` does."""
    share_out(add_values_of, arrays, span, team)


@inner
def add_values_of(steps, starts, cosines, nodes, weights, values, first, last):
    """Add the Shapley values of games ``first`` to ``last``.

    Steps and starts are in units of the interval. Row q of `nodes` and `weights` has those of the
    rule with q nodes that lie up to 1/2.
    """
    n = steps.shape[1]
    who, w, z = np.empty(n, np.int64), complex_rows(n + 1), complex_rows(n + 1)
    before, total, a, s = complex_rows(n), complex_rows(n), complex_rows(1), complex_rows(1)
    for p in range(first, last):
        live = seated(steps, starts, p, who, w)
        order = (live + 1) // 2
        for block in range(0, len(cosines), LANES):
            begin_block(steps, starts, p, who, live, block, w, z)
            amplitudes(cosines, block, -1.0, z, live, a)
            total[:live] = 0.0
            for q in range((order + 1) // 2):
                scale(weights[order, q], a, 0, s, 0)
                add_node(nodes[order, q], live, z, before, s, total)
            hand_out(values, p, who, live, z, total)


@inlined
def add_pairs(t, live, z, before, after, s, total):
    """Add to each pair's total the product of all others' factors, times ``after[live]``."""
    for j in range(live - 1, -1, -1):
        multiply(after, j, after, j + 1, z, j, t)
    write_prefixes(t, live, z, before)
    for j in range(live - 1):
        scale(1.0, before, j, s, 0)
        for k in range(j + 1, live):
            add_product(total, j * live + k, s, 0, after, k + 1)
            multiply(s, 0, s, 0, z, k, t)


@inlined
def hand_out_pairs(values, p, who, live, z, total):
    """Add the totals to the interactions."""
    for j in range(live - 1):
        for k in range(j + 1, live):
            value, at = 0.0, j * live + k
            for r in range(LANES):
                x, y = z[j, 0, r] - 1.0, z[k, 0, r] - 1.0
                real = x * y - z[j, 1, r] * z[k, 1, r]
                imaginary = x * z[k, 1, r] + z[j, 1, r] * y
                value += real * total[at, 0, r] - imaginary * total[at, 1, r]
            values[p, who[j], who[k]] += value
            values[p, who[k], who[j]] += value


@jit
def add_interactions(arrays, span, team):
    """Add the interactions of a span of games, as `add_interactions_of` does."""
    share_out(add_interactions_of, arrays, span, team)


@inner
def add_interactions_of(steps, starts, cosines, nodes, weights, values, first, last):
    """Add the interactions of every two players of games ``first`` to ``last``."""
    n = steps.shape[1]
    who, w, z = np.empty(n, np.int64), complex_rows(n + 1), complex_rows(n + 1)
    before, after, total = complex_rows(n), complex_rows(n + 1), complex_rows(n * n)
    a, s = complex_rows(1), complex_rows(1)
    for p in range(first, last):
        live = seated(steps, starts, p, who, w)
        order = live // 2
        for block in range(0, len(cosines), LANES):
            begin_block(steps, starts, p, who, live, block, w, z)
            amplitudes(cosines, block, 1.0, z, live, a)
            total[: live * live] = 0.0
            for q in range((order + 1) // 2):
                scale(weights[order, q], a, 0, after, live)
                add_pairs(nodes[order, q], live, z, before, after, s, total)
            hand_out_pairs(values, p, who, live, z, total)
