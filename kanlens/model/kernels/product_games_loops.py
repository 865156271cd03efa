"""Shapley values and interactions of cosines of a sum, summed over many frequencies.

Frequencies are taken `LANES` at a time, next to each other in memory, in explicit vectors: the
compiler's own code was measured to take 3.3 times as long. Of Gauss-Legendre nodes only those up
to 1/2 are visited: with z on the unit circle, ``t + (1 - t) z`` is z times the conjugate
of ``(1 - t) + t z``, so the other half follows from this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kanlens.model.kernels.compiling import FASTMATH, inlined, jit
from kanlens.model.kernels.vectors import Emitter

LANES = 32


@inlined
def turn(angle, real, imaginary, to):
    """Write exp(i * angle * r) for r = 1 to LANES."""
    for r in range(LANES):
        real[to, r] = math.cos(angle * (r + 1))
        imaginary[to, r] = math.sin(angle * (r + 1))


@inlined
def rotate(angle, real, imaginary, at, to_real, to_imaginary):
    """Write numbers of the unit circle, turned by an angle."""
    c, s = math.cos(angle), math.sin(angle)
    for r in range(LANES):
        to_real[at, r] = c * real[at, r] - s * imaginary[at, r]
        to_imaginary[at, r] = s * real[at, r] + c * imaginary[at, r]


def _rows(emit: Emitter, sig: Any, args: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
    """Return (real part, imaginary part, place of the row) of each three arguments."""
    found = []
    for j in range(0, 9, 3):
        parts = (emit.data(sig.args[j + k], args[j + k]) for k in range(2))
        found.append((*parts, emit.builder.mul(args[j + 2], ir.Constant(args[j + 2].type, LANES))))
    return found


def _load(emit: Emitter, row: tuple[Any, Any, Any], here: Any, width: int) -> tuple[Any, Any]:
    """Return the real and the imaginary parts of some numbers of a row."""
    at = emit.builder.add(row[2], here)
    return emit.load(row[0], at, width), emit.load(row[1], at, width)


def _times(emit: Emitter, one: tuple[Any, Any], other: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return the product of complex numbers given as pairs."""
    (a, b), (c, d) = one, other
    real = emit.builder.fsub(emit.product(a, c), emit.product(b, d), flags=FASTMATH)
    return real, emit.sum(emit.product(a, d), emit.product(b, c))


def _over_lanes(emit: Emitter, to: tuple[Any, Any, Any], value: Callable[..., Any]) -> None:
    """Write ``value(here, width)``, a pair, to every place of a row."""

    def body(here: Any, width: int) -> None:
        at = emit.builder.add(to[2], here)
        for part, numbers in zip(to[:2], value(here, width), strict=True):
            emit.store(numbers, part, at, width)

    emit.tail = False
    emit.lanes(ir.Constant(to[2].type, LANES), body)


@intrinsic
def multiply(typing, to_real, to_imaginary, to, real, imaginary, at, by_real, by_imaginary, by, t):
    """Write the product of a row of numbers and of ``(1 - t) + t z``."""
    signature = types.void(
        to_real, to_imaginary, to, real, imaginary, at, by_real, by_imaginary, by, t
    )

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Any]) -> Any:
        emit = Emitter(context, builder, sig.args[0])
        target, source, factor = _rows(emit, sig, args)
        rest = builder.fsub(ir.Constant(emit.element, 1.0), args[9])

        def value(here: Any, width: int) -> tuple[Any, Any]:
            share, x = emit.splat(args[9], width), _load(emit, factor, here, width)
            c = emit.sum(emit.product(share, x[0]), emit.splat(rest, width))
            return _times(emit, _load(emit, source, here, width), (c, emit.product(share, x[1])))

        _over_lanes(emit, target, value)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_product(typing, to_real, to_imaginary, to, real, imaginary, at, by_real, by_imaginary, by):
    """Add the product of two rows of numbers to a third."""
    signature = types.void(
        to_real, to_imaginary, to, real, imaginary, at, by_real, by_imaginary, by
    )

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Any]) -> Any:
        emit = Emitter(context, builder, sig.args[0])
        target, one, other = _rows(emit, sig, args)

        def value(here: Any, width: int) -> tuple[Any, Any]:
            pair = (_load(emit, row, here, width) for row in (one, other))
            before = _load(emit, target, here, width)
            return tuple(map(emit.sum, before, _times(emit, *pair)))

        _over_lanes(emit, target, value)
        return context.get_dummy_value()

    return signature, generate


@inlined
def amplitudes(cosines, block, sign, zr, zi, live, ar, ai):
    """Turn the product A of no player, C exp(i m pi start), into A + sign * conj(A Z).

    Z is the product of all z; A comes as the row after those of the players, without C.
    """
    for r in range(LANES):
        c = cosines[block + r] if block + r < len(cosines) else 0.0
        ar[0, r], ai[0, r] = c * zr[live, r], c * zi[live, r]
        zr[live, r], zi[live, r] = ar[0, r], ai[0, r]
    for j in range(live):
        multiply(zr, zi, live, zr, zi, live, zr, zi, j, 1.0)
    for r in range(LANES):
        ar[0, r] += sign * zr[live, r]
        ai[0, r] -= sign * zi[live, r]


@inlined
def seated(steps, starts, p, who, real, imaginary):
    """Select players with a nonzero step; write the first powers of their phase factors.

    The row after theirs is that of the start.
    """
    live = 0
    for j in range(steps.shape[1]):
        if steps[p, j] != 0.0:
            who[live] = j
            turn(math.pi * steps[p, j], real, imaginary, live)
            live += 1
    turn(math.pi * starts[p], real, imaginary, live)
    return live


@inlined
def begin_block(steps, starts, p, who, live, block, wr, wi, zr, zi):
    """Write what the players and the start multiply by at the frequencies of a block."""
    for j in range(live):
        rotate(math.pi * steps[p, who[j]] * block, wr, wi, j, zr, zi)
    rotate(math.pi * starts[p] * block, wr, wi, live, zr, zi)


@inlined
def write_prefixes(t, live, zr, zi, pr, pi):
    """Write the product of the factors of all players before each."""
    pr[0], pi[0] = 1.0, 0.0
    for j in range(live - 1):
        multiply(pr, pi, j + 1, pr, pi, j, zr, zi, j, t)


@inlined
def add_node(t, live, zr, zi, pr, pi, sr, si, tr, ti):
    """Add to each player's total the product of the factors of all others, times what s holds."""
    write_prefixes(t, live, zr, zi, pr, pi)
    for j in range(live - 1, -1, -1):
        add_product(tr, ti, j, pr, pi, j, sr, si, 0)
        multiply(sr, si, 0, sr, si, 0, zr, zi, j, t)


@inlined
def hand_out(found, p, who, live, zr, zi, tr, ti):
    """Add the totals to the values."""
    for j in range(live):
        total = 0.0
        for r in range(LANES):
            total += (zr[j, r] - 1.0) * tr[j, r] - zi[j, r] * ti[j, r]
        found[p, who[j]] += total


@jit
def add_values(steps, starts, cosines, nodes, weights, found, first, last):
    """Add the Shapley values of games ``first`` to ``last``.

    Steps and starts are in units of the interval. Row q of `nodes` and `weights` has those of the
    rule with q nodes that lie up to 1/2.
    """
    n = steps.shape[1]
    who = np.empty(n, np.int64)
    wr, wi = np.empty((n + 1, LANES)), np.empty((n + 1, LANES))
    zr, zi = np.empty((n + 1, LANES)), np.empty((n + 1, LANES))
    pr, pi = np.empty((n + 1, LANES)), np.empty((n + 1, LANES))
    tr, ti = np.empty((n + 1, LANES)), np.empty((n + 1, LANES))
    ar, ai = np.empty((1, LANES)), np.empty((1, LANES))
    sr, si = np.empty((1, LANES)), np.empty((1, LANES))
    for p in range(first, last):
        live = seated(steps, starts, p, who, wr, wi)
        order = (live + 1) // 2
        for block in range(0, len(cosines), LANES):
            begin_block(steps, starts, p, who, live, block, wr, wi, zr, zi)
            amplitudes(cosines, block, -1.0, zr, zi, live, ar, ai)
            tr[:live], ti[:live] = 0.0, 0.0
            for q in range((order + 1) // 2):
                for r in range(LANES):
                    sr[0, r] = weights[order, q] * ar[0, r]
                    si[0, r] = weights[order, q] * ai[0, r]
                add_node(nodes[order, q], live, zr, zi, pr, pi, sr, si, tr, ti)
            hand_out(found, p, who, live, zr, zi, tr, ti)


@inlined
def add_pairs(t, live, zr, zi, pr, pi, qr, qi, sr, si, tr, ti):
    """Add to each pair's total the product of the factors of all others, times ``q[live]``."""
    for j in range(live - 1, -1, -1):
        multiply(qr, qi, j, qr, qi, j + 1, zr, zi, j, t)
    write_prefixes(t, live, zr, zi, pr, pi)
    for j in range(live - 1):
        sr[0], si[0] = pr[j], pi[j]
        for k in range(j + 1, live):
            add_product(tr, ti, j * live + k, sr, si, 0, qr, qi, k + 1)
            multiply(sr, si, 0, sr, si, 0, zr, zi, k, t)


@inlined
def hand_out_pairs(found, p, who, live, zr, zi, tr, ti):
    """Add the totals to the interactions."""
    for j in range(live - 1):
        for k in range(j + 1, live):
            total, at = 0.0, j * live + k
            for r in range(LANES):
                x, y = zr[j, r] - 1.0, zr[k, r] - 1.0
                a, b = x * y - zi[j, r] * zi[k, r], x * zi[k, r] + zi[j, r] * y
                total += a * tr[at, r] - b * ti[at, r]
            found[p, who[j], who[k]] += total
            found[p, who[k], who[j]] += total


@jit
def add_interactions(steps, starts, cosines, nodes, weights, found, first, last):
    """Add the interactions of every two players of games ``first`` to ``last``, as `add_values`."""
    n = steps.shape[1]
    who = np.empty(n, np.int64)
    wr, wi = np.empty((n + 1, LANES)), np.empty((n + 1, LANES))
    zr, zi = np.empty((n + 1, LANES)), np.empty((n + 1, LANES))
    pr, pi = np.empty((n + 1, LANES)), np.empty((n + 1, LANES))
    qr, qi = np.empty((n + 1, LANES)), np.empty((n + 1, LANES))
    tr, ti = np.empty((n * n, LANES)), np.empty((n * n, LANES))
    ar, ai = np.empty((1, LANES)), np.empty((1, LANES))
    sr, si = np.empty((1, LANES)), np.empty((1, LANES))
    for p in range(first, last):
        live = seated(steps, starts, p, who, wr, wi)
        order = live // 2
        for block in range(0, len(cosines), LANES):
            begin_block(steps, starts, p, who, live, block, wr, wi, zr, zi)
            amplitudes(cosines, block, 1.0, zr, zi, live, ar, ai)
            tr[: live * live], ti[: live * live] = 0.0, 0.0
            for q in range((order + 1) // 2):
                for r in range(LANES):
                    qr[live, r] = weights[order, q] * ar[0, r]
                    qi[live, r] = weights[order, q] * ai[0, r]
                add_pairs(nodes[order, q], live, zr, zi, pr, pi, qr, qi, sr, si, tr, ti)
            hand_out_pairs(found, p, who, live, zr, zi, tr, ti)
