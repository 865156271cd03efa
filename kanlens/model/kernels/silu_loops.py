"""Vectorized silu and its derivative, with an exp the compiler can vectorize.

torch takes the same time for the numbers themselves, but shares out a large tensor on threads of
its own, which then wait by spinning and hold up those of the kernels; and a call of torch for every
slice that is too short for that costs more than the slice.
"""

from __future__ import annotations

import math

import numpy as np

from kanlens.model.kernels.compiling import in_order
from kanlens.model.kernels.unchecked_indexing import get, put

FAR = 800.0  # beyond it the exponential is zero or infinite
MAGIC = 1.5 * 2.0**52  # a sum with it is rounded to whole numbers, kept in its last bits
LOG2_E = 1 / math.log(2)
LN2_HIGH, LN2_LOW = 0.69314718036912382, 1.9082149292705877e-10  # whole * high is exact
TERMS = tuple(1 / math.factorial(p) for p in range(14))


@in_order
def power_of_two(whole):
    """Return 2**whole for a whole number of type float, from -1022 to 1023."""
    return np.int64(np.float64(whole + (MAGIC + 1023)).view(np.int64) << 52).view(np.float64)


@in_order
def exponential(x):
    """Return exp(x) as 2**n exp(r), with |r| at most half the logarithm of 2."""
    x = -FAR if x < -FAR else (FAR if x > FAR else x)
    whole = (x * LOG2_E + MAGIC) - MAGIC
    r = (x - whole * LN2_HIGH) - whole * LN2_LOW
    result = TERMS[13]
    for p in range(12, -1, -1):
        result = result * r + TERMS[p]
    half = (0.5 * whole + MAGIC) - MAGIC  # 2**n itself may be out of range
    return result * power_of_two(half) * power_of_two(whole - half)


@in_order
def write_silu(x, values, begin, end):
    """Write x * sigmoid(x) for places begin to end of flat arrays."""
    for j in range(begin, end):
        point = np.float64(get(x, j))
        put(values, j, point * (1.0 / (1.0 + exponential(-point))))


@in_order
def write_silu_pair(x, values, slopes, begin, end):
    """Write x * sigmoid(x) and its derivative for places begin to end of flat arrays."""
    for j in range(begin, end):
        point = np.float64(get(x, j))
        power = exponential(-point)
        gate = 1.0 / (1.0 + power)
        rest = power * gate if point > 0.0 else 1.0 - gate  # 1 - gate loses digits near 1
        put(values, j, point * gate)
        put(slopes, j, gate + point * gate * rest)
