"""One learned function of a KAN as an exact object.

``phi(x) = spline(u) + base_weight * base(u)`` with ``u = (x - input_shift) / input_scale``. All
of it is float64 NumPy; nothing is sampled.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kanlens.checks import check_choice, check_count, check_positive
from kanlens.functions.activations import BASES, Array
from kanlens.model.arguments import check_finite, check_interval
from kanlens.model.conversion import ScipyEdge, scipy_edge, sympy_edge
from kanlens.splines.pieces import Pieces, check_spline, spline_pieces


@dataclass(frozen=True, kw_only=True, eq=False)
class EdgeFunction:
    """The function on one edge: a B-spline plus a base activation.

    Beyond the grid the base goes on as it is. The spline goes straight on from each end of
    the grid (``"linear"``), or runs out on the outer knots and is 0 beyond them (``"zero"``).

    Attributes
    ----------
    knots : ndarray, shape (knot,)
        Strictly increasing, `degree` of them beyond each end of the grid. Read-only.
    coefficients : ndarray, shape (knot - degree - 1,)
        One per B-spline. Read-only.
    degree : int
        Degree of the spline's pieces, 1 to 5.
    base_weight : float
        Factor of the base activation.
    base : str
        Its name, a key into ``BASES``.
    extrapolation : {"linear", "zero"}
        What the spline does outside the grid.
    input_shift, input_scale : float
        The spline is a function of ``(x - input_shift) / input_scale``.
    name : str
        What a picture or a table calls the edge.
    unit : str
        Unit of x, empty when it has none.

    Examples
    --------
    >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
    >>> tent(np.array([0.5, 1.0, 3.0]))
    array([ 0.5,  1. , -1. ])
    """

    knots: Array = field(repr=False)
    coefficients: Array = field(repr=False)
    degree: int
    base_weight: float = 0.0
    base: str = "silu"
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
        for name in ("base_weight", "input_shift", "input_scale"):
            object.__setattr__(self, name, float(getattr(self, name)))
        check_choice("EdgeFunction", "base", self.base, BASES)
        check_choice("EdgeFunction", "extrapolation", self.extrapolation, ("linear", "zero"))
        check_positive("EdgeFunction", "input_scale", self.input_scale)
        for name in ("base_weight", "input_shift"):
            check_finite("EdgeFunction", name, getattr(self, name))
        check_spline("EdgeFunction", self.knots, self.coefficients, self.degree)

    @property
    def domain(self) -> tuple[float, float]:
        """Ends of the grid, in units of x.

        Examples
        --------
        >>> EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1).domain
        (0.0, 2.0)
        """
        low, high = self.knots[self.degree], self.knots[-self.degree - 1]
        return float(self._outward(low)), float(self._outward(high))

    @property
    def breakpoints(self) -> Array:
        """Where two polynomial pieces meet, ends of the grid included, in units of x.

        Examples
        --------
        >>> EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1).breakpoints
        array([0., 1., 2.])
        """
        return self._outward(self._pieces.breaks)

    def __call__(self, x: Array | float) -> Array:
        """Return phi at `x`.

        Parameters
        ----------
        x : ndarray or float

        Returns
        -------
        ndarray, shape of `x`

        Examples
        --------
        >>> line = EdgeFunction(knots=range(-3, 5), coefficients=[-1, 0, 1, 2], degree=3)
        >>> line(np.array([0.25, 7.0])).round(12)
        array([0.25, 7.  ])
        """
        u = self._inward(x)
        return self._pieces.value(u, self._pieces.locate(u))

    def derivative(self, x: Array | float, order: int = 1) -> Array:
        """Return the `order`-th derivative in x.

        Where it jumps, the value is the one on the right; at the upper end of the grid,
        the one inside.

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
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.derivative(np.array([0.5, 1.0, 2.0]))
        array([ 1., -1., -1.])
        """
        check_count("EdgeFunction.derivative", "order", order)
        u, end = self._inward(x), self.knots[-self.degree - 1]
        inside = int(np.searchsorted(self._pieces.breaks, end, side="left"))
        at_end = (u == end) | (np.asarray(x) == self.domain[1])
        piece = np.where(at_end, inside, self._pieces.locate(u))
        return np.asarray(self._pieces.value(u, piece, order) / self.input_scale**order)

    def integral(self, a: float, b: float) -> float:
        """Return the integral of phi from `a` to `b`, negative when ``b < a``.

        Parameters
        ----------
        a, b : float
            Finite; may lie outside the grid.

        Returns
        -------
        float

        Raises
        ------
        InvalidValueError
            If an end is not finite.

        Examples
        --------
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.integral(0.0, 2.0)
        1.0
        """
        for name, end in (("a", a), ("b", b)):
            check_finite("EdgeFunction.integral", name, end)
        at = self._pieces.antiderivative(self._inward(np.array([a, b])))
        return float((at[1] - at[0]) * self.input_scale)

    def roots(
        self, low: float | None = None, high: float | None = None, *, level: float = 0.0
    ) -> Array:
        """Return every x in [low, high] where phi equals `level`.

        A point where phi touches the level to within rounding is one root. Where phi lies on
        the level over a whole piece, both ends of that stretch are returned.

        Parameters
        ----------
        low, high : float, optional
            Default: the ends of the grid.
        level : float

        Returns
        -------
        ndarray, shape (root,)
            Increasing.

        Raises
        ------
        InvalidValueError
            If the ends or the level are not finite, or `low` exceeds `high`.

        Examples
        --------
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.roots(level=0.5)
        array([0.5, 1.5])
        """
        low, high = self._interval("EdgeFunction.roots", low, high)
        check_finite("EdgeFunction.roots", "level", level)
        found = self._pieces.roots(*self._span(low, high), level)
        return np.clip(self._outward(found), low, high)

    def extrema(self, low: float | None = None, high: float | None = None) -> Array:
        """Return every x inside (low, high) where phi turns: a local maximum or minimum.

        Kinks count. A flat stretch that is a maximum or minimum gives both its ends. Turns
        whose rise is below rounding do not count.

        Parameters
        ----------
        low, high : float, optional
            Default: the ends of the grid.

        Returns
        -------
        ndarray, shape (extremum,)
            Increasing.

        Raises
        ------
        InvalidValueError
            If the ends are not finite, or `low` exceeds `high`.

        Examples
        --------
        >>> EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1).extrema()
        array([1.])
        """
        low, high = self._interval("EdgeFunction.extrema", low, high)
        found = self._pieces.extrema(*self._span(low, high))
        return np.clip(self._outward(found), low, high)

    def bounds(self, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Return the least and the greatest value of phi on [low, high].

        Parameters
        ----------
        low, high : float, optional
            Default: the ends of the grid.

        Returns
        -------
        tuple of float
            Minimum and maximum.

        Raises
        ------
        InvalidValueError
            If the ends are not finite, or `low` exceeds `high`.

        Examples
        --------
        >>> EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1).bounds()
        (0.0, 1.0)
        """
        low, high = self._interval("EdgeFunction.bounds", low, high)
        values = self._pieces.value(*self._pieces.critical(*self._span(low, high)))
        return float(values.min()), float(values.max())

    def in_units(self, shift: float, scale: float, *, unit: str = "") -> EdgeFunction:
        """Return the edge as a function of ``shift + scale * x``, e.g. in units of the data.

        Parameters
        ----------
        shift, scale : float
            What turns the present x into the new one; scale is positive.
        unit : str
            Unit of the new x.

        Returns
        -------
        EdgeFunction
            With the same values at corresponding points.

        Raises
        ------
        InvalidValueError
            If `scale` is not positive or a number is not finite.

        Examples
        --------
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.in_units(100.0, 10.0, unit="K").domain
        (100.0, 120.0)
        """
        check_positive("EdgeFunction.in_units", "scale", scale)
        start, width = shift + scale * self.input_shift, scale * self.input_scale
        return dataclasses.replace(self, input_shift=start, input_scale=width, unit=unit)

    def scaled(self, factor: float) -> EdgeFunction:
        """Return `factor` times the edge.

        Parameters
        ----------
        factor : float

        Returns
        -------
        EdgeFunction

        Examples
        --------
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.scaled(-2.0).bounds()
        (-2.0, 0.0)
        """
        scaled, weight = factor * self.coefficients, factor * self.base_weight
        return dataclasses.replace(self, coefficients=scaled, base_weight=weight)

    def to_scipy(self) -> ScipyEdge:
        """Return the edge with its spline as a ``scipy.interpolate.PPoly``.

        Returns
        -------
        ScipyEdge
            Callable, equal to the edge also outside the grid.

        Examples
        --------
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.to_scipy().spline.integrate(0.0, 2.0).item()
        1.0
        """
        return scipy_edge(self._pieces, self.input_shift, self.input_scale)

    def to_sympy(self, symbol: Any = None) -> Any:
        """Return the edge as a sympy Piecewise plus the base.

        Parameters
        ----------
        symbol : sympy.Expr, optional
            Stands for x. Default: ``Symbol("x")``.

        Returns
        -------
        sympy.Expr
            Polynomials are written in the distance from where their piece starts.

        Examples
        --------
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.to_sympy().subs("x", 0.5)
        0.500000000000000
        """
        return sympy_edge(self._pieces, self.input_shift, self.input_scale, symbol)

    @functools.cached_property
    def _pieces(self) -> Pieces:
        return spline_pieces(
            self.knots,
            self.coefficients,
            self.degree,
            extrapolation=self.extrapolation,
            weight=self.base_weight,
            base=BASES[self.base],
        )

    def _inward(self, x: Any) -> Array:
        return np.asarray((np.asarray(x, dtype=np.float64) - self.input_shift) / self.input_scale)

    def _outward(self, u: Array) -> Array:
        return np.asarray(u * self.input_scale + self.input_shift)

    def _span(self, low: float, high: float) -> tuple[float, float]:
        return float(self._inward(low)), float(self._inward(high))

    def _interval(self, call: str, low: float | None, high: float | None) -> tuple[float, float]:
        start, end = self.domain
        return check_interval(call, start if low is None else low, end if high is None else high)
