"""Kernels in Triton over the basis functions that are nonzero at each point, for CUDA.

Weights come packed (in, basis + 1, out): the coefficients of one input lie together, the row of the
base function after them, outputs side by side. `pieces` has a row for each piece of each input's
grid: where it starts, its origin and its scale, then the powers of the functions alive in it, as
`LocalBasis` has them. Sums are taken in one order, without atomics: the same numbers give the same
result. In triton's interpreter the tests run all of this without a GPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

HEAD = tl.constexpr(3)  # numbers of a piece before its powers


@triton.jit
def find_piece(points, pieces, count, WIDTH: tl.constexpr, STEPS: tl.constexpr):
    """Return the piece of a grid that holds each point, by bisection; 0 for NaN."""
    piece = tl.zeros_like(points).to(tl.int32)
    for step in tl.static_range(STEPS):
        further = piece + (1 << (STEPS - 1 - step))
        known = further < count
        start = tl.load(pieces + further * WIDTH, mask=known, other=0.0)
        piece = tl.where(known & (points >= start), further, piece)
    return piece


@triton.jit
def locate(
    points, i, pieces, first, jump, count, DEGREE: tl.constexpr, STEPS: tl.constexpr
):  # (row,) -> (row,) four times
    """Return u and its slope, where the powers of the piece are, and the first function alive."""
    width: tl.constexpr = HEAD + (DEGREE + 1) * (DEGREE + 1)
    own = pieces + i * jump * width
    piece = find_piece(points, own, count, width, STEPS)
    place = own + piece * width
    scale = tl.load(place + 2)
    return (points - tl.load(place + 1)) * scale, scale, place + HEAD, tl.load(first + piece)


@triton.jit
def value_of(u, powers, k, SLOPE: tl.constexpr, DEGREE: tl.constexpr):
    """Return the value of the k-th function alive, or its derivative in u, by Horner's rule."""
    row: tl.constexpr = DEGREE + 1
    value = (DEGREE if SLOPE else 1) * tl.load(powers + DEGREE * row + k)
    for p in tl.static_range(1, DEGREE + 1 - SLOPE):
        number = tl.load(powers + (DEGREE - p) * row + k)
        value = value * u + (DEGREE - p if SLOPE else 1) * number
    return value


@triton.jit
def edge_values(
    u, scale, powers, start, base, packed, n_basis, outs, n_out, SLOPE: tl.constexpr,
    DEGREE: tl.constexpr,
):  # fmt: skip
    """Return the values (row, out) of the edges of one input, or their derivatives in x."""
    weight = tl.load(packed + n_basis * n_out + outs, mask=outs < n_out, other=0.0)
    total = base[:, None] * weight[None, :]
    for k in tl.static_range(DEGREE + 1):
        number = value_of(u, powers, k, SLOPE, DEGREE) * (scale if SLOPE else 1)
        at = packed + (start + k)[:, None] * n_out + outs[None, :]
        total += number[:, None] * tl.load(at, mask=outs[None, :] < n_out, other=0.0)
    return total


@triton.jit
def basis_tile(u, powers, start, base, terms, n_basis, DEGREE: tl.constexpr):
    """Return some functions of the basis (term, row), of which number `n_basis` is the base."""
    tile = tl.where(terms[:, None] == n_basis, base[None, :], 0.0)
    for k in tl.static_range(DEGREE + 1):
        number = value_of(u, powers, k, False, DEGREE)
        tile += tl.where(terms[:, None] == start[None, :] + k, number[None, :], 0.0)
    return tile


@triton.jit
def sign(values):
    """Return 1, -1, or 0 for zero and NaN."""
    return tl.where(values > 0, 1.0, tl.where(values < 0, -1.0, 0.0)).to(values.dtype)


@triton.jit
def forward(
    x, base, packed, bias, y, pieces, first, jump, count, n_rows, n_in, n_out, n_basis,
    DEGREE: tl.constexpr, STEPS: tl.constexpr, ROWS: tl.constexpr, OUTS: tl.constexpr,
):  # fmt: skip
    """Write y (row, out): a program for some rows and outputs, over all inputs."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    outs = tl.program_id(1) * OUTS + tl.arange(0, OUTS)
    live, here = rows < n_rows, packed
    kind = packed.dtype.element_ty
    total = tl.zeros((ROWS, OUTS), kind)
    for i in range(n_in):
        points = tl.load(x + rows * n_in + i, mask=live, other=0.0).to(kind)
        height = tl.load(base + rows * n_in + i, mask=live, other=0.0)
        u, scale, powers, start = locate(points, i, pieces, first, jump, count, DEGREE, STEPS)
        total += edge_values(
            u, scale, powers, start, height, here, n_basis, outs, n_out, False, DEGREE
        )
        here += (n_basis + 1) * n_out
    total += tl.load(bias + outs, mask=outs < n_out, other=0.0).to(kind)[None, :]
    inside = live[:, None] & (outs[None, :] < n_out)
    tl.store(y + rows[:, None] * n_out + outs[None, :], total, mask=inside)


@triton.jit
def by_x(
    x, base, base_slope, packed, grad, result, pieces, first, jump, count, n_rows, n_in, n_out,
    n_basis, SIGNED: tl.constexpr, DEGREE: tl.constexpr, STEPS: tl.constexpr, ROWS: tl.constexpr,
    OUTS: tl.constexpr,
):  # fmt: skip
    """Write the gradient to x (row, in): a program for some rows of an input, over all outputs.

    From the gradient (row, out) of the sums, or with SIGNED from that (in, out) of the sums over
    the rows of the absolute values of the edges.
    """
    i, block = tl.program_id(0) % n_in, tl.program_id(0) // n_in
    rows = block.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    live, at = rows < n_rows, rows * n_in + i
    kind = packed.dtype.element_ty
    points = tl.load(x + at, mask=live, other=0.0).to(kind)
    height = tl.load(base + at, mask=live, other=0.0)
    rise = tl.load(base_slope + at, mask=live, other=0.0)
    u, scale, powers, start = locate(points, i, pieces, first, jump, count, DEGREE, STEPS)
    here, total = packed + i.to(tl.int64) * (n_basis + 1) * n_out, tl.zeros((ROWS,), kind)
    for left in range(0, n_out, OUTS):
        outs = left + tl.arange(0, OUTS)
        rising = edge_values(
            u, scale, powers, start, rise, here, n_basis, outs, n_out, True, DEGREE
        )
        if SIGNED:
            given = tl.load(grad + i * n_out + outs, mask=outs < n_out, other=0.0)[None, :]
            values = edge_values(
                u, scale, powers, start, height, here, n_basis, outs, n_out, False, DEGREE
            )
            rising *= sign(values)
        else:
            inside = live[:, None] & (outs[None, :] < n_out)
            place = grad + rows[:, None] * n_out + outs[None, :]
            given = tl.load(place, mask=inside, other=0.0).to(kind)
        total += tl.sum(given * rising, 1)
    total = tl.where(points == points, total, points)  # NaN makes its own gradient NaN
    tl.store(result + at, total, mask=live)


@triton.jit
def by_weights(
    x, base, packed, grad, result, norms, pieces, first, jump, count, n_rows, n_in, n_out, n_basis,
    span, SIGNED: tl.constexpr, DEGREE: tl.constexpr, STEPS: tl.constexpr, ROWS: tl.constexpr,
    OUTS: tl.constexpr, TERMS: tl.constexpr,
):  # fmt: skip
    """Write parts (part, in, basis + 1, out) of the gradient to the packed weights.

    A program for some weights of an input, over `span` rows. From the gradient (row, out) of the
    sums; or with SIGNED that of the sums over the rows of the absolute values of the edges, and
    then these sums too: (part, in, out), in float64.
    """
    i, part = tl.program_id(0) % n_in, tl.program_id(0) // n_in
    kind = packed.dtype.element_ty
    outs = tl.program_id(1) * OUTS + tl.arange(0, OUTS)
    terms = tl.program_id(2) * TERMS + tl.arange(0, TERMS)
    here = i.to(tl.int64) * (n_basis + 1) * n_out
    total, norm = tl.zeros((TERMS, OUTS), kind), tl.zeros((OUTS,), tl.float64)
    begin = part.to(tl.int64) * span
    for top in range(0, span, ROWS):
        rows = begin + top + tl.arange(0, ROWS)
        live = rows < n_rows
        inside = live[:, None] & (outs[None, :] < n_out)
        points = tl.load(x + rows * n_in + i, mask=live, other=0.0).to(kind)
        height = tl.load(base + rows * n_in + i, mask=live, other=0.0)
        u, scale, powers, start = locate(points, i, pieces, first, jump, count, DEGREE, STEPS)
        tile, nan = basis_tile(u, powers, start, height, terms, n_basis, DEGREE), float("nan")
        if SIGNED:
            mine = packed + here
            values = edge_values(
                u, scale, powers, start, height, mine, n_basis, outs, n_out, False, DEGREE
            )
            finite = tl.abs(points) < float("inf")
            given = tl.where(inside, sign(values), 0.0)
            values = tl.where(finite[:, None], tl.abs(values), nan)
            norm += tl.sum(tl.where(inside, values, 0.0).to(tl.float64), 0)
        else:
            finite = points == points  # NaN makes all gradients of its input NaN
            place = grad + rows[:, None] * n_out + outs[None, :]
            given = tl.load(place, mask=inside, other=0.0).to(kind)
        tile = tl.where(finite[None, :], tile, nan)
        total = tl.dot(tile, given, total, input_precision="ieee", out_dtype=kind)
    own = tl.program_id(0).to(tl.int64) * n_out
    place = own * (n_basis + 1) + terms[:, None] * n_out + outs[None, :]
    tl.store(result + place, total, mask=(terms[:, None] <= n_basis) & (outs[None, :] < n_out))
    if SIGNED:  # programs for other functions of the basis write the same numbers
        tl.store(norms + own + outs, norm, mask=outs < n_out)
