"""Elementwise base function and its derivative.

silu has loops of its own, with an exp that the compiler can vectorize.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from torch import Tensor

from kanlens.functions._catalog import BASES
from kanlens.model.kernels import _pool as pool
from kanlens.model.kernels._compiling import get, in_order, put


def values(base: str, x: Tensor) -> Tensor:
    """Return the base function of x."""
    with pool.safe():
        return BASES[base].value(x).contiguous()


def pair(base: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the base function of x and its derivative."""
    with pool.safe():
        value, slope = BASES[base].pair(x)
        return value.contiguous(), slope.contiguous()


def exponential(x):
    """Return exp(x) as 2**n exp(r), with |r| at most half the logarithm of 2."""
    raise NotImplementedError


@overload(exponential, jit_options={"fastmath": {"contract"}})
def _exponential(x):
    single = x == types.float32
    kind: Any = np.float32 if single else np.float64
    bits: Any = np.int32 if single else np.int64
    digits, bias = (23, 127) if single else (52, 1023)
    far = kind(120 if single else 800)  # beyond it the exponential is zero or infinite
    magic = kind(1.5 * 2.0**digits)  # a sum with it is rounded to whole numbers, kept in its bits
    high = kind(355 / 512 if single else 0.69314718036912382)  # a whole number times it is exact
    low = kind(math.log(2) - 355 / 512 if single else 1.9082149292705877e-10)
    log2_e, half, power = kind(1 / math.log(2)), kind(0.5), kind(magic + bias)
    last, *terms = (kind(1 / math.factorial(p)) for p in reversed(range(8 if single else 14)))
    others = tuple(terms)

    def exponential_of(x):
        x = -far if x < -far else (far if x > far else x)
        whole = (x * log2_e + magic) - magic
        r = (x - whole * high) - whole * low
        result = last
        for p in range(len(others)):
            result = result * r + others[p]
        part = (half * whole + magic) - magic  # 2**whole itself may be out of range
        for n in (part, whole - part):
            result *= bits(kind(n + power).view(bits) << digits).view(kind)
        return result

    return exponential_of


@in_order
def write_silu(x, values, begin, end):
    """Write x * sigmoid(x) for indices begin to end of flat arrays."""
    for j in range(begin, end):
        point, unit = get(x, j), x.dtype.type(1)
        put(values, j, point * (unit / (unit + exponential(-point))))


@in_order
def write_silu_pair(x, values, slopes, begin, end):
    """Write x * sigmoid(x) and its derivative for indices begin to end of flat arrays."""
    for j in range(begin, end):
        point, unit = get(x, j), x.dtype.type(1)
        power = exponential(-point)
        gate = unit / (unit + power)
        rest = power * gate if point > 0 else unit - gate  # 1 - gate loses digits near 1
        put(values, j, point * gate)
        put(slopes, j, gate + point * gate * rest)
