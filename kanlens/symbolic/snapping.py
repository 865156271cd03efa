"""Exact constants that a fitted number may stand for, with their length in bits.

Lengths are those of AI Feynman [1]_: the logarithm to base 2 of 1 + abs(n) for an integer n and of
(1 + abs(p)) q for p/q; multiples of pi get the length of their factor and 3 bits. Rarer constants
are dearer, so that only data without noise speak for them.

References
----------
.. [1] S.-M. Udrescu, M. Tegmark, AI Feynman: a physics-inspired method for symbolic regression,
   Science Advances 6, 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy

_DENOMINATORS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 100)
_LARGEST = 100.0
_PI_MULTIPLES = tuple((k, q) for q in (1, 2, 3, 4, 5, 6) for k in (1, 2, 3, 4, 5, 6, 8))
_OTHERS = (
    (sympy.sqrt(2), 7.0),
    (sympy.sqrt(3), 7.6),
    (sympy.sqrt(2) / 2, 8.0),
    (sympy.E, 7.0),
    (sympy.log(2), 7.0),
    (1 / sympy.pi, 7.0),
    (1 / (2 * sympy.pi), 8.0),
    (1 / (4 * sympy.pi), 9.0),
    (sympy.sqrt(sympy.pi), 8.0),
    (1 / sympy.sqrt(2 * sympy.pi), 9.0),
    (sympy.pi**2, 8.0),
)


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
    found = {c.exact: c for c in _special() if abs(c.value - value) <= window}
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
def _special() -> tuple[Constant, ...]:
    """Return the constants that are no rationals, of both signs."""
    multiples: dict[Any, float] = {}
    for k, q in _PI_MULTIPLES:
        exact = sympy.Rational(k, q) * sympy.pi
        multiples.setdefault(exact, 3.0 + math.log2((1 + k) * q))
    pairs = [*multiples.items(), *_OTHERS]
    return tuple(
        Constant(sign * exact, float(sign * exact), bits)
        for exact, bits in pairs
        for sign in (1, -1)
    )
