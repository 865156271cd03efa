"""Vectors over the outputs of a layer: the parts of an edge norm that all edges of an input share.

All numbers are float64. `window` is as in `kanlens.core.kernels.vectors`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kanlens.core.kernels.vectors import Emitter, Value

NEWTON = 5  # steps towards a root; what is found is verified afterwards


class _Shapes(Emitter):
    """Adds what signs and certificates need, in full vectors only.

    Counts are multiples of a vector's length; what is beyond the last output is zero.
    """

    def __init__(self, context: Any, builder: ir.IRBuilder, array: Any) -> None:
        super().__init__(context, builder, array)
        self.tail = False

    def number(self, value: float, width: int) -> Value:
        """Return a vector that holds one constant."""
        return self.splat(ir.Constant(self.element, value), width)

    def above(self, a: Value, b: Value) -> Value:
        """Test a > b; NaN is above nothing."""
        return self.builder.fcmp_ordered(">", a, b)

    def select(self, test: Value, a: Value, b: Value) -> Value:
        """Return a where the test holds, else b."""
        return self.builder.select(test, a, b)

    def magnitude(self, a: Value, width: int) -> Value:
        """Return the absolute value."""
        return self.select(
            self.above(a, self.zero(width)), a, self.builder.fsub(self.zero(width), a)
        )

    def sign(self, value: Value, width: int) -> Value:
        """Return 1, -1, or 0 for zero and NaN."""
        zero, minus = self.zero(width), self.number(-1.0, width)
        negative = self.select(self.above(zero, value), minus, zero)
        return self.select(self.above(value, zero), self.number(1.0, width), negative)

    def horner(self, terms: Sequence[Value], t: Value, width: int) -> tuple[Value, Value]:
        """Return a polynomial and its slope at t."""
        value, slope = terms[-1], self.zero(width)
        for term in terms[-2::-1]:
            slope = self.sum(self.product(slope, t), value)
            value = self.sum(self.product(value, t), term)
        return value, slope

    def store_rows(
        self, rows: Sequence[Value], base: Value, at: Value, stride: Value, width: int
    ) -> None:
        """Store vectors, each `stride` numbers after the one before."""
        for row in rows:
            self.store(row, base, at, width)
            at = self.next(at, stride)

    def next(self, at: Value, step: int | Value) -> Value:
        """Return a place some numbers further on."""
        return self.builder.add(at, ir.Constant(at.type, step) if isinstance(step, int) else step)

    def combined(self, rows: Sequence[Value], data: Value, at: Value, width: int) -> Value:
        """Return the sum of rows, each times its number from place `at` on."""
        result = self.zero(width)
        for k, row in enumerate(rows):
            number = self.splat(self.load(data, self.next(at, k), 1), width)
            result = self.sum(self.product(row, number), result)
        return result


def _alive(
    emit: _Shapes, data: Value, places: Sequence[Value], here: Value, width: int
) -> list[Value]:
    """Load the live rows of an input at one place of the outputs."""
    return [emit.load(data, emit.next(place, here), width) for place in places]


def _places(emit: _Shapes, first: Value, stride: Value, base: Value, live: int) -> list[Value]:
    places = [first]
    for _ in range(live - 1):
        places.append(emit.next(places[-1], stride))
    return [*places, base]


@intrinsic
def write_hulls(
    typing, room, hulls, shapes, margins, codes, stride, count, first, base, matrix, window
):
    """Write the control points of every edge on a run, its margin and what they tell of its sign.

    All arguments but the array and the counts are places in it. `matrix` holds one row of live
    numbers per control point and one more for the margin, which is that of the absolute weights.
    The code is 1 or -1 where all control points are beyond the margin, 3 or -3 where they begin
    there and go to the other side once and for all, 0 where everything is zero, else 2. `shapes`
    becomes the coefficients of the polynomial, one row per power, negated where the first
    control point is negative.
    """
    signature = types.void(
        room, hulls, shapes, margins, codes, stride, count, first, base, matrix, window
    )

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Value]) -> Value:
        emit = _Shapes(context, builder, sig.args[0])
        live = len(sig.args[10])
        room = emit.data(sig.args[0], args[0])
        hulls, shapes, margins, codes, stride, count, first, base, matrix = args[1:10]
        places = _places(emit, first, stride, base, live)

        def body(here: Value, width: int) -> None:
            rows = _alive(emit, room, places, here, width)
            at, values = matrix, []
            for _ in range(max(live, 4)):
                values.append(emit.combined(rows, room, at, width))
                at = emit.next(at, live + 1)
            margin = emit.combined([emit.magnitude(row, width) for row in rows], room, at, width)
            emit.store(margin, room, emit.next(margins, here), width)
            code = _code(emit, values, margin, width)
            emit.store(code, room, emit.next(codes, here), width)
            emit.store_rows(values, room, emit.next(hulls, here), stride, width)
            below = emit.above(emit.zero(width), values[0])
            side = emit.select(below, emit.number(-1.0, width), emit.number(1.0, width))
            falling = [emit.product(value, side) for value in values]
            found = _powers(emit, falling, width)
            emit.store_rows(found, room, emit.next(shapes, here), stride, width)

        emit.lanes(count, body)
        return context.get_dummy_value()

    return signature, generate


def _code(emit: _Shapes, values: Sequence[Value], margin: Value, width: int) -> Value:
    """Return what the control points of an edge tell of its sign."""
    builder, zero = emit.builder, emit.zero(width)
    opposite = builder.fsub(zero, margin)
    above = [emit.above(value, margin) for value in values]
    below = [emit.above(opposite, value) for value in values]

    def every(tests: Sequence[Value]) -> Value:
        return functools.reduce(builder.and_, tests)

    def once(over: Sequence[Value], under: Sequence[Value]) -> Value:
        steps = [over[0], under[-1]]
        for j in range(1, len(over)):  # back up nowhere, and down for good
            steps.append(builder.or_(over[j - 1], builder.not_(over[j])))
            steps.append(builder.or_(under[j], builder.not_(under[j - 1])))
        return every(steps)

    nothing = builder.fcmp_ordered("==", margin, zero)
    code = emit.select(nothing, zero, emit.number(2.0, width))
    for test, value in (
        (once(above, below), 3.0),
        (once(below, above), -3.0),
        (every(above), 1.0),
        (every(below), -1.0),
    ):
        code = emit.select(test, emit.number(value, width), code)
    return code


def _powers(emit: _Shapes, values: list[Value], width: int) -> list[Value]:
    """Return the coefficients of the polynomial that has these control points."""
    degree, found = len(values) - 1, []
    for p in range(degree + 1):
        found.append(emit.product(values[0], emit.number(float(math.comb(degree, p)), width)))
        values = [emit.builder.fsub(b, a) for a, b in itertools.pairwise(values)]
    return found


@intrinsic
def find_roots(typing, room, columns, stride, count, roots, window):
    """Write where polynomials that are positive at 0 and negative at 1 change their sign.

    `columns` is the place of their coefficients, one row per power; `roots` that of the result.
    """
    signature = types.void(room, columns, stride, count, roots, window)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Value]) -> Value:
        emit = _Shapes(context, builder, sig.args[0])
        powers, room = max(len(sig.args[5]), 4), emit.data(sig.args[0], args[0])

        def body(here: Value, width: int) -> None:
            place, terms = emit.next(args[1], here), []
            for _ in range(powers):
                terms.append(emit.load(room, place, width))
                place = emit.next(place, args[2])
            low, high = emit.zero(width), emit.number(1.0, width)
            end = functools.reduce(emit.sum, terms)
            t = builder.fdiv(terms[0], builder.fsub(terms[0], end))
            for _ in range(NEWTON):
                value, slope = emit.horner(terms, t, width)
                right = emit.above(value, emit.zero(width))
                low, high = emit.select(right, t, low), emit.select(right, high, t)
                step = builder.fsub(t, builder.fdiv(value, slope))
                middle = emit.product(emit.sum(low, high), emit.number(0.5, width))
                after = builder.fcmp_ordered(">=", step, low)
                inside = builder.and_(after, builder.fcmp_ordered(">=", high, step))
                t = emit.select(inside, step, middle)
            emit.store(t, room, emit.next(args[4], here), width)

        emit.lanes(args[3], body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def add_signed(typing, room, sums, stride, count, first, base, numbers, counts, points, window):
    """Add sign(phi) times the live numbers of some points to the sums of every edge.

    Point j has the live numbers at ``numbers + j * (window + 1)`` and counts ``counts + j`` times.
    `first` and `base` are places of weights counted from the same place as those of the sums: the
    weights begin at 0, the sums at `sums`.
    """
    signature = types.void(room, sums, stride, count, first, base, numbers, counts, points, window)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Value]) -> Value:
        emit = _Shapes(context, builder, sig.args[0])
        live, room = len(sig.args[9]), emit.data(sig.args[0], args[0])
        sums, stride, count, first, base, numbers, counts, points = args[1:9]
        places = _places(emit, first, stride, base, live)
        wanted = [emit.next(place, sums) for place in places]

        def body(here: Value, width: int) -> None:
            rows = _alive(emit, room, places, here, width)
            totals = [
                cgutils.alloca_once_value(builder, row)
                for row in _alive(emit, room, wanted, here, width)
            ]
            with cgutils.for_range(builder, points, intp=points.type) as loop:
                at = builder.mul(loop.index, ir.Constant(loop.index.type, live + 1))
                at = emit.next(numbers, at)
                sign = emit.sign(emit.combined(rows, room, at, width), width)
                weight = emit.load(room, emit.next(counts, loop.index), 1)
                signed = emit.product(sign, emit.splat(weight, width))
                for k, total in enumerate(totals):
                    number = emit.splat(emit.load(room, emit.next(at, k), 1), width)
                    product = emit.product(signed, number)
                    builder.store(emit.sum(product, builder.load(total)), total)
            for total, place in zip(totals, wanted, strict=True):
                emit.store(builder.load(total), room, emit.next(place, here), width)

        emit.lanes(count, body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def signed_slope(typing, room, grad, stride, count, first, base, numbers, slopes, window):
    """Return the sum over edges of grad * sign(phi) * phi' at one point."""
    signature = room.dtype(room, grad, stride, count, first, base, numbers, slopes, window)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Value]) -> Value:
        emit = _Shapes(context, builder, sig.args[0])
        room = emit.data(sig.args[0], args[0])
        grad, stride, count, first, base, numbers, slopes = args[1:8]
        places = _places(emit, first, stride, base, len(sig.args[8]))

        def term(here: Value, width: int) -> Value:
            rows = _alive(emit, room, places, here, width)
            sign = emit.sign(emit.combined(rows, room, numbers, width), width)
            slope = emit.combined(rows, room, slopes, width)
            weight = emit.load(room, emit.next(grad, here), width)
            return emit.product(emit.product(sign, slope), weight)

        return emit.summed(count, term)

    return signature, generate


@intrinsic
def run_up(typing, room, numbers, counts, count, window):
    """Turn values alive at points into sums over the rows of all points before, and of all."""
    signature = types.void(room, numbers, counts, count, window)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Value]) -> Value:
        emit = _Shapes(context, builder, sig.args[0])
        width, room = len(sig.args[4]) + 1, emit.data(sig.args[0], args[0])
        totals = [cgutils.alloca_once_value(builder, emit.zero(1)) for _ in range(width)]

        def row(index: Value) -> list[Value]:
            at = emit.next(args[1], builder.mul(index, ir.Constant(index.type, width)))
            return [emit.next(at, k) for k in range(width)]

        with cgutils.for_range(builder, args[3], intp=args[3].type) as loop:
            weight = emit.load(room, emit.next(args[2], loop.index), 1)
            for place, total in zip(row(loop.index), totals, strict=True):
                so_far = builder.load(total)
                value = emit.product(emit.load(room, place, 1), weight)
                emit.store(so_far, room, place, 1)
                builder.store(emit.sum(value, so_far), total)
        for place, total in zip(row(args[3]), totals, strict=True):
            emit.store(builder.load(total), room, place, 1)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def next_turn(typing, room, shape, stride, t, missed, begin, end, weight, noise, sign, window):
    """Return the first point from `begin` on where an edge does not have this sign, 1 or -1.

    Its value there is that of the polynomial whose column is at `shape`, plus `weight` times what
    is missed; what is not beyond `noise` has no sign. Numbers are read up to a vector beyond.
    """
    signature = begin(room, shape, stride, t, missed, begin, end, weight, noise, sign, window)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Value]) -> Value:
        emit = _Shapes(context, builder, sig.args[0])
        room, width = emit.data(sig.args[0], args[0]), emit.full
        place, stride, t, missed, begin, end, weight, noise, side = args[1:10]
        terms, bits = [], ir.IntType(width)
        for _ in range(max(len(sig.args[10]), 4)):
            terms.append(emit.splat(emit.product(emit.load(room, place, 1), side), width))
            place = emit.next(place, stride)
        weights, noise = emit.splat(emit.product(weight, side), width), emit.splat(noise, width)
        here = cgutils.alloca_once_value(builder, begin)
        others = cgutils.alloca_once_value(builder, ir.Constant(bits, 0))
        with _while(builder) as go_on:
            at = builder.load(here)
            go_on(builder.icmp_signed("<", at, end))
            value, _ = emit.horner(terms, emit.load(room, emit.next(t, at), width), width)
            more = emit.product(weights, emit.load(room, emit.next(missed, at), width))
            same = emit.above(emit.sum(value, more), noise)
            other = builder.not_(builder.bitcast(same, bits))
            builder.store(other, others)
            go_on(builder.icmp_unsigned("==", other, ir.Constant(bits, 0)))
            builder.store(emit.next(at, width), here)
        first = builder.cttz(builder.load(others), ir.Constant(ir.IntType(1), 0))
        at = builder.add(builder.load(here), builder.zext(first, end.type))
        return builder.select(builder.icmp_signed("<", at, end), at, end)

    return signature, generate


@contextlib.contextmanager
def _while(builder: ir.IRBuilder) -> Iterator[Callable[[Value], None]]:
    """Emit a loop around the block; what is yielded leaves it unless a test holds."""
    again, end = (builder.append_basic_block("turn") for _ in range(2))
    builder.branch(again)
    builder.position_at_end(again)

    def go_on(test: Value) -> None:
        following = builder.append_basic_block("turn")
        builder.cbranch(test, following, end)
        builder.position_at_end(following)

    yield go_on
    builder.branch(again)
    builder.position_at_end(end)
