"""The base function silu, in explicit vectors.

torch takes the same time for the numbers themselves, but shares out a large tensor on threads of
its own, which then wait by spinning and hold up those of the kernels; and a call of torch for every
slice that is too short for that costs more than the slice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kanlens.core.kernels.compiling import in_order
from kanlens.core.kernels.vectors import Emitter, Value

WORDS = {4: (32, 23, 127, 7), 8: (64, 52, 1023, 13)}  # bits, of the mantissa, bias, terms
FAR = {4: 150.0, 8: 800.0}  # beyond it the exponential is zero or infinite
LN2 = {  # its first bits, so few that a product with a whole number is exact, and the others
    4: (0.693359375, -2.121944400546906e-4),
    8: (0.69314718036912382, 1.9082149292705877e-10),
}


@in_order
def write_silu(x, values, begin, end):
    """Write x * sigmoid(x) for places begin to end of flat arrays."""
    put_silu(x, begin, end - begin, values)


@in_order
def write_silu_pair(x, values, slopes, begin, end):
    """Write x * sigmoid(x) and its derivative for places begin to end of flat arrays."""
    put_silu_pair(x, begin, end - begin, values, slopes)


@intrinsic
def put_silu(typing, x, at, count, values):
    """Set values[at : at + count] to the function of x there."""
    signature = types.void(x, at, count, values)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Value]) -> Value:
        emit = _Exponential(context, builder, sig.args[0])
        source, target = emit.data(sig.args[0], args[0]), emit.data(sig.args[3], args[3])

        def body(here: Value, width: int) -> None:
            place = builder.add(args[1], here)
            points = emit.load(source, place, width)
            value = builder.fmul(points, emit.gates(points, width)[0])
            emit.store(value, target, place, width)

        emit.lanes(args[2], body)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def put_silu_pair(typing, x, at, count, values, slopes):
    """Set values and slopes from `at` on to the function of x there and its derivative."""
    signature = types.void(x, at, count, values, slopes)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[Value]) -> Value:
        emit = _Exponential(context, builder, sig.args[0])
        source, *targets = (emit.data(sig.args[j], args[j]) for j in (0, 3, 4))

        def body(here: Value, width: int) -> None:
            place = builder.add(args[1], here)
            points = emit.load(source, place, width)
            gate, rest = emit.gates(points, width)
            value = builder.fmul(points, gate)
            slope = builder.fadd(gate, builder.fmul(value, rest))
            for result, target in zip((value, slope), targets, strict=True):
                emit.store(result, target, place, width)

        emit.lanes(args[2], body)
        return context.get_dummy_value()

    return signature, generate


class _Exponential(Emitter):
    """Emits the logistic function; nothing in it may be reordered."""

    def every(self, number: float, width: int) -> Value:
        """Return a vector that holds a constant in every lane."""
        return ir.Constant(ir.VectorType(self.element, width), [number] * width)

    def gates(self, points: Value, width: int) -> tuple[Value, Value]:
        """Return sigmoid(x), and sigmoid(-x) without the rounding errors of 1 - sigmoid(x)."""
        builder, one = self.builder, self.every(1.0, width)
        power = self.exponential(builder.fneg(points), width)
        gate = builder.fdiv(one, builder.fadd(one, power))
        right = builder.fcmp_ordered(">", points, self.every(0.0, width))
        rest = builder.select(right, builder.fmul(power, gate), builder.fsub(one, gate))
        return gate, rest

    def exponential(self, points: Value, width: int) -> Value:
        """Return exp(x) as 2**n exp(r), with |r| at most half the logarithm of 2."""
        builder, (bits, mantissa, _, terms) = self.builder, WORDS[self.size]
        x = self._between(points, -FAR[self.size], FAR[self.size], width)
        magic = self.every(1.5 * 2.0**mantissa, width)  # a sum with it is rounded to whole numbers
        shifted = builder.fadd(builder.fmul(x, self.every(1 / math.log(2), width)), magic)
        whole = builder.fsub(shifted, magic)
        r = x
        for part in LN2[self.size]:
            r = builder.fsub(r, builder.fmul(whole, self.every(part, width)))
        result = self.every(1 / math.factorial(terms), width)
        for p in reversed(range(terms)):
            term = self.every(1 / math.factorial(p), width)
            result = builder.fadd(builder.fmul(result, r, flags=("contract",)), term)
        kind = ir.VectorType(ir.IntType(bits), width)
        n = builder.sub(builder.bitcast(shifted, kind), builder.bitcast(magic, kind))
        half = builder.ashr(n, ir.Constant(kind, [1] * width))
        for part in (half, builder.sub(n, half)):  # 2**n itself may be out of range
            result = builder.fmul(result, self._power_of_two(part, width))
        return result

    def _power_of_two(self, n: Value, width: int) -> Value:
        bits, mantissa, bias, _ = WORDS[self.size]
        kind = ir.VectorType(ir.IntType(bits), width)
        exponent = self.builder.add(n, ir.Constant(kind, [bias] * width))
        word = self.builder.shl(exponent, ir.Constant(kind, [mantissa] * width))
        return self.builder.bitcast(word, ir.VectorType(self.element, width))

    def _between(self, points: Value, low: float, high: float, width: int) -> Value:
        """Return points moved into an interval; NaN remains."""
        for test, end in (("<", low), (">", high)):
            bound = self.every(end, width)
            beyond = self.builder.fcmp_ordered(test, points, bound)
            points = self.builder.select(beyond, bound, points)
        return points
