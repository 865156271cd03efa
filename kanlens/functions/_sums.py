"""Sums of elementary functions ``weight_k * g_k(a_k * u + b_k)``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kanlens.functions._catalog import find_function
from kanlens.functions._elementary import Array, ElementaryFunction, sign_changes

if TYPE_CHECKING:
    from sympy import Expr

_SCAN_POINTS = 32  # points of a scan on the length over which the steepest term changes
_POINTS = 1024, 2**18  # fewest and most of a scan
_NONE: Array = np.empty(0)
_SCALES = sorted(sign * 4.0**k for sign in (-1, 1) for k in range(-2, 500))
_QUADRATURE: dict[str, Any] = {"epsabs": 1e-14, "epsrel": 1e-12, "limit": 200, "full_output": 1}


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionSum:
    """Sum of terms ``weights[k] * functions[k](a[k] * u + b[k])``."""

    functions: tuple[ElementaryFunction, ...] = ()
    a: Array = field(default_factory=lambda: _NONE)
    b: Array = field(default_factory=lambda: _NONE)
    weights: Array = field(default_factory=lambda: _NONE)

    @classmethod
    def of(cls, *terms: tuple[str, float, float, float]) -> FunctionSum:
        """Return the sum of terms, each a name, a, b and a weight.

        Examples
        --------
        >>> FunctionSum.of(("x", 1.0, 0.0, 2.0), ("x^2", 1.0, 1.0, 3.0)).nth(np.array([1.0]), 0)
        array([14.])
        """
        names, a, b, weights = zip(*terms, strict=True) if terms else ((), (), (), ())
        functions = tuple(find_function(name) for name in names)
        numbers = (np.array(column, dtype=np.float64) for column in (a, b, weights))
        return cls(functions=functions, **dict(zip(("a", "b", "weights"), numbers, strict=True)))

    def numbers(self) -> dict[str, Array]:
        """Return a, b and the weights by their names."""
        return {"a": self.a, "b": self.b, "weight": self.weights}

    @property
    def names(self) -> str:
        """The names of the functions, once each."""
        return ", ".join(dict.fromkeys(g.name for g in self.functions))

    def __str__(self) -> str:
        """Return up to three terms as weight and name; of more, their number."""
        names = [g.name for g in self.functions]
        if len(names) > 3:
            return f"{len(names)} functions"
        both = zip(self.weights.tolist(), names, strict=True)
        return " + ".join(f"{weight:.4g} * {name}" for weight, name in both)

    def __bool__(self) -> bool:
        """Return whether any weight is nonzero."""
        return bool(self.weights.any())

    def scaled(self, factor: float) -> FunctionSum:
        """Return `factor` times the sum."""
        return replace(self, weights=factor * self.weights)

    def _terms(self) -> Iterator[tuple[ElementaryFunction, float, float, float]]:
        numbers = np.stack((self.a, self.b, self.weights), axis=1).tolist()
        for g, (a, b, weight) in zip(self.functions, numbers, strict=True):
            if weight:
                yield g, a, b, weight

    def nth(self, u: Array, n: int) -> Array:
        """Return the `n`-th derivative (0: the value) at `u`."""
        total = np.zeros(np.shape(u))
        for g, a, b, weight in self._terms():
            total += weight * a**n * g.nth(a * u + b, n)
        return total

    def expression(self, u: Expr) -> Expr:
        """Return the sum as a function of a sympy expression."""
        total: Expr | int = 0
        for g, a, b, weight in self._terms():
            inner = u if (a, b) == (1.0, 0.0) else a * u + b
            total += weight * g.expression(inner)
        return total

    def sizes(self, u: Array) -> Array:
        """Return the sum of the terms' absolute values."""
        return sum((abs(w) * np.abs(g.nth(a * u + b, 0)) for g, a, b, w in self._terms()), 0.0 * u)

    def antiderivative(self, u: Array) -> Array:
        """Return the antiderivative that is 0 at 0, by quadrature if needed."""
        total = np.zeros(np.shape(u))
        for g, a, b, weight in self._terms():
            if a == 0:
                total += weight * g.nth(b, 0) * u
            elif g.primitive is not None:
                total += weight / a * (g.antiderivative(a * u + b) - g.antiderivative(b))
            else:
                areas = [integrate(g, b, v) for v in np.ravel(a * u + b).tolist()]
                total += weight / a * np.reshape(areas, np.shape(u))
        return total

    def steepest(self, low: float, high: float, n: int) -> float:
        """Bound the `n`-th derivative on an interval by the terms' extremes."""
        total = 0.0
        for g, a, b, weight in self._terms():
            start, end = torch.tensor([a * low + b, a * high + b], dtype=torch.float64).sort()[0]
            total += abs(weight * a**n) * float(torch.stack(g.extremes(start, end, n)).abs().max())
        return total

    def jumps(self, orders: int) -> tuple[Array, Array]:
        """Return the places of kinks, and jumps of derivatives (n, kink)."""
        places, columns = [_NONE], [np.zeros((orders, 0))]
        for g, a, b, weight in self._terms():
            for kink in (*g.kinks, *g.jumps) if a else ():
                left, right = np.nextafter(kink, -np.inf), np.nextafter(kink, np.inf)
                sides = [weight * a**n * (g.nth(right, n) - g.nth(left, n)) for n in range(orders)]
                places.append(np.array([(kink - b) / a]))
                columns.append(np.array(sides, dtype=np.float64)[:, None])
        return np.concatenate(places), np.concatenate(columns, axis=1)

    def zeros_of_derivative(self, n: int, low: float, high: float) -> Array:
        """Return the sign changes of the `n`-th derivative in (low, high)."""
        terms = list(self._terms())
        if not terms:
            return _NONE
        if len(terms) == 1 and terms[0][0].closed_form is not None and terms[0][0].period is None:
            g, a, b, _ = terms[0]
            zeros = np.sort((g.zeros_of_derivative(n) - b) / a) if a else _NONE
        else:
            steepest = max(abs(a) for _, a, _, _ in terms)
            count = int(np.clip(_SCAN_POINTS * steepest * (high - low), *_POINTS))
            grid = np.linspace(low, high, count)
            with np.errstate(all="ignore"):
                between = sign_changes(lambda u: self.nth(u, n), grid)
                zeros = np.sort(np.concatenate((between, grid[self.nth(grid, n) == 0])))
        return zeros[(zeros > low) & (zeros < high)]


def integrate(g: ElementaryFunction, start: float, end: float) -> float:
    """Integrate an elementary function adaptively in smooth parts."""
    from scipy.integrate import quad

    low, high = min(start, end), max(start, end)
    cuts = [low, *(cut for cut in _SCALES if low < cut < high), high]  # g varies most near 0
    nth: Any = g.nth
    parts = [quad(nth, *pair, args=(0,), **_QUADRATURE)[0] for pair in itertools.pairwise(cuts)]
    return math.copysign(1.0, end - start) * math.fsum(parts)
