"""Multiply-adds and dot products of contiguous rows in explicit SIMD vectors (LLVM IR).

A compiler cannot prove that rows of a matrix do not overlap, and guards its vectors or has none.
The functions below take flat arrays and offsets, in vectors of 64 bytes and a masked one at the
end; shorter registers split them.

`window` is a tuple with a number for each nonzero basis function, so that their count is part of
the type and the loops over it are unrolled. Compiled code is cached by the date of the
file that calls these functions, not of this one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import Context, Signature
from numba.extending import intrinsic

from kanlens.model.kernels._compiling import FASTMATH, inlined

Value: TypeAlias = ir.Value
BYTES, DOUBLE = 64, 8  # of a vector, of a number in double precision
MANY_REGISTERS = "avx512f"  # a processor with it holds the sums of several vectors at a time


@inlined
def empty_line(count, like):
    """Allocate numbers aligned to a cache line, so that no vector crosses two.

    Sums of 64 outputs in float64 took 14 ns, and 19 if not aligned.
    """
    room = np.empty(count + BYTES // like.itemsize, like.dtype)
    skip = (-room.ctypes.data % BYTES) // like.itemsize
    return room[skip : skip + count]


class Emitter:
    """Emitter of LLVM code for loads, stores and products of vectors of one dtype."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: types.Float) -> None:
        self.context, self.builder = context, builder
        self.element = context.get_data_type(kind)
        self.size = kind.bitwidth // 8
        self.alignment = ir.Constant(ir.IntType(32), self.size)
        self.full = BYTES // self.size
        self.widths: tuple[int, ...] = (self.full,)
        self.mask: Value | None = None  # of the vector at the end, while its code is emitted

    def taken(self, kind: types.Type, value: Value) -> Any:
        """Return a pointer to an array's data, the members of a tuple, or the value itself."""
        if isinstance(kind, types.Array):
            return self.context.make_array(kind)(self.context, self.builder, value).data
        if isinstance(kind, types.BaseTuple):
            members = cgutils.unpack_tuple(self.builder, value, len(kind))
            return [self.taken(*pair) for pair in zip(kind, members, strict=True)]
        return value

    def offset(self, at: Value, count: int) -> Value:
        """Return the index `count` after another."""
        return self.builder.add(at, ir.Constant(at.type, count))

    def load(self, base: Value, at: Value, width: int) -> Value:
        """Load `width` numbers from index `at` on; a masked vector has zeros after its end."""
        place = self._place(base, at, width)
        if self.mask is not None and width == self.full:
            kind = ir.VectorType(self.element, width)
            arguments = [place, self.alignment, self.mask, self.zero(width)]
            return self._masked("load", kind, arguments, kind, place.type)
        value = self.builder.load(place)
        value.align = self.size
        return value

    def store(self, value: Value, base: Value, at: Value, width: int) -> None:
        """Store `width` numbers from index `at` on; of a masked vector, those before its end."""
        place = self._place(base, at, width)
        if self.mask is not None and width == self.full:
            arguments = [value, place, self.alignment, self.mask]
            self._masked("store", ir.VoidType(), arguments, value.type, place.type)
        else:
            self.builder.store(value, place).align = self.size

    def _masked(
        self, what: str, result: ir.Type, arguments: list[Value], kind: ir.Type, pointer: ir.Type
    ) -> Value:
        """Call LLVM's masked load or store, which touches no memory beyond the mask."""
        vector = f"v{kind.count}f{8 * self.size}"
        name = f"llvm.masked.{what}.{vector}.p0{vector}"
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, arguments)

    def _place(self, base: Value, at: Value, width: int) -> Value:
        place = self.builder.gep(base, [at])
        if width == 1:
            return place
        return self.builder.bitcast(place, ir.VectorType(self.element, width).as_pointer())

    def splat(self, number: Value, width: int) -> Value:
        """Return a vector that holds one number `width` times."""
        if width == 1:
            return number
        kind, lanes = ir.VectorType(number.type, width), ir.VectorType(ir.IntType(32), width)
        empty = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(lanes, [0] * width))

    def cut(self, vector: Value, count: int) -> Value:
        """Return the first `count` numbers of a vector."""
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(count)))
        return self.builder.shuffle_vector(vector, vector, lanes)

    def zero(self, width: int) -> Value:
        """Return a vector of zeros."""
        if width == 1:
            return ir.Constant(self.element, 0.0)
        return ir.Constant(ir.VectorType(self.element, width), [0.0] * width)

    def product(self, a: Value, b: Value) -> Value:
        """Return a * b."""
        return self.builder.fmul(a, b, flags=FASTMATH)

    def sum(self, a: Value, b: Value) -> Value:
        """Return a + b."""
        return self.builder.fadd(a, b, flags=FASTMATH)

    def lanes(
        self, count: Value, body: Callable[[Value, int], None], *, whole: bool = False
    ) -> None:
        """Run ``body(index, width)`` over `count` numbers, in vectors as long as possible.

        With `whole` they are known to fill vectors, so that none has a mask.
        """
        builder = self.builder
        place = cgutils.alloca_once_value(builder, ir.Constant(count.type, 0))
        for width in self.widths:
            test, inside, end = (builder.append_basic_block("lanes") for _ in range(3))
            builder.branch(test)
            builder.position_at_end(test)
            here = builder.load(place)
            following = builder.add(here, ir.Constant(count.type, width))
            builder.cbranch(builder.icmp_signed("<=", following, count), inside, end)
            builder.position_at_end(inside)
            body(here, width)
            builder.store(following, place)
            builder.branch(test)
            builder.position_at_end(end)
        if whole:
            return
        left = builder.sub(count, builder.load(place))
        with builder.if_then(builder.icmp_signed(">", left, ir.Constant(left.type, 0))):
            self.mask = self.first(left)
            body(builder.load(place), self.full)
            self.mask = None

    def first(self, count: Value) -> Value:
        """Return the mask of the first `count` numbers of a vector."""
        narrow = self.builder.trunc(count, ir.IntType(32))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.full), list(range(self.full)))
        return self.builder.icmp_signed("<", lanes, self.splat(narrow, self.full))


def emitted(body: Callable[..., None]) -> Any:
    """Turn a function that emits LLVM code into one that kernels can call.

    `body` takes an `Emitter` for the dtype of the first array, then the arguments as converted by
    `Emitter.taken`.
    """

    @functools.wraps(body)  # numba reads the names of the arguments from it
    def typed(context: Context, *kinds: types.Type) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, sig: Signature, args: Any) -> Value:
            element = next(kind.dtype for kind in sig.args if isinstance(kind, types.Array))
            emit = Emitter(context, builder, element)
            body(emit, *map(emit.taken, sig.args, args))
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return intrinsic(typed)


@emitted
def add_products(emit, y, at, count, matrix, stride, firsts, bases, numbers, places, window):
    """Add rows of weights of some inputs, each times a basis value, to y[at : at + count].

    For input m, the rows at ``firsts[m] + k * stride`` times ``numbers[places[m] + k]`` for every
    k of the window, and the row at ``bases[m]`` times the number after them.
    """
    builder, rows = emit.builder, []
    for first, base, place in zip(firsts, bases, places, strict=True):
        row = first
        for k in range(len(window)):
            rows.append((row, emit.load(numbers, emit.offset(place, k), 1)))
            row = builder.add(row, stride)
        rows.append((base, emit.load(numbers, emit.offset(place, len(window)), 1)))

    def body(here: Value, width: int) -> None:
        where = builder.add(at, here)
        result = emit.load(y, where, width)
        for row, number in rows:
            values = emit.load(matrix, builder.add(row, here), width)
            result = emit.sum(emit.product(emit.splat(number, width), values), result)
        emit.store(result, y, where, width)

    emit.lanes(count, body)


@emitted
def add_dot_product(emit, sums, place, y, at, count, matrix, rows, numbers, first, window):
    """Add the dot product of y[at : at + count] and rows of a matrix, each times a basis value.

    `rows` are the place of the first row, the distance to the next, the place of the base's row.
    """
    builder, (row, stride, base), none = emit.builder, rows, emit.zero(emit.full)
    ones = _splats(emit, numbers, first, len(window) + 1)
    total = cgutils.alloca_once(builder, none.type)
    builder.store(none, total)

    def body(j: Value, width: int) -> None:
        values = _rows(emit, matrix, stride, builder.add(row, j), len(window))
        values.append(emit.load(matrix, builder.add(base, j), width))
        more = emit.product(_weighted(emit, ones, values), emit.load(y, builder.add(at, j), width))
        builder.store(emit.sum(more, builder.load(total)), total)

    emit.lanes(count, body)
    add_number(emit, builder.load(total), sums, place)


@emitted
def add_rows(emit, matrix, stride, first, base, count, y, order, begin, end, numbers, window):
    """Add the rows of y in order[begin:end], each times a basis value, to rows of a matrix.

    Row ``first + k * stride`` gains ``numbers[r * (window + 1) + k] * y[r * count :]`` for every r;
    the row at `base` likewise with the last number. The sums stay in registers meanwhile and are
    added at the end, which rounds less than one sum over all calls.
    """
    if f"+{MANY_REGISTERS}" in emit.context.codegen().magic_tuple()[2]:  # numba's cache key
        emit.widths = (4 * emit.full, emit.full)
    builder, rows = emit.builder, [first]
    for _ in window[1:]:
        rows.append(builder.add(rows[-1], stride))
    rows.append(base)

    def body(here: Value, width: int) -> None:
        places = [builder.add(row, here) for row in rows]
        sums = [cgutils.alloca_once_value(builder, emit.zero(width)) for _ in places]
        step = ir.Constant(begin.type, 1)
        with cgutils.for_range_slice(builder, begin, end, step, begin.type) as (j, _):
            r = builder.sext(builder.load(builder.gep(order, [j])), j.type)
            values = emit.load(y, builder.add(builder.mul(r, count), here), width)
            at = builder.mul(r, ir.Constant(count.type, len(rows)))
            for k, total in enumerate(sums):
                number = emit.load(numbers, emit.offset(at, k), 1)
                product = emit.product(emit.splat(number, width), values)
                builder.store(emit.sum(product, builder.load(total)), total)
        for total, place in zip(sums, places, strict=True):
            before = emit.load(matrix, place, width)
            emit.store(emit.sum(before, builder.load(total)), matrix, place, width)

    emit.lanes(count, body)


@emitted
def write_polynomials(emit, u, powers, at, values, to, window):
    """Evaluate the polynomials of a piece at u, all at once by Horner's rule.

    ``values[to + k]`` becomes the sum over p of ``powers[at + p * len(window) + k] * u**p``.
    """
    point, (value, *others) = _point_and_rows(emit, u, powers, at, len(window))
    for row in others:
        value = emit.sum(emit.product(value, point), row)
    emit.store(emit.cut(value, len(window)), values, to, len(window))


@emitted
def write_slopes(emit, u, scale, powers, at, values, slopes, to, window):
    """Evaluate the polynomials of a piece at u, and `scale` times their derivatives."""
    live, slope = len(window), None
    point, (value, *others) = _point_and_rows(emit, u, powers, at, live)
    for row in others:
        slope = value if slope is None else emit.sum(emit.product(slope, point), value)
        value = emit.sum(emit.product(value, point), row)
    slope = emit.product(slope, emit.splat(scale, _padded(live)))
    for result, array in ((value, values), (slope, slopes)):
        emit.store(emit.cut(result, live), array, to, live)


@emitted
def add_signed_sums(emit, numbers, length, count, weights, sums, at, stride, base_at, window):
    """Add the sums over points of the basis, times the sign of an edge, to `sums` in float64.

    The edge is the sum of functions times their weights, the base function's last. One pass over
    all functions takes half the time of one for each.
    """
    builder, live, none = emit.builder, len(window), emit.zero(emit.full)
    totals = [cgutils.alloca_once_value(builder, none) for _ in range(live + 1)]
    for total in totals:
        builder.store(none, total)

    def add(sign: Value, rows: list[Value], _: Value) -> None:
        for row, total in zip(rows, totals, strict=True):
            builder.store(emit.sum(emit.product(sign, row), builder.load(total)), total)

    _over_points(emit, numbers, length, count, weights, live, add)
    for total in totals[:-1]:
        add_number(emit, builder.load(total), sums, at, DOUBLE)
        at = builder.add(at, stride)
    add_number(emit, builder.load(totals[-1]), sums, base_at, DOUBLE)


@emitted
def add_signed_slopes(emit, numbers, slopes, length, count, weights, factor, totals, window):
    """Add a factor times the sign and the slope of an edge to `totals` at every point."""
    by = emit.splat(factor, emit.full)
    ones = _splats(emit, weights, ir.Constant(count.type, 0), len(window) + 1)

    def add(sign: Value, _: list[Value], j: Value) -> None:
        slope = _weighted(emit, ones, _rows(emit, slopes, length, j, len(ones)))
        before = emit.load(totals, j, emit.full)
        more = emit.product(emit.product(sign, by), slope)
        emit.store(emit.sum(more, before), totals, j, emit.full)

    _over_points(emit, numbers, length, count, weights, len(window), add)


def _over_points(
    emit: Emitter,
    numbers: Value,
    length: Value,
    count: Value,
    weights: Value,
    live: int,
    body: Callable[[Value, list[Value], Value], None],
) -> None:
    """Run ``body(sign of the edge, functions, index)`` for every vector of points."""
    builder, none = emit.builder, emit.zero(emit.full)
    ones = _splats(emit, weights, ir.Constant(count.type, 0), live + 1)
    plus, minus = (ir.Constant(none.type, [sign] * emit.full) for sign in (1.0, -1.0))
    start, step = (ir.Constant(count.type, number) for number in (0, emit.full))
    with cgutils.for_range_slice(builder, start, count, step, count.type) as (j, _):
        rows = _rows(emit, numbers, length, j, live + 1)
        value = _weighted(emit, ones, rows)
        below = builder.select(builder.fcmp_ordered("<", value, none), minus, none)
        body(builder.select(builder.fcmp_ordered(">", value, none), plus, below), rows, j)


def _splats(emit: Emitter, weights: Value, first: Value, count: int) -> list[Value]:
    numbers = [emit.load(weights, emit.offset(first, k), 1) for k in range(count)]
    return [emit.splat(number, emit.full) for number in numbers]


def _rows(emit: Emitter, numbers: Value, length: Value, j: Value, count: int) -> list[Value]:
    rows = []
    for _ in range(count):
        rows.append(emit.load(numbers, j, emit.full))
        j = emit.builder.add(j, length)
    return rows


def _weighted(emit: Emitter, ones: list[Value], rows: list[Value]) -> Value:
    value = emit.product(ones[0], rows[0])
    for number, row in zip(ones[1:], rows[1:], strict=True):
        value = emit.sum(emit.product(number, row), value)
    return value


def add_number(emit: Emitter, vector: Value, sums: Value, at: Value, size: int = 0) -> None:
    """Add the sum of a vector to a number, which may have more precision."""
    builder, width = emit.builder, vector.type.count
    while width > 1:
        width //= 2
        lanes = ir.VectorType(ir.IntType(32), width)
        halves = (ir.Constant(lanes, list(range(b, b + width))) for b in (0, width))
        vector = emit.sum(*(builder.shuffle_vector(vector, vector, half) for half in halves))
    number = builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
    place = builder.gep(sums, [at])
    if size > emit.size:
        number = builder.fpext(number, ir.DoubleType())
    builder.store(builder.fadd(builder.load(place), number), place)


def _padded(live: int) -> int:
    """Return the next power of two, the length of a register."""
    return 1 << (live - 1).bit_length()


def _point_and_rows(
    emit: Emitter, u: Value, source: Value, at: Value, live: int
) -> tuple[Value, list[Value]]:
    """Return u in every lane, and the coefficient vectors of all powers, the highest first."""
    width = _padded(live)
    rows = [emit.load(source, emit.offset(at, p * live), width) for p in reversed(range(live))]
    return emit.splat(u, width), rows
