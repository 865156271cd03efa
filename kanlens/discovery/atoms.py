"""Functions of one column without free numbers, of which short sums are tried."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import sympy

from kanlens.discovery.curves import U
from kanlens.discovery.regression import Array
from kanlens.symbolic.composition import Expr, evaluator

_LARGEST = 1e12


@lru_cache(maxsize=1)
def atoms() -> tuple[Expr, ...]:
    """Return the functions, of the symbol `U`.

    Examples
    --------
    >>> sympy.sin(U) in atoms()
    True
    """
    waves = (sympy.sin, sympy.cos)
    found = [U**k for k in range(1, 7)]
    found += [1 / U, 1 / U**2, sympy.sqrt(U), U ** sympy.Rational(3, 2), abs(U)]
    for wave in waves:
        found += [wave(k * U) for k in (1, 2, 3)] + [wave(sympy.pi * U), wave(2 * sympy.pi * U)]
        found += [U**k * wave(U) for k in (1, 2, 3)] + [wave(U**2), wave(U) / U]
        found += [wave(U) * sympy.exp(s * U) for s in (1, -1)]
        found += [wave(U**j) * other(U**k) for other in waves for j in (2, 3) for k in range(1, j)]
        found += [wave(U) * other(U) for other in waves] + [wave(U + U**2), wave(U) ** 3]
    for s in (1, -1):
        found += [U**k * sympy.exp(s * U) for k in (0, 1, 2)]
    found += [sympy.exp(-(U**2)), U * sympy.exp(-(U**2)), sympy.exp(U**2)]
    found += [sympy.log(U), sympy.log(U + 1), sympy.log(U**2 + 1), U * sympy.log(U)]
    found += [sympy.tanh(U), sympy.atan(U), sympy.tan(U), 1 / (1 + U), 1 / (1 + U**2)]
    found += [sympy.sqrt(1 + U**2), U**2 * sympy.log(U), sympy.sinh(U), sympy.cosh(U)]
    found += [sympy.asinh(U), sympy.acosh(U), sympy.exp(U) / (1 + sympy.exp(U))]
    return tuple(dict.fromkeys(found))


def atoms_on(x: Array) -> tuple[list[Expr], Array]:
    """Return the functions that are finite on a column, and their values, (row, function)."""
    every = atoms()
    matrix = _evaluate()(x[:, None])
    with np.errstate(all="ignore"):
        good = np.isfinite(matrix).all(axis=0) & (np.abs(matrix).max(axis=0) < _LARGEST)
    return [atom for atom, ok in zip(every, good, strict=True) if ok], matrix[:, good]


@lru_cache(maxsize=1)
def _evaluate() -> Callable[..., Array]:
    return evaluator(atoms(), (U,))
