"""Kernels that find the piece of its input's grid that holds each number of x.

Numbers of an even grid are guessed in vectors, in the order of memory; those that lie so close to
a knot that rounding may have moved them are compared with it.
"""

from __future__ import annotations

import numpy as np

from kanlens.model.kernels._compiling import get, inlined, inner, put
from kanlens.model.kernels._silu import write_silu, write_silu_pair


@inner
def write_pieces(x, n_in, basis, held, begin, end):
    """Write the piece that holds each number of rows begin to end; 0 for NaN."""
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
    """Write the likely pieces of consecutive numbers; return whether any is doubtful."""
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
    """Write the pieces of consecutive numbers: how many of the cuts of each are not above it."""
    held[top : top + count] = 0
    for at in range(0, len(cuts), tile):
        for j in range(count):
            more = np.int32(get(x, top + j) >= get(cuts, at + j))
            put(held, top + j, get(held, top + j) + more)


@inner
def write_points(points, silu, basis, n_in, begin, end):
    """Write the pieces that hold rows begin to end, and silu where it is the base function."""
    x, base, slope, held = points
    if silu and len(slope) > 0:
        write_silu_pair(x, base, slope, begin * n_in, end * n_in)
    elif silu:
        write_silu(x, base, begin * n_in, end * n_in)
    write_pieces(x, n_in, basis, held, begin, end)


@inlined
def room_of_rows(points, count):
    """Return room for `points_of_rows`."""
    values = np.empty(count if len(points[1]) == 0 else 0, points[0].dtype)
    return values, np.empty(count, np.int32)


@inlined
def points_of_rows(points, room, basis, n_in, begin, end):
    """Return rows begin to end of points; missing arrays are computed in the room."""
    (x, base, slope, _), (values, held) = points, room
    some, silu = slice(begin * n_in, end * n_in), len(base) == 0
    mine = x[some], values if silu else base[some], slope, held
    write_points(mine, silu, basis, n_in, 0, end - begin)
    return mine
