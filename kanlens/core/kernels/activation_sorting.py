"""Every column of x in order, with equal values together, in time proportional to the rows."""

from __future__ import annotations

import numpy as np

from kanlens.core.kernels.compiling import inner, jit
from kanlens.core.kernels.turning import turn_block

DIGIT = 8  # bits a pass sorts by
PASSES = 4  # over 32 bits
WORD = np.uint64(32)
LOW = np.uint64(2**32 - 1)
SIZE = 2**DIGIT


@inner
def encode(bits, begin, rows, marks, keys):
    """Write keys that compare as the numbers do; numbers that are not finite come last.

    `marks` are the bits of -0, of all but the sign, of infinity, and all. Both zeros are the same
    number.
    """
    sign, size, infinite, last = marks
    for r in range(rows):
        value = bits[begin + r]
        key = value ^ last if value > sign else value | sign
        keys[r] = key if value & size < infinite else last


@inner
def sort_words(packed, spare, rows, counts):
    """Sort by the upper 32 bits, least digit first; an even number of passes ends in `packed`."""
    mask = np.uint64(SIZE - 1)
    for j in range(PASSES * SIZE):
        counts[j] = 0
    for r in range(rows):
        word = packed[r] >> WORD
        for p in range(PASSES):
            counts[np.uint64(p * SIZE) + (word & mask)] += np.uint64(1)
            word >>= np.uint64(DIGIT)
    for p in range(PASSES):
        total = np.uint64(0)
        for j in range(p * SIZE, (p + 1) * SIZE):
            total, counts[j] = total + counts[j], total
        shift, at = np.uint64(32 + p * DIGIT), np.uint64(p * SIZE)
        for r in range(rows):
            number = packed[r]
            digit = at + ((number >> shift) & mask)
            to = counts[digit]
            counts[digit] = to + np.uint64(1)
            spare[to] = number
        packed, spare = spare, packed


@inner
def gather(x, begin, rows, keys, last, packed, points, ends, order):
    """Write the rows in order and the distinct finite values, each with its last row's end."""
    groups = 0
    for r in range(rows):
        row = np.int64(packed[r] & LOW)
        order[begin + r] = row
        if keys[row] == last:
            continue
        value = x[begin + row]
        if groups == 0 or value != points[begin + groups - 1]:
            points[begin + groups] = value
            groups += 1
        ends[begin + groups - 1] = r + 1
    for r in range(groups, rows):
        points[begin + r] = 0
    return groups


@jit
def sort_columns(x, bits, rows, marks, points, ends, order, groups, first, last):
    """Sort columns first to last of x, given as (in, batch), flat.

    Parameters
    ----------
    x, bits : ndarray
        The numbers, and the same memory as unsigned integers.
    rows : int
        Of the batch.
    marks : tuple
        Bits of -0, of all but the sign, of infinity, and all, of the type of `bits`.
    points : ndarray
        Becomes the distinct finite values of each column in ascending order, then zeros.
    ends : ndarray of int32
        Becomes how many rows lie at or below each of them.
    order : ndarray of int32
        Becomes the rows in ascending order, those that are not finite last.
    groups : ndarray of int64, shape (in,)
        Becomes the number of distinct finite values.
    """
    halves = x.itemsize // 4
    keys = np.empty(rows, bits.dtype)
    packed, spare = np.empty(rows, np.uint64), np.empty(rows, np.uint64)
    counts = np.empty(PASSES * SIZE, np.uint64)
    for i in range(first, last):
        begin = i * rows
        encode(bits, begin, rows, marks, keys)
        for r in range(rows):
            packed[r] = (np.uint64(keys[r]) << WORD) | np.uint64(r)
        sort_words(packed, spare, rows, counts)
        if halves == 2:
            for r in range(rows):
                row = packed[r] & LOW
                packed[r] = (np.uint64(keys[row]) >> WORD << WORD) | row
            sort_words(packed, spare, rows, counts)
        groups[i] = gather(x, begin, rows, keys, marks[3], packed, points, ends, order)


@jit
def turn(source, width, target, begin, end):
    """Write rows begin to end of a flat matrix of so many columns as columns of another."""
    lanes, height = 64 // source.itemsize, len(source) // width
    for top in range(begin, end, lanes):
        for left in range(0, width, lanes):
            at, to, rows = top * width + left, left * height + top, end - top
            turn_block(source, at, width, rows, width - left, target, to, height)
