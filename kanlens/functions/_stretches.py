"""One elementary function ``c * g(a * u + b) + d`` and its searches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kanlens.functions._elementary import Array, ElementaryFunction, Interval, repeated
from kanlens.functions._sums import integrate

if TYPE_CHECKING:
    from sympy import Expr

_EPS = float(np.finfo(np.float64).eps)
_TOLERANCE = 64 * _EPS
_SMALLEST = math.ulp(0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaledFunction:
    """A function ``c * g(a * u + b) + d`` of u."""

    g: ElementaryFunction
    a: float
    b: float
    c: float
    d: float
    distance: float = 0.0  # of u from its input, which bounds its rounding

    def __str__(self) -> str:
        """Describe the function in one line."""
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
        """Return where the function equals `level`, between its turning points."""
        from scipy.optimize import brentq

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
                options: dict[str, Any] = {"xtol": _SMALLEST, "maxiter": 10_000}
                roots.append(brentq(lambda v: self._above(v, level)[0], p, q, **options))
        return self._places(roots)

    def extrema(self, low: float, high: float) -> Array:
        """Return where the function turns inside (low, high), increasing."""
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
        """Return the u in [low, high] of points of v, with their repetitions."""
        if self.a == 0 or not points:
            return []
        ends = sorted((self.a * low + self.b, self.a * high + self.b))
        return [(point - self.b) / self.a for point in repeated(points, self.g.period, *ends)]

    def expression(self, x: Expr, shift: float, scale: float) -> Expr:
        """Return the function of ``(x - shift) / scale`` as an expression."""
        a, b = self.a / scale, self.b - self.a * shift / scale
        inner = _number(a) * x + _number(b)
        return _number(self.c) * self.g.expression(inner) + _number(self.d)

    def _places(self, v: list[float]) -> Array:
        """Return the u at which a * u + b is `v`, for a other than 0."""
        return np.asarray((np.asarray(v, dtype=np.float64) - self.b) / (self.a or 1.0))

    def _range(self, low: float, high: float) -> Interval:
        """Return the ends of a * u + b, moved to those of the domain if close."""
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
        """Return how far the function lies above a level at `v`, and its rounding."""
        value = self.g.value(torch.tensor(v, dtype=torch.float64))
        term = self.c * float(value) if self.c else 0.0
        size = (abs(term) if math.isfinite(term) else 0.0) + abs(self.d) + abs(level)
        return term + self.d - level, _TOLERANCE * size


def _pair(low: float, high: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def _number(value: float) -> Any:
    """Return a sympy number; 0, 1 and -1 exact, so that they do not show."""
    import sympy

    return sympy.Integer(int(value)) if value in (0.0, 1.0, -1.0) else sympy.Float(value)
