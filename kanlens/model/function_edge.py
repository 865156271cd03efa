"""One symbolic edge as an exact object: ``c * g(a * u + b) + d`` of a named function g."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import check_positive
from kanlens.display import Displayed
from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions.catalog import FUNCTIONS, find_function
from kanlens.functions.elementary import Array, ElementaryFunction, repeated
from kanlens.functions.sums import integrate
from kanlens.model.edge import Edge

_EPS = float(np.finfo(np.float64).eps)
_TOLERANCE = 64 * _EPS
_SMALLEST = math.ulp(0.0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FunctionEdge(Displayed, Edge):
    """The function on one symbolic edge, ``c * g(a * u + b) + d``.

    u is ``(x - input_shift) / input_scale``. Where g is not defined the value is NaN or infinite.
    """

    function: str  # key into FUNCTIONS
    a: float = 1.0
    b: float = 0.0
    c: float = 1.0
    d: float = 0.0
    domain: tuple[float, float] = (-1.0, 1.0)  # of the spline that it stands for, in units of x

    def __post_init__(self) -> None:
        find_function(self.function, call="FunctionEdge")
        for name in ("a", "b", "c", "d", "input_shift"):
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)
            if not math.isfinite(value):
                advice = "Check the layer"
                raise InvalidValueError("FunctionEdge", f"finite {name}", repr(value), advice)
        check_positive("FunctionEdge", "input_scale", self.input_scale)

    def _line(self) -> str:
        numbers = ", ".join(f"{name} {getattr(self, name):.4g}" for name in "abcd")
        return f"{self.name} c * {self.function}(a * u + b) + d, {numbers}"

    @property
    def g(self) -> ElementaryFunction:
        """The elementary function."""
        return FUNCTIONS[self.function]

    @property
    def breakpoints(self) -> Array:
        """Ends of the grid, and the kink of abs, sign and relu where it lies between them."""
        low, high = self.domain
        kinks = self._places([*self.g.kinks, *self.g.jumps] if self.a else [])
        return np.array([low, *kinks[(low < kinks) & (kinks < high)], high])

    def in_units(self, shift: float, scale: float, *, unit: str = "") -> FunctionEdge:
        """Return the edge as a function of ``shift + scale * x``, e.g. in units of the data."""
        low, high = self.domain
        moved = super().in_units(shift, scale, unit=unit)
        return dataclasses.replace(moved, domain=(shift + scale * low, shift + scale * high))

    def scaled(self, factor: float) -> FunctionEdge:
        """Return `factor` times the edge."""
        return dataclasses.replace(self, c=factor * self.c, d=factor * self.d)

    def _nth(self, x: Array | float, order: int) -> Array:
        value = self.c * self.a**order * self.g.nth(self.a * self._inward(x) + self.b, order)
        return value + self.d if order == 0 else value

    def _integral(self, a: float, b: float) -> float:
        low, high = min(a, b), max(a, b)
        start, end = self._range(low, high)
        if not self.g.defined(*_pair(start, end)):
            expected = f"an interval on which {self.function!r} is defined"
            got, advice = f"{low!r} to {high!r}", "Stay clear of its pole"
            raise MethodError("FunctionEdge.integral", expected, got, advice)
        if self.a == 0:
            return float(self(low) * (b - a))
        area = sum(integrate(self.g, p, q) for p, q in self.g.stretches(start, end))
        area *= self.c * self.input_scale / abs(self.a)
        return float((area if a <= b else -area) + self.d * (b - a))

    def _roots(self, low: float, high: float, level: float) -> Array:
        """Search every stretch on which the function is monotone, so that none is missed."""
        from scipy.optimize import brentq

        if self.a == 0:
            at, size = self._above(self.b, level)
            return np.array([low, high] if abs(at) <= size else [])
        slack = self._slack(low, high)
        first, last = self._range(low, high)
        found: list[float] = []
        flat = False  # whether the stretch before lies on the level
        for p, q in self.g.stretches(first - slack, last + slack):
            (at_p, size_p), (at_q, size_q) = self._above(p, level), self._above(q, level)
            zeros = [v for v, zero in ((p, abs(at_p) <= size_p), (q, abs(at_q) <= size_q)) if zero]
            if flat and zeros == [p, q] and found[-1] == p:
                found.pop()
            flat = zeros == [p, q]
            found += zeros
            if not zeros and at_p * at_q < 0:
                shape = {"xtol": _SMALLEST, "maxiter": 10_000}
                found.append(brentq(lambda v: self._above(v, level)[0], p, q, **shape))
        return self._places(found)

    def _extrema(self, low: float, high: float) -> Array:
        turning = self.g.turning if self.c != 0 and self.a != 0 else ()
        turns = repeated(turning, self.g.period, *self._range(low, high))
        places = np.unique(self._places(turns))
        return places[(low < places) & (places < high)]

    def _bounds(self, low: float, high: float) -> tuple[float, float]:
        if self.c == 0:
            return self.d, self.d
        least, most = self.g.bounds(*_pair(*self._range(low, high)))
        pair = sorted((self.c * float(least), self.c * float(most)))
        return pair[0] + self.d, pair[1] + self.d

    def _expression(self, x: Any) -> Any:
        a, b = self.a / self.input_scale, self.b - self.a * self.input_shift / self.input_scale
        inner = _number(a) * x + _number(b)
        return _number(self.c) * self.g.expression(inner) + _number(self.d)

    def _places(self, v: list[float]) -> Array:
        """Return the x at which a * u + b is `v`, for a other than 0."""
        return self._outward((np.asarray(v, dtype=np.float64) - self.b) / self.a)

    def _range(self, low: float, high: float) -> tuple[float, float]:
        """Return the ends of a * u + b, increasing; on those of the domain of g if rounded off."""
        slack, edges = self._slack(low, high), self.g.ends
        ends = np.sort(self._inward([low, high]) * self.a + self.b)
        near = [[edge for edge in edges if abs(end - edge) <= slack] for end in ends]
        start, end = (on[0] if on else float(v) for on, v in zip(near, ends, strict=True))
        return start, end

    def _slack(self, low: float, high: float) -> float:
        """Bound the rounding of a * u + b on an interval."""
        reach = max(abs(low), abs(high)) + abs(self.input_shift)
        return 4 * _EPS * (abs(self.a) * reach / self.input_scale + abs(self.b))

    def _above(self, v: float, level: float) -> tuple[float, float]:
        """Return how far the edge lies above a level where a * u + b is `v`, and its rounding."""
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
