"""Exact constants that a fitted number may stand for, with their length in bits.

Lengths are those of AI Feynman [1]_: the logarithm to base 2 of 1 + abs(n) for an integer n and of
(1 + abs(p)) q for p/q. A multiple of another constant has the length of its factor and some bits
for the constant: 3 for pi, 6 for 1/pi, e, ln 2 and the root of 2, more for the rarer ones, so that
only data without noise speak for them.

References
----------
.. [1] S.-M. Udrescu, M. Tegmark, AI Feynman: a physics-inspired method for symbolic regression,
   Science Advances 6, 2020.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import sympy

_DENOMINATORS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 100)
_LARGEST = 100.0
_COUNTS = (1, 2, 3, 4, 5, 6, 8)  # numerators of the multiples of other constants
_PARTS = (1, 2, 3, 4, 6, 8)  # and their denominators
_PI = ((1, 2, 3, 4, 5, 6, 8, 16), (1, 2, 3, 4, 5, 6, 8))
_FEW = ((1, 2, 4), (1, 2, 4, 8))
_ROOTS = (2, 3, 5, 6, 7, 10)
_KINDS: tuple[tuple[Any, float, tuple[tuple[int, ...], tuple[int, ...]]], ...] = (
    (sympy.pi, 3.0, _PI),
    *((sympy.sqrt(n), 5.0 + math.log2(n), (_COUNTS, _PARTS)) for n in _ROOTS),
    (sympy.E, 6.0, (_COUNTS, _PARTS)),
    (sympy.log(2), 6.0, (_COUNTS, _PARTS)),
    (1 / sympy.pi, 6.0, (_COUNTS, _PARTS)),
    (sympy.pi**2, 7.0, (_COUNTS, _PARTS)),
    (1 / sympy.pi**2, 10.0, _FEW),
    (sympy.sqrt(sympy.pi), 7.0, _FEW),
    (1 / sympy.sqrt(sympy.pi), 7.0, _FEW),
    (1 / sympy.sqrt(2 * sympy.pi), 8.0, _FEW),
)  # constants, the bits of their kind, and numerators and denominators of their multiples


@dataclass(frozen=True)
class Constant:
    """An exact number.

    Attributes
    ----------
    exact : sympy.Expr
    value : float
    bits : float
        Description length.
    """

    exact: Any
    value: float
    bits: float


def candidates(value: float, window: float) -> list[Constant]:
    """Return the constants within a window around a value, shortest first.

    Parameters
    ----------
    value : float
    window : float
        Largest distance.

    Returns
    -------
    list of Constant

    Examples
    --------
    >>> [str(constant.exact) for constant in candidates(3.1416, 0.001)]
    ['pi']
    """
    if not math.isfinite(value):
        return []
    values, constants = _special()
    first, last = bisect_left(values, value - window), bisect_right(values, value + window)
    near = [c for c in constants[first:last] if abs(c.value - value) <= window]
    found = {c.exact: c for c in near}
    if abs(value) <= _LARGEST:
        for q in _DENOMINATORS:
            p = round(value * q)
            if abs(p / q - value) <= window:
                constant = rational(p, q)
                found.setdefault(constant.exact, constant)
    return sorted(found.values(), key=lambda c: (c.bits, abs(c.value - value)))


def rational(p: int, q: int) -> Constant:
    """Return p/q in lowest terms.

    Examples
    --------
    >>> rational(2, 4).exact
    1/2
    """
    exact = sympy.Rational(p, q)
    bits = math.log2((1 + abs(int(exact.p))) * int(exact.q))
    return Constant(exact, float(exact), bits)


def real_bits(value: float, error: float) -> float:
    """Return the length of a real number known to an error.

    Examples
    --------
    >>> real_bits(0.0, 0.1)
    0.0
    """
    return 0.5 * math.log2(1 + (value / max(error, 1e-300)) ** 2)


@lru_cache(maxsize=1)
def _special() -> tuple[list[float], list[Constant]]:
    """Return the constants that are no rationals, of both signs, in order, and their values."""
    lengths: dict[Any, float] = {}
    for kind, bits, (counts, parts) in _KINDS:
        for k, q in product(counts, parts):
            if math.gcd(k, q) == 1:
                exact = sympy.Rational(k, q) * kind
                length = bits + math.log2((1 + k) * q)
                lengths[exact] = min(length, lengths.get(exact, math.inf))
    found = [
        Constant(sign * exact, sign * float(exact), bits)
        for exact, bits in lengths.items()
        for sign in (1, -1)
    ]
    found.sort(key=lambda constant: constant.value)
    return [constant.value for constant in found], found
