"""Forward and backward kernels of a spline layer, each one call from Python, run by threads.

For few rows, Python's overhead takes as long as the sums. Tensors are passed as addresses, ten
times faster than as arrays; 0 means that there is no tensor, or that the base function is silu.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from kanlens.model.kernels._compiling import get, inlined, inner, jit, put
from kanlens.model.kernels._local_support import (
    LANES,
    add_edges,
    backward_some,
    points_of_rows,
    room_of_rows,
    write_bias,
    write_points,
)
from kanlens.model.kernels._packing import (
    COLUMNS,
    add_curves,
    pack_inputs,
    pays,
    unpack_inputs,
    write_curves,
)
from kanlens.model.kernels._parallel import share_out
from kanlens.model.kernels._pool import CHUNKS
from kanlens.model.kernels._single_row import TOGETHER, find_live, write_each_row, write_outputs
from kanlens.model.kernels._vectors import BYTES, empty_line

FORWARD_BLOCK = 16_384  # outputs of the rows in one loop, which stay in a core's cache
BACKWARD_BLOCK = 65_536  # likewise of the rows of a gradient
DESK = 65_536  # numbers of packed weights, likewise
SPAN, SPANS = 16, 8  # least inputs of a span, most spans, for any number of threads
# rows up to which threads make tables of their own: no core waits for another's
MAX_PRIVATE_TABLE_ROWS = 64
BY_ROWS = 16  # rows for each basis function from which threads take rows of narrow layers
DIRECT = 2  # rows up to which weights are read as they lie
SLICE = 1024  # numbers of x whose base function and piece a thread finds at a time
ODD = 16  # vectors from which strides are odd
ZERO = np.int64(0)  # a plain 0 is a type of its own, for which all is compiled once more


@intrinsic
def pointer(typing: Any, address: Any, like: Any) -> Any:
    """Return an address as a pointer to numbers of an array's dtype."""

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.CPointer(like.dtype)(address, like), generate


@inlined
def numbers_at(address, count, like):
    """Return `count` numbers at an address as an array; none at 0."""
    return carray(pointer(address, like), (count if address else 0,))


@inlined
def layout(n_out, n_basis, like):
    """Return the lanes of a vector, the stride of packed rows, and the size of one input."""
    lanes = BYTES // like.itemsize
    stride = stride_of(n_out, lanes)
    return lanes, stride, (n_basis + 1) * stride


@inlined
def stride_of(n_out, lanes):
    """Return a stride of whole vectors, an odd number of them if many, to avoid cache conflicts.

    Packing 512 -> 512 took 5.9 ns an edge, and 3.5 with one more vector.
    """
    vectors = -(-n_out // lanes)
    return (vectors | 1 if vectors >= ODD else vectors) * lanes


@inlined
def steps(span, multiple, team):
    """Return a span as (begin, end, step); threads take parts of length `step` in turn."""
    begin, end = span[0], span[1]
    parts = CHUNKS * team[0] if team[0] > 1 else 1
    return begin, end, max(1, (end - begin) // (multiple * parts)) * multiple


@inlined
def weights_at(addresses, edges, n_basis, like):
    """Return the spline weights with scale and mask, and the weights of the base."""
    spline = numbers_at(addresses[0], edges * n_basis, like)
    scale, mask = numbers_at(addresses[1], edges, like), numbers_at(addresses[2], edges, like)
    return (spline, scale, mask), numbers_at(addresses[3], edges, like)


@inlined
def find_points(addresses, slopes, basis, sizes, team):
    """Return x, base values, base slopes and pieces; those without an address are computed.

    Base slopes are computed only if `slopes` is 1. With a team of 0 threads all of these are left
    empty, since the threads compute those of their rows.
    """
    (rows, n_in, _, _), (at_x, at_base, at_slope), like = sizes, addresses, basis[0]
    count, silu = rows * n_in, at_base == 0
    base, slope = numbers_at(at_base, count, like), numbers_at(at_slope, count, like)
    room = count if team[0] > 0 else 0
    if silu:
        base, slope = np.empty(room, like.dtype), np.empty(room * slopes, like.dtype)
    points = numbers_at(at_x, count, like), base, slope, np.empty(room, np.int32)
    if room > 0:
        share_out(write_points, (points, silu, basis, n_in), (0, rows, max(1, SLICE // n_in)), team)
    return points


@inlined
def arrays_of(weights, tensors, basis, sizes, team):
    """Return the weights, the points of a forward pass, the bias, and y."""
    (rows, n_in, n_out, n_basis), (at_x, at_base, at_bias, at_y), like = sizes, tensors, basis[0]
    layer = weights_at(weights, n_in * n_out, n_basis, like)
    points = find_points((at_x, at_base, ZERO), 0, basis, sizes, team)
    return *layer, points, numbers_at(at_bias, n_out, like), numbers_at(at_y, rows * n_out, like)


@jit
def forward_single(arguments, span, team):
    """Write y (row, out) for a row or two; threads divide the outputs. The span is unused."""
    weights, tensors, basis, window, sizes = arguments
    (rows, n_in, n_out, n_basis), like = sizes, basis[0]
    splines, base_weight, points, bias, y = arrays_of(weights, tensors, basis, sizes, team)
    live = np.empty(n_in * (len(window) + 1), like.dtype), np.empty(n_in, np.int64)
    for r in range(rows):
        find_live(points, basis, n_in, r, *live, window)
        row = *live, points[1], splines, base_weight, bias, y, (r, n_in, n_basis), window
        share_out(write_outputs, row, steps((0, n_out), len(TOGETHER), team), team)


@jit
def forward_spans(arguments, span, team):
    """Write y (row, out) for few rows; threads divide inputs and outputs.

    Ten rows of 256 -> 256 took 119 us in place of 179 on two threads.
    """
    weights, tensors, basis, window, sizes = arguments
    (rows, n_in, n_out, _), like = sizes, basis[0]
    splines, base_weight, points, bias, y = arrays_of(weights, tensors, basis, sizes, team)
    blocks = -(-n_out // LANES)
    length = -(-n_in // max(1, min(-(-n_in // (2 * SPAN)), SPANS // blocks)))
    parts = -(-n_in // length) * blocks
    sums = np.empty(parts * rows * min(n_out, LANES), like.dtype)
    task = points, splines, base_weight, basis, window, sums, (*sizes, length, blocks)
    share_out(write_spans, task, (0, parts, 1), team)
    add_up(sums, bias, y, blocks)


@jit
def forward(arguments, span, team):
    """Write y (row, out) for a span of rows, which threads divide."""
    weights, tensors, basis, window, sizes = arguments
    (rows, n_in, n_out, _), like = sizes, basis[0]
    splines, base_weight, points, bias, y = arrays_of(weights, tensors, basis, sizes, (0, 0))
    shape = shape_of(sizes, n_in, basis, window)
    table = empty_line(0 if shape[0] and rows <= MAX_PRIVATE_TABLE_ROWS else n_in * shape[-1], like)
    if len(table) > 0:
        making = splines, base_weight, table, basis, shape, window, ZERO
        share_out(write_table, making, steps((0, n_in), 1, team), team)
    block = max(16, min(128, FORWARD_BLOCK // n_out, -(-rows // team[0])))
    task = points, splines, base_weight, table, basis, window, bias, y, shape, block
    share_out(write_rows, task, steps(span, block, team), team)


@inlined
def shape_of(sizes, inputs, basis, window):
    """Return whether weights of `inputs` are converted to polynomials, and the sizes.

    These are (converted, in, out, basis, numbers per row, numbers per input).
    """
    (rows, n_in, n_out, n_basis), like, pieces = sizes, basis[0], len(basis[4])
    lanes, width, whole = layout(n_out, n_basis, like)
    functions = pieces * len(window) + 1
    turned = pays(rows, pieces, width // lanes, inputs * functions * width)
    if turned:
        width = -(-2 * n_out // lanes) * lanes // 2  # half vectors
        whole = functions * width
    return turned, n_in, n_out, n_basis, width, whole


@inner
def write_table(splines, base_weight, table, basis, shape, window, origin, begin, end):
    """Write packed or converted weights of inputs begin to end; `table` starts at `origin`."""
    if shape[0]:
        write_curves(splines, base_weight, table, basis, shape, window, origin, begin, end)
    else:
        sizes, lanes = (shape[1], shape[2], shape[4]), BYTES // table.itemsize
        pack_inputs(splines, base_weight, table, sizes, lanes, origin, begin, end)


@inlined
def add_table(points, table, basis, y, shape, spans, window):
    """Add the contributions of inputs first to last, from a table of weights, to rows of y."""
    if shape[0]:
        add_curves(points, table, basis, y, shape, spans, window)
    else:
        add_edges(points, table, basis, y, shape, spans, window)


@inlined
def add_up(sums, bias, y, blocks):
    """Write y (row, out): the bias plus the sums of all spans of inputs, by blocks of outputs."""
    n_out, room = len(bias), len(y) // len(bias) * min(len(bias), LANES)
    write_bias(y, bias, 0, len(y) // n_out)
    for part in range(len(sums) // max(1, room)):
        first = part % blocks * LANES
        count = min(LANES, n_out - first)
        for r in range(len(y) // n_out):
            to, at = r * n_out + first, part * room + r * count
            for o in range(count):
                put(y, to + o, get(y, to + o) + get(sums, at + o))


@inner
def write_rows(
    points, splines, base_weight, table, basis, window, bias, y, shape, block, begin, end
):
    """Write y (row, out) of rows begin to end."""
    n_in, n_out = shape[1], shape[2]
    if len(table) == 0:
        table = empty_line(n_in * shape[-1], y)
        write_table(splines, base_weight, table, basis, shape, window, ZERO, ZERO, n_in)
    room = room_of_rows(points, block * n_in)
    write_bias(y, bias, begin, end)
    for top in range(begin, end, block):
        bottom = min(end, top + block)
        some = points_of_rows(points, room, basis, n_in, top, bottom)
        mine, spans = y[top * n_out : bottom * n_out], (bottom - top, ZERO, n_in)
        add_table(some, table, basis, mine, shape, spans, window)


@inner
def write_spans(points, splines, base_weight, basis, window, sums, shape, part, _):
    """Write the contribution of a span of inputs to a span of outputs y (row, out)."""
    rows, n_in, n_out, n_basis, length, blocks = shape
    left, first = part // blocks * length, part % blocks * LANES
    span, count = (left, min(n_in, left + length)), min(LANES, n_out - first)
    mine, sizes = sums[part * rows * min(n_out, LANES) :], (rows, n_in, count, n_basis)
    mine[: rows * count] = 0
    start, stop = first * n_in, (first + count) * n_in
    some, bases = of_edges(splines, start, stop, n_basis), base_weight[start:stop]
    add_rows(points, some, bases, basis, mine, sizes, span, window)


@inner
def add_rows(points, splines, base_weight, basis, y, sizes, span, window):
    """Add the contributions of a span of inputs to all rows, a few inputs at a time."""
    (rows, _, _, n_basis), (begin, end) = sizes, span
    shape = shape_of(sizes, end - begin, basis, window)
    group = min(end - begin, max(1, min(COLUMNS // n_basis, DESK // shape[-1])))
    table = empty_line(group * shape[-1], y)
    for left in range(begin, end, group):
        right = min(end, left + group)
        write_table(splines, base_weight, table, basis, shape, window, left, left, right)
        add_table(points, table, basis, y, shape, (rows, left, right), window)


@jit
def backward(arguments, span, team):
    """Write the gradients with nonzero addresses; those of the weights for a span of inputs.

    Threads divide the inputs, or the rows if there are too few inputs.
    """
    weights, tensors, gradients, basis, window, sizes = arguments
    (rows, n_in, n_out, n_basis), (at_x, at_base, at_slope, at_grad) = sizes, tensors
    edges, like = n_in * n_out, basis[0]
    splines, base_weight = weights_at(weights, edges, n_basis, like)
    points = find_points((at_x, at_base, at_slope), 1, basis, sizes, team)
    grad = numbers_at(at_grad, rows * n_out, like)
    (grad_spline, grad_scale, _), grad_base = weights_at(gradients[1:5], edges, n_basis, like)
    wanted = grad_spline, grad_scale, grad_base
    grad_x = numbers_at(gradients[0], rows * n_in, like)
    block = max(64, min(1024, BACKWARD_BLOCK // n_out))
    task = points, splines, base_weight, basis, grad, grad_x, wanted, (*sizes, block), window
    enough = 2 * SPAN if n_out <= LANES and rows >= BY_ROWS * n_basis * team[0] else 2  # inputs
    if n_in >= enough * team[0] or team[0] == 1 or len(grad_base) == 0 or rows == 0:
        multiple = SPAN if rows <= DIRECT or n_in >= 2 * SPAN * team[0] else 1  # lines of grad_x
        share_out(write_inputs, task, steps(span, multiple, team), team)
    else:
        write_by_rows(task, team)
    column_sums(grad, n_out, numbers_at(gradients[5], n_out, like))


@inner
def write_inputs(
    points, splines, base_weight, basis, grad, grad_x, wanted, shape, window, begin, end
):
    """Write the gradients of inputs begin to end: of x, and of their weights.

    Outputs are processed in blocks, so that each row of weights is read in long stretches.
    """
    rows, n_in, n_out, n_basis, block = shape
    if 0 < rows <= DIRECT and len(wanted[2]) > 0:
        sizes = rows, n_in, n_out, n_basis, begin, end
        if write_each_row(points, splines, base_weight, basis, grad, grad_x, wanted, sizes, window):
            return
    if n_out <= LANES:
        task = points, splines, base_weight, basis, grad, grad_x, wanted, (*shape, ZERO), window
        write_some_outputs(*task, begin, end)
        return
    for first in range(0, n_out, LANES):
        count = min(LANES, n_out - first)
        part = empty_line(rows * count, grad)
        for r in range(rows):
            for j in range(count):  # numba compiles a second more for slices
                put(part, r * count + j, get(grad, r * n_out + first + j))
        start, stop = first * n_in, (first + count) * n_in
        mine = of_edges(splines, start, stop, n_basis)
        gradients = of_edges(wanted, start, stop, n_basis)
        sizes = rows, n_in, count, n_basis, block, np.int64(first)
        task = points, mine, base_weight[start:stop], basis, part, grad_x, gradients, sizes, window
        write_some_outputs(*task, begin, end)


@inlined
def of_edges(arrays, start, stop, n_basis):
    """Return a range of edges of three arrays, with `n_basis`, 1 and 1 numbers per edge."""
    first, second, third = arrays
    return first[start * n_basis : stop * n_basis], second[start:stop], third[start:stop]


@inner
def write_some_outputs(
    points, splines, base_weight, basis, grad, grad_x, wanted, shape, window, begin, end
):
    """Write the gradients of inputs begin to end from some outputs; that of x is added to.

    The packed weights of a group of inputs stay in a core's cache.
    """
    (rows, n_in, n_out, n_basis, block, before), want_weights = shape, len(wanted[2]) > 0
    lanes, stride, size = layout(n_out, n_basis, grad)
    group = min(end - begin, max(1, min(COLUMNS, DESK // stride) // n_basis))
    room = group * size
    packed, total = empty_line(room, grad), empty_line(room * want_weights, grad)
    total[: room * (rows == 0)] = 0
    outer, inside = (n_in, n_out, stride), (n_in, n_out, stride, size)
    for left in range(begin, end, group):
        right = min(end, left + group)
        if len(grad_x) > 0:
            pack_inputs(splines, base_weight, packed, outer, lanes, left, left, right)
        spans = ZERO, rows, left, right, block, left, before
        backward_some(points, packed, basis, grad, total, grad_x, inside, spans, window)
        if want_weights:
            unpack_inputs(total, splines, wanted, outer, lanes, left, left, right)


@inner
def write_by_rows(task, team):
    """Write all gradients; each thread sums over a part of the rows."""
    points, splines, base_weight, basis, grad, grad_x, wanted, shape, window = task
    rows, n_in, n_out, n_basis, block = shape
    (lanes, stride, size), like = layout(n_out, n_basis, grad), grad
    part = -(-rows // team[0])
    parts, whole = -(-rows // part), n_in * size
    packed, sums = empty_line(whole, like), empty_line(parts * whole, like)
    outer, inside = (n_in, n_out, stride), (n_in, n_out, stride, size)
    pack_inputs(splines, base_weight, packed, outer, lanes, ZERO, ZERO, n_in)
    of_rows = points, packed, basis, grad, grad_x, sums, inside, block, part, window
    share_out(write_part, of_rows, (0, rows, part), team)
    for j in range(1, parts):
        for k in range(whole):
            put(sums, k, get(sums, k) + get(sums, j * whole + k))
    unpack_inputs(sums, splines, wanted, outer, lanes, ZERO, ZERO, n_in)


@inner
def write_part(points, packed, basis, grad, grad_x, sums, inside, block, part, window, begin, end):
    """Write the gradients over a part of the rows; each part has its gradient of packed weights."""
    n_in, whole = inside[0], inside[0] * inside[3]
    total = sums[begin // part * whole :][:whole]
    spans = begin, end, ZERO, n_in, block, ZERO, ZERO
    backward_some(points, packed, basis, grad, total, grad_x, inside, spans, window)


@inner
def column_sums(rows, n_columns, sums):
    """Write the column sums of a matrix, added up in float64, unless `sums` is empty."""
    totals = np.zeros(len(sums))
    for at in range(0, len(rows) if len(sums) > 0 else 0, n_columns):
        for j in range(n_columns):
            totals[j] += get(rows, at + j)
    for j in range(len(sums)):
        sums[j] = totals[j]
