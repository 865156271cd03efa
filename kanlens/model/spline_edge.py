"""A B-spline plus elementary functions as an exact object, and in the terms of SciPy.

``phi(x) = spline(u) + base_weight * base(u) + series(u)``, ``u = (x - input_shift) / input_scale``.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kanlens.checks import check_choice, check_positive
from kanlens.display import Displayed
from kanlens.functions.catalog import BASES
from kanlens.functions.elementary import Array, ElementaryFunction
from kanlens.functions.sums import FunctionSum
from kanlens.model.edge import Edge, check_finite
from kanlens.splines.pieces import Pieces, check_spline, spline_pieces


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EdgeFunction(Displayed, Edge):
    """The function on one edge: a B-spline plus a base activation, and a series of functions.

    Beyond the grid base and series go on as they are. The spline goes straight on from each end of
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
    series : FunctionSum
        Bumps, waves or other elementary functions of u beside them; empty for most edges.
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

    knots: Array
    coefficients: Array
    degree: int
    base_weight: float = 0.0
    base: str = "silu"
    extrapolation: str = "linear"
    series: FunctionSum = field(default_factory=FunctionSum)

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

    def _line(self) -> str:
        low, high = self.domain
        pieces = len(self.knots) - 2 * self.degree - 1
        spline = f"spline of degree {self.degree}, {pieces} pieces on [{low:.4g}, {high:.4g}]"
        count = len(self.series.weights)
        beside = f", {count} functions beside it" if count else ""
        return f"{self.name} {spline} + {self.base_weight:.4g} * {self.base}{beside}"

    @property
    def domain(self) -> tuple[float, float]:
        """Ends of the grid, in units of x."""
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

    def scaled(self, factor: float) -> EdgeFunction:
        """Return `factor` times the edge.

        Examples
        --------
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
        >>> tent.scaled(-2.0).bounds()
        (-2.0, 0.0)
        """
        return dataclasses.replace(
            self,
            coefficients=factor * self.coefficients,
            base_weight=factor * self.base_weight,
            series=self.series.scaled(factor),
        )

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
        from scipy.interpolate import PPoly

        powers, breaks = self._pieces.coefficients.copy(), self._pieces.breaks
        powers[0, 0] -= powers[0, 1]  # the first piece is straight and starts one unit earlier here
        ends = np.concatenate(([breaks[0] - 1.0], breaks, [breaks[-1] + 1.0]))
        powers /= self.input_scale ** np.arange(powers.shape[1])
        return ScipyEdge(
            spline=PPoly(powers.T[::-1], self._outward(ends), extrapolate=True),
            base_weight=self.base_weight,
            activation=BASES[self.base],
            series=self.series,
            input_shift=self.input_shift,
            input_scale=self.input_scale,
        )

    @functools.cached_property
    def _pieces(self) -> Pieces:
        return spline_pieces(
            self.knots,
            self.coefficients,
            self.degree,
            extrapolation=self.extrapolation,
            functions=self.functions,
        )

    @functools.cached_property
    def functions(self) -> FunctionSum:
        """The base and the series as one sum of elementary functions of u."""
        one, zero = np.ones(1), np.zeros(1)
        base = FunctionSum(
            functions=(BASES[self.base],), a=one, b=zero, weights=self.base_weight * one
        )
        return base + self.series

    def _nth(self, x: Array | float, order: int) -> Array:
        u = self._inward(x)
        piece = self._pieces.locate(u)
        if order:
            end = self.knots[-self.degree - 1]
            inside = int(np.searchsorted(self._pieces.breaks, end, side="left"))
            piece = np.where((u == end) | (np.asarray(x) == self.domain[1]), inside, piece)
        return self._pieces.value(u, piece, order)

    def _span(self, low: float, high: float) -> tuple[float, float]:
        return float(self._inward(low)), float(self._inward(high))

    def _integral(self, a: float, b: float) -> float:
        at = self._pieces.antiderivative(self._inward([a, b]))
        return float((at[1] - at[0]) * self.input_scale)

    def _roots(self, low: float, high: float, level: float) -> Array:
        return self._outward(self._pieces.roots(*self._span(low, high), level))

    def _extrema(self, low: float, high: float) -> Array:
        return self._outward(self._pieces.extrema(*self._span(low, high)))

    def _bounds(self, low: float, high: float) -> tuple[float, float]:
        points, piece = self._pieces.critical(*self._span(low, high))
        values = self._pieces.value(points, piece)
        if not np.isfinite(values).all():
            return -np.inf, np.inf
        return float(values.min()), float(values.max())

    def _expression(self, x: Any) -> Any:
        import sympy

        powers = self._pieces.coefficients
        powers = powers / self.input_scale ** np.arange(powers.shape[1])
        starts, ends = self._outward(self._pieces.origins), self.breakpoints
        terms = [_polynomial(x - float(s), row) for s, row in zip(starts, powers, strict=True)]
        inside = [x < float(end) for end in ends]
        total = sympy.Piecewise(*zip(terms, [*inside, True], strict=True))
        plain = (self.input_shift, self.input_scale) == (0.0, 1.0)
        return total + self.functions.expression(
            x if plain else (x - self.input_shift) / self.input_scale
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ScipyEdge:
    """An edge in SciPy's terms, callable: ``spline(x) + base_weight * base(x) + series``.

    Base and series are taken at ``(x - input_shift) / input_scale``.
    """

    spline: Any  # a PPoly in units of x, continued outside the grid as the edge is
    base_weight: float
    activation: ElementaryFunction  # what `base` evaluates
    series: FunctionSum
    input_shift: float
    input_scale: float

    def base(self, x: Array | float) -> Array:
        """Return the base activation at `x`."""
        return self.activation.nth(self._inner(x), 0)

    def _inner(self, x: Array | float) -> Array:
        return np.asarray((np.asarray(x, dtype=np.float64) - self.input_shift) / self.input_scale)

    def __call__(self, x: Array | float) -> Array:
        """Return the edge's value at `x`."""
        beside = self.base_weight * self.base(x) + self.series.nth(self._inner(x), 0)
        return np.asarray(self.spline(x) + beside)


def _polynomial(offset: Any, powers: Array) -> Any:
    """Sum the powers of a sympy expression."""
    return sum((float(c) * offset**power for power, c in enumerate(powers) if c), 0)
