"""One symbolic edge as an exact object: ``c * g(a * u + b) + d`` of a named function g.

It answers what `EdgeFunction` answers, so pictures and analyses need not tell them apart.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.checks import check_count, check_positive, message
from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions.activations import Array
from kanlens.functions.catalog import FUNCTIONS, ElementaryFunction, find_function
from kanlens.functions.elementary import repeated
from kanlens.model.arguments import check_finite, check_interval

_EPS = float(np.finfo(np.float64).eps)
_TOLERANCE = 64 * _EPS
_SMALLEST = math.ulp(0.0)
_SCALES = sorted(sign * 4.0**k for sign in (-1, 1) for k in range(-2, 500))
_QUADRATURE = {"epsabs": 1e-14, "epsrel": 1e-12, "limit": 200}


@dataclass(frozen=True, kw_only=True, eq=False)
class FunctionEdge:
    """The function on one symbolic edge, ``c * g(a * u + b) + d``.

    u is ``(x - input_shift) / input_scale``. Where g is not defined the value is NaN or
    infinite.

    Attributes
    ----------
    function : str
        Name of g, a key into ``FUNCTIONS``.
    a, b, c, d : float
        The numbers of the edge.
    domain : tuple of float
        Ends of the grid of the spline that the function stands for, in units of x.
    input_shift, input_scale : float
        Units of x.
    name : str
        What a picture or a table calls the edge.
    unit : str
        Unit of x, empty when it has none.

    Examples
    --------
    >>> FunctionEdge(function="x^2", c=3.0)(np.array([2.0]))
    array([12.])
    """

    function: str
    a: float = 1.0
    b: float = 0.0
    c: float = 1.0
    d: float = 0.0
    domain: tuple[float, float] = (-1.0, 1.0)
    input_shift: float = 0.0
    input_scale: float = 1.0
    name: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        find_function(self.function, call="FunctionEdge")
        for name in ("a", "b", "c", "d", "input_shift"):
            value = float(getattr(self, name))
            object.__setattr__(self, name, value)
            if not math.isfinite(value):
                text = message("FunctionEdge", f"finite {name}", repr(value), "Check the layer")
                raise InvalidValueError(text)
        check_positive("FunctionEdge", "input_scale", self.input_scale)

    @property
    def _g(self) -> ElementaryFunction:
        return FUNCTIONS[self.function]

    @property
    def breakpoints(self) -> Array:
        """Ends of the grid, and the kink of abs, sign and relu where it lies between them.

        Examples
        --------
        >>> FunctionEdge(function="abs").breakpoints
        array([-1.,  0.,  1.])
        """
        low, high = self.domain
        kinks = self._outward([*self._g.kinks, *self._g.jumps] if self.a else [])
        return np.array([low, *kinks[(low < kinks) & (kinks < high)], high])

    def __call__(self, x: Array | float) -> Array:
        """Return the value at `x`, in the shape of `x`."""
        return np.asarray(self.c * self._evaluate(self._inward(x)) + self.d)

    def derivative(self, x: Array | float, order: int = 1) -> Array:
        """Return the `order`-th derivative in x.

        Parameters
        ----------
        x : ndarray or float
        order : int
            At least 1.

        Returns
        -------
        ndarray, shape of `x`

        Raises
        ------
        InvalidValueError
            If `order` is no whole number of at least 1.

        Examples
        --------
        >>> FunctionEdge(function="x^3").derivative(np.array([2.0]), 2)
        array([12.])
        """
        check_count("FunctionEdge.derivative", "order", order)
        points = torch.as_tensor(np.asarray(self.a * self._inward(x) + self.b))
        with torch.enable_grad():
            u = points.clone().requires_grad_(order > 1)
            value = self._g.derivative(u)
            for _ in range(order - 1):
                if not value.requires_grad:
                    value = torch.zeros_like(points)
                    break
                (value,) = torch.autograd.grad(value.sum(), u, create_graph=True)
        scale = self.c * (self.a / self.input_scale) ** order
        return np.asarray(scale * value.detach().numpy())

    def integral(self, a: float, b: float) -> float:
        """Return the integral from `a` to `b` by adaptive quadrature, to about 1e-10 of its size.

        Raises
        ------
        InvalidValueError
            If an end is not finite.
        MethodError
            If the function is not defined on the whole interval.

        Examples
        --------
        >>> round(FunctionEdge(function="x^2").integral(0.0, 3.0), 9)
        9.0
        """
        from scipy.integrate import quad

        low, high = check_interval("FunctionEdge.integral", min(a, b), max(a, b))
        start, end = self._range(low, high)
        if not self._g.defined(*_pair(start, end)):
            expected = f"an interval on which {self.function!r} is defined"
            advice = "Stay clear of its pole"
            text = message("FunctionEdge.integral", expected, f"{low!r} to {high!r}", advice)
            raise MethodError(text)
        if self.a == 0:
            return float(self(low) * (b - a))
        area = 0.0
        for p, q in self._g.stretches(start, end):
            cuts = [p, *(v for v in _SCALES if p < v < q), q]  # g varies most near 0
            area += sum(quad(self._value, *pair, **_QUADRATURE)[0] for pair in pairwise(cuts))
        area *= self.c * self.input_scale / abs(self.a)
        return float((area if a <= b else -area) + self.d * (b - a))

    def roots(
        self, low: float | None = None, high: float | None = None, *, level: float = 0.0
    ) -> Array:
        """Return every x in [low, high] where the edge equals `level`, increasing.

        Where the function is not defined there are none; between turning points, poles and the
        ends of its domain it is monotone, so none is missed (of a registered function, as far as
        its turning points are known). A point where the edge touches the level to within rounding
        is one root; of a stretch on the level both ends are returned.

        Parameters
        ----------
        low, high : float, optional
            Default: the ends of the grid.
        level : float

        Returns
        -------
        ndarray, shape (root,)

        Raises
        ------
        InvalidValueError
            If the ends or the level are not finite, or `low` exceeds `high`.

        Examples
        --------
        >>> FunctionEdge(function="x^2").roots(-2.0, 2.0, level=1.0)
        array([-1.,  1.])
        >>> FunctionEdge(function="sqrt").roots(-1.0, 1.0, level=0.5)
        array([0.25])
        """
        from scipy.optimize import brentq

        start, end = self._interval("FunctionEdge.roots", low, high)
        check_finite("FunctionEdge.roots", "level", level)
        if self.a == 0:
            at, size = self._above(self.b, level)
            return np.unique([start, end]) if abs(at) <= size else np.empty(0)
        slack = self._slack(start, end)
        first, last = self._range(start, end)
        found: list[float] = []
        flat = False  # whether the stretch before lies on the level
        for p, q in self._g.stretches(first - slack, last + slack):
            (at_p, size_p), (at_q, size_q) = self._above(p, level), self._above(q, level)
            zeros = [v for v, zero in ((p, abs(at_p) <= size_p), (q, abs(at_q) <= size_q)) if zero]
            if flat and zeros == [p, q] and found[-1] == p:
                found.pop()
            flat = zeros == [p, q]
            found += zeros
            if not zeros and at_p * at_q < 0:
                shape = {"xtol": _SMALLEST, "maxiter": 10_000}
                found.append(brentq(lambda v: self._above(v, level)[0], p, q, **shape))
        return np.unique(np.clip(self._outward(found), start, end))

    def extrema(self, low: float | None = None, high: float | None = None) -> Array:
        """Return every x inside (low, high) where the edge turns, increasing.

        Neither the end of a domain nor a pole is one: there is no value on its other side.

        Raises
        ------
        InvalidValueError
            If the ends are not finite, or `low` exceeds `high`.

        Examples
        --------
        >>> FunctionEdge(function="x^2", b=-0.5).extrema()
        array([0.5])
        """
        start, end = self._interval("FunctionEdge.extrema", low, high)
        turning = self._g.turning if self.c != 0 and self.a != 0 else ()
        places = np.unique(
            self._outward(repeated(turning, self._g.period, *self._range(start, end)))
        )
        return np.asarray(places[(start < places) & (places < end)])

    def bounds(self, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Return the least and the greatest value on [low, high].

        Infinite across a pole, and where the function is not defined throughout.

        Raises
        ------
        InvalidValueError
            If the ends are not finite, or `low` exceeds `high`.

        Examples
        --------
        >>> FunctionEdge(function="x^2", c=3.0).bounds(-1.0, 2.0)
        (0.0, 12.0)
        """
        start, end = self._interval("FunctionEdge.bounds", low, high)
        if self.c == 0:
            return self.d, self.d
        least, most = self._g.bounds(*_pair(*self._range(start, end)))
        pair = sorted((self.c * float(least), self.c * float(most)))
        return pair[0] + self.d, pair[1] + self.d

    def in_units(self, shift: float, scale: float, *, unit: str = "") -> FunctionEdge:
        """Return the edge as a function of ``shift + scale * x``, e.g. in units of the data.

        Examples
        --------
        >>> FunctionEdge(function="x").in_units(100.0, 10.0).domain
        (90.0, 110.0)
        """
        check_positive("FunctionEdge.in_units", "scale", scale)
        return dataclasses.replace(
            self,
            input_shift=shift + scale * self.input_shift,
            input_scale=scale * self.input_scale,
            domain=(shift + scale * self.domain[0], shift + scale * self.domain[1]),
            unit=unit,
        )

    def scaled(self, factor: float) -> FunctionEdge:
        """Return `factor` times the edge.

        Examples
        --------
        >>> FunctionEdge(function="x").scaled(2.0)(1.5)
        array(3.)
        """
        return dataclasses.replace(self, c=factor * self.c, d=factor * self.d)

    def to_sympy(self, symbol: Any = None) -> Any:
        """Return the edge as a sympy expression.

        Parameters
        ----------
        symbol : sympy.Expr, optional
            Stands for x. Default: ``Symbol("x")``.

        Returns
        -------
        sympy.Expr

        Examples
        --------
        >>> FunctionEdge(function="sin", a=2.0).to_sympy()
        sin(2.0*x)
        """
        import sympy

        x = sympy.Symbol("x") if symbol is None else symbol
        a, b = self.a / self.input_scale, self.b - self.a * self.input_shift / self.input_scale
        inner = _number(a) * x + _number(b)
        return _number(self.c) * self._g.expression(inner) + _number(self.d)

    def _inward(self, x: Any) -> Array:
        return np.asarray((np.asarray(x, dtype=np.float64) - self.input_shift) / self.input_scale)

    def _evaluate(self, u: Array) -> Array:
        inner = torch.as_tensor(np.asarray(self.a * u + self.b))
        return np.asarray(self._g.value(inner).numpy())

    def _outward(self, v: list[float]) -> Array:
        """Return the x at which a * u + b is `v`, for a other than 0."""
        u = (np.asarray(v, dtype=np.float64) - self.b) / self.a
        return np.asarray(u * self.input_scale + self.input_shift)

    def _interval(self, call: str, low: float | None, high: float | None) -> tuple[float, float]:
        start, end = self.domain
        return check_interval(call, start if low is None else low, end if high is None else high)

    def _range(self, low: float, high: float) -> tuple[float, float]:
        """Return the ends of a * u + b, increasing; on those of the domain of g if rounded off."""
        slack, edges = self._slack(low, high), self._g.ends
        ends = np.sort(self._inward([low, high]) * self.a + self.b)
        near = [[edge for edge in edges if abs(end - edge) <= slack] for end in ends]
        start, end = (on[0] if on else float(v) for on, v in zip(near, ends, strict=True))
        return start, end

    def _slack(self, low: float, high: float) -> float:
        """Bound the rounding of a * u + b on an interval."""
        reach = max(abs(low), abs(high)) + abs(self.input_shift)
        return 4 * _EPS * (abs(self.a) * reach / self.input_scale + abs(self.b))

    def _value(self, v: float) -> float:
        return float(self._g.value(torch.tensor(v, dtype=torch.float64)))

    def _above(self, v: float, level: float) -> tuple[float, float]:
        """Return how far the edge lies above a level where a * u + b is `v`, and its rounding."""
        term = self.c * self._value(v) if self.c else 0.0
        size = (abs(term) if math.isfinite(term) else 0.0) + abs(self.d) + abs(level)
        return term + self.d - level, _TOLERANCE * size


def _pair(low: float, high: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def _number(value: float) -> Any:
    """Return a sympy number; 0, 1 and -1 exact, so that they do not show."""
    import sympy

    return sympy.Integer(int(value)) if value in (0.0, 1.0, -1.0) else sympy.Float(value)
