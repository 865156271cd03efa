"""What analyses ask: of an edge, an exact object in float64 NumPy, and of a layer of edges."""

from __future__ import annotations

import abc
import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from kanlens.checks import check_count, check_positive
from kanlens.errors import InvalidValueError
from kanlens.functions.elementary import Array
from kanlens.model.statistics import LayerStatistics

if TYPE_CHECKING:
    from typing_extensions import Self

    from kanlens.model.enclosures import Enclosure


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Edge(abc.ABC):
    """The function on one edge, of whatever kind, of ``u = (x - input_shift) / input_scale``."""

    input_shift: float = 0.0
    input_scale: float = 1.0
    name: str = ""  # what a picture or a table calls the edge
    unit: str = ""  # of x, empty when it has none

    if TYPE_CHECKING:  # a field of some kinds, a property of others: ends of the grid, in x

        @property
        def domain(self) -> tuple[float, float]: ...  # noqa: D102

    @property
    @abc.abstractmethod
    def breakpoints(self) -> Array:
        """Where two pieces meet, ends of the grid included, in units of x."""

    @abc.abstractmethod
    def scaled(self, factor: float) -> Self:
        """Return `factor` times the edge."""

    @abc.abstractmethod
    def _nth(self, x: Array | float, order: int) -> Array:
        """Return the `order`-th derivative in u, or the value, at x."""

    @abc.abstractmethod
    def _integral(self, a: float, b: float) -> float: ...

    @abc.abstractmethod
    def _roots(self, low: float, high: float, level: float) -> Array: ...

    @abc.abstractmethod
    def _extrema(self, low: float, high: float) -> Array: ...

    @abc.abstractmethod
    def _bounds(self, low: float, high: float) -> tuple[float, float]: ...

    @abc.abstractmethod
    def _expression(self, x: Any) -> Any:
        """Return the edge as a function of a sympy expression."""

    def __call__(self, x: Array | float) -> Array:
        """Return phi at `x`, in the shape of `x`.

        Examples
        --------
        >>> from kanlens.model.spline_edge import EdgeFunction
        >>> line = EdgeFunction(knots=range(-3, 5), coefficients=[-1, 0, 1, 2], degree=3)
        >>> line(np.array([0.25, 7.0])).round(12)
        array([0.25, 7.  ])
        """
        return np.asarray(self._nth(x, 0))

    def derivative(self, x: Array | float, order: int = 1) -> Array:
        """Return the `order`-th derivative in x, in the shape of `x`.

        Where that of a spline jumps, the value is the one on the right; at the upper end of the
        grid, the one inside.

        Raises
        ------
        InvalidValueError
            If `order` is no whole number of at least 1.

        Examples
        --------
        >>> from kanlens.model.spline_edge import EdgeFunction
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.derivative(np.array([0.5, 1.0, 2.0]))
        array([ 1., -1., -1.])
        """
        check_count(self._call("derivative"), "order", order)
        return np.asarray(self._nth(x, order) / self.input_scale**order)

    def integral(self, a: float, b: float) -> float:
        """Return the integral of phi from `a` to `b`, negative when ``b < a``.

        Exact to rounding for a spline; of a function by adaptive quadrature, to about 1e-10 of
        its size.

        Raises
        ------
        InvalidValueError
            If an end is not finite.
        MethodError
            If the function is not defined on the whole interval.

        Examples
        --------
        >>> from kanlens.model.spline_edge import EdgeFunction
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.integral(0.0, 2.0)
        1.0
        """
        for name, end in (("a", a), ("b", b)):
            check_finite(self._call("integral"), name, end)
        return self._integral(float(a), float(b))

    def roots(
        self, low: float | None = None, high: float | None = None, *, level: float = 0.0
    ) -> Array:
        """Return every x in [low, high] where phi equals `level`, increasing.

        A point where phi touches the level to within rounding is one root. Of a stretch on the
        level both ends are returned. Where phi is not defined there are none. Of a registered
        function all are found as far as its turning points are known.

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
        >>> from kanlens.model.spline_edge import EdgeFunction
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.roots(level=0.5)
        array([0.5, 1.5])
        """
        low, high = self._interval("roots", low, high)
        check_finite(self._call("roots"), "level", level)
        return np.unique(np.clip(self._roots(low, high, level), low, high))

    def extrema(self, low: float | None = None, high: float | None = None) -> Array:
        """Return every x inside (low, high) where phi turns, increasing.

        Kinks count. A flat stretch that is a maximum or minimum gives both its ends. Turns whose
        rise is below rounding do not count, nor do poles and the ends of a domain.

        Parameters
        ----------
        low, high : float, optional
            Default: the ends of the grid.

        Returns
        -------
        ndarray, shape (extremum,)

        Raises
        ------
        InvalidValueError
            If the ends are not finite, or `low` exceeds `high`.

        Examples
        --------
        >>> from kanlens.model.spline_edge import EdgeFunction
        >>> EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1).extrema()
        array([1.])
        """
        low, high = self._interval("extrema", low, high)
        return np.clip(self._extrema(low, high), low, high)

    def bounds(self, low: float | None = None, high: float | None = None) -> tuple[float, float]:
        """Return the least and the greatest value of phi on [low, high].

        Infinite across a pole, and where phi is not defined throughout.

        Parameters
        ----------
        low, high : float, optional
            Default: the ends of the grid.

        Raises
        ------
        InvalidValueError
            If the ends are not finite, or `low` exceeds `high`.

        Examples
        --------
        >>> from kanlens.model.spline_edge import EdgeFunction
        >>> EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1).bounds()
        (0.0, 1.0)
        """
        return self._bounds(*self._interval("bounds", low, high))

    def in_units(self, shift: float, scale: float, *, unit: str = "") -> Self:
        """Return the edge as a function of ``shift + scale * x``, e.g. in units of the data.

        Parameters
        ----------
        shift, scale : float
            What turns the present x into the new one; scale is positive.
        unit : str
            Unit of the new x.

        Raises
        ------
        InvalidValueError
            If `scale` is not positive or a number is not finite.

        Examples
        --------
        >>> from kanlens.model.spline_edge import EdgeFunction
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.in_units(100.0, 10.0, unit="K").domain
        (100.0, 120.0)
        """
        check_positive(self._call("in_units"), "scale", scale)
        start, width = shift + scale * self.input_shift, scale * self.input_scale
        return dataclasses.replace(self, input_shift=start, input_scale=width, unit=unit)

    def to_sympy(self, symbol: Any = None) -> Any:
        """Return the edge as a sympy expression; a spline is a Piecewise, plus the base.

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
        >>> from kanlens.model.spline_edge import EdgeFunction
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.to_sympy().subs("x", 0.5)
        0.500000000000000
        """
        import sympy

        return self._expression(sympy.Symbol("x") if symbol is None else symbol)

    def _call(self, method: str) -> str:
        return f"{type(self).__name__}.{method}"

    def _inward(self, x: Any) -> Array:
        return np.asarray((np.asarray(x, dtype=np.float64) - self.input_shift) / self.input_scale)

    def _outward(self, u: Array) -> Array:
        return np.asarray(u * self.input_scale + self.input_shift)

    def _interval(self, method: str, low: float | None, high: float | None) -> tuple[float, float]:
        start, end = self.domain
        low, high = float(start if low is None else low), float(end if high is None else high)
        if not -math.inf < low <= high < math.inf:
            expected, got = "finite ends with low <= high", f"{low!r} and {high!r}"
            raise InvalidValueError(self._call(method), expected, got, "Change them")
        return low, high


@runtime_checkable
class EdgeLayer(Protocol):
    """What analyses ask of a layer, whatever its edges are made of.

    Edge arrays end in (out, in). `edge_values` has the mask in it and leaves the bias out.
    """

    in_features: int
    out_features: int
    bias: nn.Parameter
    mask: Tensor
    statistics: LayerStatistics | None

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out)."""

    def edge_values(self, x: Tensor) -> Tensor:
        """Return phi_oi(x_i), shape (batch, out, in)."""

    def edge_derivatives(self, x: Tensor) -> Tensor:
        """Return phi_oi'(x_i), shape (batch, out, in)."""

    def breakpoints(self) -> Tensor:
        """Return where pieces meet, shape (in, n)."""

    @property
    def piece_degree(self) -> int | None:
        """Degree of the pieces, None when they are analytic but no polynomials."""

    @property
    def degrees_of_freedom(self) -> int:
        """Number of free coefficients of one edge."""

    def edge_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound every edge on an interval of each input (in,), or on boxes (box, in)."""

    def edge_slope_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Bound the slope of every edge likewise; infinite where nothing is known."""

    def enclosure(self, low: Tensor, high: Tensor) -> Enclosure:
        """Return what encloses edges and slopes on boxes within those given."""

    def edge(self, out: int, in_: int) -> Edge:
        """Return one edge as an exact object."""

    def outside(self, x: Tensor) -> Tensor:
        """Tell which values lie outside the grid, shape (batch, in)."""

    def weight_l1(self, x: Tensor | None = None) -> Tensor:
        """Return the L1 norm of each edge's weights, shape (out, in)."""


def check_finite(call: str, name: str, value: float) -> None:
    """Refuse NaN and infinity."""
    if not math.isfinite(value):
        raise InvalidValueError(call, f"a finite {name}", repr(value), "Change it")
