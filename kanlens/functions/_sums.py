"""Sums ``weight_k * g_k(a_k * u + b_k)`` of elementary functions, and single functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens._lazy import optimize, scipy, sympy
from kanlens.functions._catalog import find_function
from kanlens.functions._elementary import (
    Array,
    ElementaryFunction,
    Interval,
    repeated,
    sign_changes,
)

_EPS = float(np.finfo(np.float64).eps)
_TOLERANCE = 64 * _EPS
_SCAN_POINTS = 32  # points of a scan per unit of a * u, for the largest abs(a)
_POINTS = 1024, 2**18  # fewest and most points of a scan
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
        """Return the sum of terms, each given as name, a, b and weight."""
        names, a, b, weights = zip(*terms, strict=True) if terms else ((), (), (), ())
        functions = tuple(find_function(name) for name in names)
        numbers = (np.array(column, dtype=np.float64) for column in (a, b, weights))
        return cls(functions=functions, **dict(zip(("a", "b", "weights"), numbers, strict=True)))

    def numbers(self) -> dict[str, Array]:
        """Return a, b and the weights as a dict."""
        return {"a": self.a, "b": self.b, "weight": self.weights}

    @property
    def names(self) -> str:
        """The names of the functions, once each."""
        return ", ".join(dict.fromkeys(g.name for g in self.functions))

    def __str__(self) -> str:
        """Return up to three terms as text, else the number of terms."""
        names = [g.name for g in self.functions]
        if len(names) > 3:
            return f"{len(names)} functions"
        both = zip(self.weights.tolist(), names, strict=True)
        return " + ".join(f"{weight:.4g} * {name}" for weight, name in both)

    def __bool__(self) -> bool:
        """Return whether any weight is nonzero."""
        return bool(self.weights.any())

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

    def expression(self, u: sympy.Expr) -> sympy.Expr:
        """Return the sum at a sympy expression u."""
        total: sympy.Expr | int = 0
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
                total += weight / a * (g.primitive(a * u + b) - g.primitive(np.asarray(b)))
            else:
                areas = [integrate(g, b, v) for v in np.ravel(a * u + b).tolist()]
                total += weight / a * np.reshape(areas, np.shape(u))
        return total

    def steepest(self, low: float, high: float, n: int) -> float:
        """Bound the absolute `n`-th derivative on an interval by the terms' extremes."""
        total = 0.0
        for g, a, b, weight in self._terms():
            start, end = torch.tensor([a * low + b, a * high + b], dtype=torch.float64).sort()[0]
            total += abs(weight * a**n) * float(torch.stack(g.extremes(start, end, n)).abs().max())
        return total

    def jumps(self, orders: int) -> tuple[Array, Array]:
        """Return the positions of kinks, and the jumps of derivatives there (order, kink)."""
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
    low, high = min(start, end), max(start, end)
    cuts = [low, *(cut for cut in _SCALES if low < cut < high), high]  # g varies most near 0
    nth: Any = g.nth
    quad, pairs = scipy.integrate.quad, itertools.pairwise(cuts)
    parts = [quad(nth, *pair, args=(0,), **_QUADRATURE)[0] for pair in pairs]
    return math.copysign(1.0, end - start) * math.fsum(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaledFunction:
    """A function ``c * g(a * u + b) + d`` of u."""

    g: ElementaryFunction
    a: float
    b: float
    c: float
    d: float
    distance: float = 0.0  # abs(shift) / scale of u = (x - shift) / scale, for the rounding of u

    def __str__(self) -> str:
        """Return the function as one line of text."""
        numbers = ", ".join(f"{name} {getattr(self, name):.4g}" for name in "abcd")
        return f"c * {self.g.name}(a * u + b) + d, {numbers}"

    def nth(self, u: Array, order: int) -> Array:
        """Return the `order`-th derivative (0: the value) at u."""
        value = self.c * self.a**order * self.g.nth(self.a * u + self.b, order)
        return np.asarray(value + self.d if order == 0 else value)

    def integral(self, start: float, end: float) -> float:
        """Return the integral, NaN where g is not defined throughout."""
        low, high = min(start, end), max(start, end)
        first, last = self._range(low, high)
        if not self.g.defined(*_pair(first, last)):
            return math.nan
        if self.a == 0:
            return float(self.nth(np.array(low), 0) * (end - start))
        area = sum(integrate(self.g, p, q) for p, q in self.g.stretches(first, last))
        area *= self.c / abs(self.a)
        return float((area if start <= end else -area) + self.d * (end - start))

    def roots(self, low: float, high: float, level: float) -> Array:
        """Return the points of [low, high] where g equals `level`; of flat pieces the ends."""
        if self.a == 0:
            at, size = self._above(self.b, level)
            return np.array([low, high] if abs(at) <= size else [])
        slack = self._slack(low, high)
        first, last = self._range(low, high)
        roots: list[float] = []
        flat = False  # whether the stretch before lies on the level
        for p, q in self.g.stretches(first - slack, last + slack):
            (at_p, size_p), (at_q, size_q) = self._above(p, level), self._above(q, level)
            zeros = [v for v, zero in ((p, abs(at_p) <= size_p), (q, abs(at_q) <= size_q)) if zero]
            if flat and zeros == [p, q] and roots[-1] == p:
                roots.pop()
            flat = zeros == [p, q]
            roots += zeros
            if not zeros and at_p * at_q < 0:
                options: dict[str, Any] = {"xtol": math.ulp(0.0), "maxiter": 10_000}
                roots.append(optimize.brentq(lambda v: self._above(v, level)[0], p, q, **options))
        return self._places(roots)

    def extrema(self, low: float, high: float) -> Array:
        """Return the local extrema inside (low, high), in increasing order."""
        turns = repeated(self.g.turning() or (), self.g.period, *self._range(low, high))
        places = np.unique(self._places(turns if self.c and self.a else []))
        return places[(low < places) & (places < high)]

    def bounds(self, low: float, high: float) -> Interval:
        """Return the least and the greatest value, infinite if undefined."""
        if self.c == 0:
            return self.d, self.d
        least, most = self.g.extremes(*_pair(*self._range(low, high)))
        pair = sorted((self.c * float(least), self.c * float(most)))
        return pair[0] + self.d, pair[1] + self.d

    def places(self, points: tuple[float, ...], low: float, high: float) -> list[float]:
        """Return the u in [low, high] at which v = a * u + b is one of the (periodic) points."""
        if self.a == 0 or not points:
            return []
        ends = sorted((self.a * low + self.b, self.a * high + self.b))
        return [(point - self.b) / self.a for point in repeated(points, self.g.period, *ends)]

    def expression(self, x: sympy.Expr, shift: float, scale: float) -> sympy.Expr:
        """Return the function of ``(x - shift) / scale`` as an expression."""
        a, b = self.a / scale, self.b - self.a * shift / scale
        return _number(self.c) * self.g.expression(_number(a) * x + _number(b)) + _number(self.d)

    def _places(self, v: list[float]) -> Array:
        """Return the u at which a * u + b is `v`, for a other than 0."""
        return np.asarray((np.asarray(v, dtype=np.float64) - self.b) / (self.a or 1.0))

    def _range(self, low: float, high: float) -> Interval:
        """Return the range of a * u + b, clipped to the domain if it is outside by rounding."""
        slack, edges = self._slack(low, high), self.g.ends
        ends = np.sort(self.a * np.array([low, high]) + self.b)
        near = [[edge for edge in edges if abs(end - edge) <= slack] for end in ends]
        start, end = (on[0] if on else float(v) for on, v in zip(near, ends, strict=True))
        return start, end

    def _slack(self, low: float, high: float) -> float:
        """Bound the rounding of a * u + b on an interval."""
        reach = max(abs(low), abs(high)) + 2 * self.distance
        return 4 * _EPS * (abs(self.a) * reach + abs(self.b))

    def _above(self, v: float, level: float) -> tuple[float, float]:
        """Return the function minus a level at `v`, and a bound on its rounding error."""
        value = self.g.value(torch.tensor(v, dtype=torch.float64))
        term = self.c * float(value) if self.c else 0.0
        size = (abs(term) if math.isfinite(term) else 0.0) + abs(self.d) + abs(level)
        return term + self.d - level, _TOLERANCE * size


def _pair(low: float, high: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def _number(value: float) -> Any:
    """Return a sympy number; 0, 1 and -1 are exact, so that sympy drops them."""
    return sympy.Integer(int(value)) if value in (0.0, 1.0, -1.0) else sympy.Float(value)
