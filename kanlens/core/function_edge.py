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

from kanlens.checks import check_count, check_positive, message
from kanlens.core.activations import Array
from kanlens.core.functions import FUNCTIONS, ElementaryFunction, find_function
from kanlens.errors import InvalidValueError, MethodError

_KINKED = ("abs", "sign", "relu")
_TOLERANCE = 64 * float(np.finfo(np.float64).eps)


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
        kinks = self._places(low, high) if self.function in _KINKED else []
        return np.array([low, *kinks, high])

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
        """Return the integral from `a` to `b` by adaptive quadrature, to about 1e-10.

        Raises
        ------
        MethodError
            If the function is not defined on the whole interval.

        Examples
        --------
        >>> round(FunctionEdge(function="x^2").integral(0.0, 3.0), 9)
        9.0
        """
        from scipy.integrate import quad

        low, high = min(a, b), max(a, b)
        if not self._defined(low, high):
            expected = f"an interval on which {self.function!r} is defined"
            advice = "Stay clear of its pole"
            text = message("FunctionEdge.integral", expected, f"{low!r} to {high!r}", advice)
            raise MethodError(text)
        cuts = [low, *self._places(low, high), high]
        total = sum(quad(self, p, q, limit=200)[0] for p, q in pairwise(cuts) if q > p)
        return float(total if a <= b else -total)

    def roots(
        self, low: float | None = None, high: float | None = None, *, level: float = 0.0
    ) -> Array:
        """Return every x in [low, high] where the edge equals `level`, increasing.

        Between turning points and poles the function is monotone, so none is missed.

        Parameters
        ----------
        low, high : float, optional
            Default: the ends of the grid.
        level : float

        Returns
        -------
        ndarray, shape (root,)

        Examples
        --------
        >>> FunctionEdge(function="x^2").roots(-2.0, 2.0, level=1.0)
        array([-1.,  1.])
        """
        from scipy.optimize import brentq

        start, end = self._interval(low, high)
        cuts = np.array([start, *self._cuts(start, end), end])
        values = self(cuts) - level
        size = _TOLERANCE * (abs(self.c) + abs(self.d) + abs(level))
        found = [float(x) for x, value in zip(cuts, values, strict=True) if abs(value) <= size]
        for (p, q), (at_p, at_q) in zip(pairwise(cuts), pairwise(values), strict=True):
            clear = min(abs(at_p), abs(at_q)) > size
            if clear and at_p * at_q < 0 and self._defined(p, q):
                found.append(float(brentq(lambda x: float(self(x)) - level, p, q, xtol=1e-14)))
        return np.unique(found)

    def extrema(self, low: float | None = None, high: float | None = None) -> Array:
        """Return every x inside (low, high) where the edge turns, increasing.

        Examples
        --------
        >>> FunctionEdge(function="x^2", b=-0.5).extrema()
        array([0.5])
        """
        start, end = self._interval(low, high)
        turning = self._g.turning if self.c != 0 and self.a != 0 else ()
        places = self._repeated(turning, self._g.period, start, end)
        return np.array([place for place in places if start < place < end])

    def bounds(self, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Return the least and the greatest value on [low, high]; infinite across a pole.

        Examples
        --------
        >>> FunctionEdge(function="x^2", c=3.0).bounds(-1.0, 2.0)
        (0.0, 12.0)
        """
        start, end = self._interval(low, high)
        if self.c == 0:
            return self.d, self.d
        ends = np.sort(self._inward([start, end]) * self.a + self.b)
        least, most = self._g.bounds(*(torch.tensor(end, dtype=torch.float64) for end in ends))
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

    def _interval(self, low: float | None, high: float | None) -> tuple[float, float]:
        start, end = self.domain
        return (start if low is None else float(low)), (end if high is None else float(high))

    def _defined(self, low: float, high: float) -> bool:
        ends = np.sort(self._inward([low, high]) * self.a + self.b)
        return bool(self._g.defined(*(torch.tensor(end, dtype=torch.float64) for end in ends)))

    def _places(self, low: float, high: float) -> list[float]:
        """Return turning points, kinks and poles strictly between two ends, increasing."""
        points: tuple[float, ...] = self._g.turning
        period = self._g.period
        if self.function in _KINKED or self._g.domain == "nonzero":
            points = (0.0,)
        if self._g.domain == "tangent":
            points, period = (math.pi / 2,), math.pi
        return [x for x in self._repeated(points, period, low, high) if low < x < high]

    def _cuts(self, low: float, high: float) -> list[float]:
        """Return turning points and kinks, and points on both sides of each pole."""
        places = self._places(low, high)
        if self._g.domain not in ("nonzero", "tangent"):
            return places
        gap = 1e-12 * (high - low)
        return [side for place in places for side in (place - gap, place + gap)]

    def _repeated(
        self, points: tuple[float, ...], period: float | None, low: float, high: float
    ) -> list[float]:
        """Return the x of points of u and their repetitions in [low, high], increasing."""
        if self.a == 0:
            return []
        ends = np.sort(self._inward([low, high]) * self.a + self.b)
        found: list[float] = []
        for point in points:
            if period is None:
                found.append(point)
                continue
            first = math.ceil((ends[0] - point) / period)
            last = math.floor((ends[1] - point) / period)
            found += [point + k * period for k in range(first, last + 1)]
        inner = [(point - self.b) / self.a for point in found]
        return sorted(u * self.input_scale + self.input_shift for u in inner)


def _number(value: float) -> Any:
    """Return a sympy number; 0, 1 and -1 exact, so that they do not show."""
    import sympy

    return sympy.Integer(int(value)) if value in (0.0, 1.0, -1.0) else sympy.Float(value)
