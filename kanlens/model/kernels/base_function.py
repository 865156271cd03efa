"""Elementwise base function and its derivative, on this package's threads.

silu has loops of its own, with an exp the compiler can vectorize, for passes to call where they
need it. torch takes the same time for the numbers themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from kanlens.functions.catalog import BASES
from kanlens.model.kernels import pool
from kanlens.model.kernels.compiling import get, in_order, put
from kanlens.resources import one_thread

SLICE = 32_640  # numbers, just below those from which torch shares out work
WORK = 0.4  # nanoseconds of one number of a base function and its slope
FAR = 800.0  # beyond it the exponential is zero or infinite
MAGIC = 1.5 * 2.0**52  # a sum with it is rounded to whole numbers, kept in its last bits
LOG2_E = 1 / math.log(2)
LN2_HIGH, LN2_LOW = 0.69314718036912382, 1.9082149292705877e-10  # whole * high is exact
TERMS = tuple(1 / math.factorial(p) for p in range(14))


def values(base: str, x: Tensor) -> Tensor:
    """Return the base function of x."""
    return _in_slices(lambda part: (BASES[base].value(part),), x, count=1)[0]


def pair(base: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the base function of x and its derivative."""
    value, slope = _in_slices(BASES[base].pair, x, count=2)
    return value, slope


def _in_slices(
    function: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, *, count: int
) -> tuple[Tensor, ...]:
    """Return all results of a function of every number.

    torch would use threads of its own on large tensors, which wait by spinning and hold up those of
    the kernels that follow; slices as short as these most of its operations take in one. In a
    process that was forked its threads are gone, and whoever waits for them hangs.
    """
    if pool.forked() or x.numel() <= SLICE:
        with one_thread() if pool.forked() else nullcontext():
            return tuple(each.contiguous() for each in function(x))
    given = x.contiguous().view(-1)
    results = tuple(torch.empty_like(given) for _ in range(count))
    inference = torch.is_inference_mode_enabled()  # a matter of each thread

    def task(begin: int, end: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():
            for at in range(begin, end, SLICE):
                part = slice(at, min(end, at + SLICE))
                for result, found in zip(results, function(given[part]), strict=True):
                    result[part] = found

    threads, _ = pool.team(WORK * x.numel())
    pool.run(task, pool.split(len(given), threads * pool.CHUNKS, SLICE), threads)
    return tuple(result.view(x.shape) for result in results)


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
