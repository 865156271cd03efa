"""An edge as an exact object in float64 NumPy, and in the terms of SciPy.

``phi(x) = spline(u) + sum_k w_k g_k(a_k u + b_k)``, ``u = (x - input_shift) / input_scale``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kanlens._checks import check_choice, check_count, check_positive
from kanlens._display import Displayed
from kanlens._lazy import scipy, sympy
from kanlens.errors import InvalidValueError, MethodError
from kanlens.functions._catalog import find_function
from kanlens.functions._elementary import Array
from kanlens.functions._sums import FunctionSum, ScaledFunction
from kanlens.splines._pieces import Pieces, check_spline, spline_pieces


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Edge(Displayed):
    """The function on one edge: a B-spline plus a sum of elementary functions.

    Outside the grid the spline is linear, or decays to zero over the outer knots (``"zero"``). An
    edge that is one function, ``c * g(a * u + b) + d``, has degree 0, the ends of its grid as knots
    and the coefficient d; where g is not defined its value is NaN or infinite.

    Attributes
    ----------
    knots : ndarray, shape (knot,)
        Strictly increasing, `degree` of them beyond each end of the grid. Read-only.
    coefficients : ndarray, shape (knot - degree - 1,)
        One per B-spline. Read-only.
    degree : int
        Degree of the spline's pieces, 1 to 5; 0 for an edge that is one function.
    functions : FunctionSum
        Elementary functions of u added to the spline: the base function and the series, such as
        Gaussians and sines.
    extrapolation : {"linear", "zero"}
        Continuation of the spline outside the grid.
    input_shift, input_scale : float
        The edge is a function of ``u = (x - input_shift) / input_scale``.
    name : str
        Name in pictures and tables.
    unit : str
        Unit of x, empty when it has none.

    Examples
    --------
    >>> tent = Edge(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
    >>> tent(np.array([0.5, 1.0, 3.0]))
    array([ 0.5,  1. , -1. ])
    >>> tent.derivative(np.array([0.5, 1.0, 2.0]))
    array([ 1., -1., -1.])
    >>> tent.breakpoints, tent.extrema(), tent.roots(level=0.5)
    (array([0., 1., 2.]), array([1.]), array([0.5, 1.5]))
    >>> tent.integral(0.0, 2.0), tent.bounds(), tent.scaled(-2.0).bounds()
    (1.0, (0.0, 1.0), (-2.0, 0.0))
    >>> tent.in_units(100.0, 10.0, unit="K").domain
    (100.0, 120.0)
    >>> tent.to_scipy().spline.integrate(0.0, 2.0).item(), tent.to_sympy().subs("x", 0.5)
    (1.0, 0.500000000000000)
    >>> Edge.of("x^2", b=-0.5).roots()
    array([0.5])
    """

    knots: Array
    coefficients: Array
    degree: int
    functions: FunctionSum = field(default_factory=FunctionSum)
    extrapolation: str = "linear"
    input_shift: float = 0.0
    input_scale: float = 1.0
    name: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        for name in ("knots", "coefficients"):
            values = np.array(getattr(self, name), dtype=np.float64)
            values.flags.writeable = False
            object.__setattr__(self, name, values)
        for name in ("input_shift", "input_scale"):
            object.__setattr__(self, name, float(getattr(self, name)))
        check_choice("Edge", "extrapolation", self.extrapolation, ("linear", "zero"))
        check_positive("Edge", "input_scale", self.input_scale)
        check_finite("Edge", "input_shift", self.input_shift)
        for name, numbers in self.functions.numbers().items():
            for number in numbers.tolist():
                check_finite("Edge", name, number)
        if self.single is None:
            check_spline("Edge", self.knots, self.coefficients, self.degree)

    @classmethod
    def of(
        cls,
        function: str,
        a: float = 1.0,
        b: float = 0.0,
        c: float = 1.0,
        d: float = 0.0,
        *,
        domain: tuple[float, float] = (-1.0, 1.0),
        **units: Any,
    ) -> Edge:
        """Return the edge that is one function, ``c * g(a * u + b) + d``.

        Parameters
        ----------
        function : str
            Name of g.
        a, b, c, d : float
        domain : tuple of float
            Ends of the grid of its layer, in units of x.
        **units
            `input_shift`, `input_scale`, `name` and `unit`.
        """
        check_finite("Edge", "d", d)
        find_function(function, call="Edge")
        shift, scale = units.get("input_shift", 0.0), units.get("input_scale", 1.0)
        ends = (np.asarray(domain, dtype=np.float64) - shift) / scale
        terms = FunctionSum.of((function, a, b, c))
        return cls(knots=ends, coefficients=np.array([d]), degree=0, functions=terms, **units)

    @functools.cached_property
    def single(self) -> ScaledFunction | None:
        """The elementary function of the edge, if it is a single one."""
        if self.degree or len(self.functions.functions) != 1 or self.knots.shape != (2,):
            return None
        a, b, c = (float(numbers[0]) for numbers in self.functions.numbers().values())
        d, distance = float(self.coefficients[0]), abs(self.input_shift) / self.input_scale
        return ScaledFunction(g=self.functions.functions[0], a=a, b=b, c=c, d=d, distance=distance)

    @functools.cached_property
    def _pieces(self) -> Pieces:
        parts = self.knots, self.coefficients, self.degree
        return spline_pieces(*parts, self.extrapolation, self.functions)

    @property
    def _form(self) -> Pieces | ScaledFunction:
        return self._pieces if self.single is None else self.single

    def _line(self) -> str:
        if self.single is not None:
            return f"{self.name} {self.single}"
        low, high = self.domain
        pieces = len(self.knots) - 2 * self.degree - 1
        spline = f"spline of degree {self.degree}, {pieces} pieces on [{low:.4g}, {high:.4g}]"
        return f"{self.name} {spline}{f' + {self.functions}' * bool(self.functions.functions)}"

    @property
    def domain(self) -> tuple[float, float]:
        """Ends of the grid, in units of x."""
        low, high = self.knots[self.degree], self.knots[-self.degree - 1]
        return float(self._outward(low)), float(self._outward(high))

    @property
    def breakpoints(self) -> Array:
        """Breakpoints in units of x: ends of pieces, and kinks of functions."""
        if self.single is None:
            return self._outward(self._pieces.breaks)
        kinks, _ = self.functions.jumps(1)
        low, high = self.knots
        return self._outward(np.array([low, *kinks[(low < kinks) & (kinks < high)], high]))

    def scaled(self, factor: float) -> Edge:
        """Return `factor` times the edge."""
        terms = dataclasses.replace(self.functions, weights=factor * self.functions.weights)
        coefficients = factor * self.coefficients
        return dataclasses.replace(self, coefficients=coefficients, functions=terms)

    def __call__(self, x: Array | float) -> Array:
        """Return phi at `x`, in the shape of `x`."""
        return np.asarray(self._nth(x, 0))

    def derivative(self, x: Array | float, order: int = 1) -> Array:
        """Return the `order`-th derivative in x, in the shape of `x`.

        At jumps the value is the one on the right; at the upper end of the grid, the one inside.

        Raises
        ------
        InvalidValueError
            If `order` is not a positive integer.
        """
        check_count("Edge.derivative", "order", order)
        return np.asarray(self._nth(x, order) / self.input_scale**order)

    def integral(self, a: float, b: float) -> float:
        """Return the integral of phi from `a` to `b`, negative when ``b < a``.

        Exact to rounding for the spline; to about 1e-10 of its size for functions added to it.

        Raises
        ------
        InvalidValueError
            If an end is not finite.
        MethodError
            If the function is not defined on the whole interval.
        """
        for name, end in (("a", a), ("b", b)):
            check_finite("Edge.integral", name, end)
        area = self._form.integral(float(self._inward(a)), float(self._inward(b)))
        if math.isnan(area):
            expected = f"an interval on which {self.functions.names!r} is defined"
            got = f"{a!r} to {b!r}"
            raise MethodError("Edge.integral", expected, got, "Choose an interval without the pole")
        return area * self.input_scale

    def roots(
        self, low: float | None = None, high: float | None = None, *, level: float = 0.0
    ) -> Array:
        """Return the roots of phi - `level` in [low, high], in increasing order.

        A point where phi touches the level up to rounding is one root. If phi equals the level on
        an interval, both of its ends are returned.

        Parameters
        ----------
        low, high : float, optional
            Default: the ends of the grid.
        level : float

        Raises
        ------
        InvalidValueError
            If the ends or the level are not finite, or `low` exceeds `high`.
        """
        low, high = self._interval("roots", low, high)
        check_finite("Edge.roots", "level", level)
        roots = self._outward(self._form.roots(*self._span(low, high), level))
        return np.unique(np.clip(roots, low, high))

    def extrema(self, low: float | None = None, high: float | None = None) -> Array:
        """Return the local extrema of phi inside (low, high), in increasing order.

        Kinks are included; a flat maximum or minimum gives both its ends. Extrema smaller than
        rounding, poles and the ends of a domain are not included.

        Parameters
        ----------
        low, high
            As for `roots`, which raises the same errors.
        """
        low, high = self._interval("extrema", low, high)
        extrema = self._outward(self._form.extrema(*self._span(low, high)))
        return np.clip(extrema, low, high)

    def bounds(self, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Return the least and the greatest value of phi on [low, high].

        They are infinite if phi has a pole in [low, high] or is not defined everywhere in it.

        Parameters
        ----------
        low, high
            As for `roots`, which raises the same errors.
        """
        return self._form.bounds(*self._span(*self._interval("bounds", low, high)))

    def in_units(self, shift: float, scale: float, *, unit: str = "") -> Edge:
        """Return the edge as a function of ``shift + scale * x``, e.g. in units of the data.

        Parameters
        ----------
        shift, scale : float
            The new x is ``shift + scale * x``; scale is positive.
        unit : str
            Unit of the new x.

        Raises
        ------
        InvalidValueError
            If `scale` is not positive or a number is not finite.
        """
        check_positive("Edge.in_units", "scale", scale)
        start, width = shift + scale * self.input_shift, scale * self.input_scale
        return dataclasses.replace(self, input_shift=start, input_scale=width, unit=unit)

    def to_scipy(self) -> ScipyEdge:
        """Return the edge with its spline as a ``scipy.interpolate.PPoly``.

        Returns
        -------
        ScipyEdge
            Callable, equal to the edge also outside the grid.
        """
        ends = np.array(self.domain)
        powers = np.full((1, 1), float(self.coefficients[0]))
        if self.single is None:
            powers, breaks = self._pieces.coefficients.copy(), self._pieces.breaks
            powers[0, 0] -= powers[0, 1]  # the first piece is straight and starts one unit earlier
            ends = self._outward(np.concatenate(([breaks[0] - 1.0], breaks, [breaks[-1] + 1.0])))
            powers /= self.input_scale ** np.arange(powers.shape[1])
        return ScipyEdge(
            spline=scipy.interpolate.PPoly(powers.T[::-1], ends, extrapolate=True),
            functions=self.functions,
            input_shift=self.input_shift,
            input_scale=self.input_scale,
        )

    def to_sympy(self, symbol: sympy.Symbol | None = None) -> Any:
        """Return the edge as a sympy expression; a spline is a Piecewise, plus functions.

        Parameters
        ----------
        symbol : sympy.Expr, optional
            Stands for x. Default: ``Symbol("x")``.

        Returns
        -------
        sympy.Expr
            Each polynomial is in powers of the distance from the start of its piece.
        """
        x = sympy.Symbol("x") if symbol is None else symbol
        if self.single is not None:
            return self.single.expression(x, self.input_shift, self.input_scale)
        powers = self._pieces.coefficients
        powers = powers / self.input_scale ** np.arange(powers.shape[1])
        starts, ends = self._outward(self._pieces.origins), self.breakpoints
        terms = [
            sum((float(c) * (x - float(start)) ** power for power, c in enumerate(row) if c), 0)
            for start, row in zip(starts, powers, strict=True)
        ]
        inside = [x < float(end) for end in ends]
        total = sympy.Piecewise(*zip(terms, [*inside, True], strict=True))
        plain = (self.input_shift, self.input_scale) == (0.0, 1.0)
        u = x if plain else (x - self.input_shift) / self.input_scale
        return total + self.functions.expression(u)

    def _nth(self, x: Array | float, order: int) -> Array:
        """Return the `order`-th derivative in u, or the value, at x."""
        u = self._inward(x)
        if self.single is not None:
            return self.single.nth(u, order)
        piece = self._pieces.locate(u)
        if order:
            end = self.knots[-self.degree - 1]
            inside = int(np.searchsorted(self._pieces.breaks, end, side="left"))
            piece = np.where((u == end) | (np.asarray(x) == self.domain[1]), inside, piece)
        return self._pieces.value(u, piece, order)

    def _span(self, low: float, high: float) -> tuple[float, float]:
        return float(self._inward(low)), float(self._inward(high))

    def _inward(self, x: Any) -> Array:
        return np.asarray((np.asarray(x, dtype=np.float64) - self.input_shift) / self.input_scale)

    def _outward(self, u: Array) -> Array:
        return np.asarray(u * self.input_scale + self.input_shift)

    def _interval(self, method: str, low: float | None, high: float | None) -> tuple[float, float]:
        start, end = self.domain
        low, high = float(start if low is None else low), float(end if high is None else high)
        if not -math.inf < low <= high < math.inf:
            expected, got = "finite ends with low <= high", f"{low!r} and {high!r}"
            raise InvalidValueError(f"Edge.{method}", expected, got, "Pass the lower end first")
        return low, high


@dataclass(frozen=True, kw_only=True, eq=False)
class ScipyEdge:
    """An edge in SciPy's terms, callable: ``spline(x) + functions((x - shift) / scale)``."""

    spline: Any  # a PPoly in units of x, continued outside the grid as the edge is
    functions: FunctionSum
    input_shift: float
    input_scale: float

    def __call__(self, x: Array | float) -> Array:
        """Return the edge's value at `x`."""
        u = (np.asarray(x, dtype=np.float64) - self.input_shift) / self.input_scale
        return np.asarray(self.spline(x) + self.functions.nth(u, 0))


def check_finite(call: str, name: str, value: float) -> None:
    """Refuse NaN and infinity."""
    if not math.isfinite(value):
        raise InvalidValueError(call, f"a finite {name}", repr(value), "Pass a finite number")
