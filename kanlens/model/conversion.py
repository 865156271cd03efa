"""An edge in the terms of SciPy and of SymPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kanlens.functions.activations import Array, BaseActivation
from kanlens.splines.pieces import Pieces


@dataclass(frozen=True, kw_only=True, eq=False)
class ScipyEdge:
    """An edge in SciPy's terms: ``spline(x) + base_weight * base(x)``.

    Call it to evaluate the sum.

    Attributes
    ----------
    spline : scipy.interpolate.PPoly
        In units of x, continued outside the grid as the edge is.
    base_weight : float
        Factor of the base activation.
    activation : BaseActivation
        What `base` evaluates, at ``(x - input_shift) / input_scale``.
    input_shift, input_scale : float

    Examples
    --------
    >>> from kanlens.model.edge import EdgeFunction
    >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1)
    >>> tent.to_scipy()(np.array([0.5, 3.0]))
    array([ 0.5, -1. ])
    """

    spline: Any
    base_weight: float
    activation: BaseActivation
    input_shift: float
    input_scale: float

    def base(self, x: Array | float) -> Array:
        """Return the base activation at `x`.

        Examples
        --------
        >>> from kanlens.model.edge import EdgeFunction
        >>> tent = EdgeFunction(knots=range(-1, 4), coefficients=[0, 1, 0], degree=1, base="tanh")
        >>> tent.to_scipy().base(np.zeros(1))
        array([0.])
        """
        u = (np.asarray(x, dtype=np.float64) - self.input_shift) / self.input_scale
        return self.activation.nth(u, 0)

    def __call__(self, x: Array | float) -> Array:
        """Return the edge's value at `x`."""
        return np.asarray(self.spline(x) + self.base_weight * self.base(x))


def scipy_edge(pieces: Pieces, shift: float, scale: float) -> ScipyEdge:
    """Write pieces in u as a function of ``x = shift + scale * u`` in SciPy's terms.

    Parameters
    ----------
    pieces : Pieces
    shift, scale : float

    Returns
    -------
    ScipyEdge

    Examples
    --------
    >>> from kanlens.splines.pieces import spline_pieces
    >>> tent = spline_pieces(np.arange(-1.0, 4.0), np.array([0.0, 1.0, 0.0]), 1)
    >>> scipy_edge(tent, 100.0, 10.0).spline(105.0).item()
    0.5
    """
    from scipy.interpolate import PPoly

    powers, breaks = pieces.coefficients.copy(), pieces.breaks
    powers[0, 0] -= powers[0, 1]  # the first piece is straight and starts one unit earlier here
    ends = np.concatenate(([breaks[0] - 1.0], breaks, [breaks[-1] + 1.0]))
    powers /= scale ** np.arange(powers.shape[1])
    return ScipyEdge(
        spline=PPoly(powers.T[::-1], shift + scale * ends, extrapolate=True),
        base_weight=pieces.weight,
        activation=pieces.base,
        input_shift=shift,
        input_scale=scale,
    )


def sympy_edge(pieces: Pieces, shift: float, scale: float, symbol: Any = None) -> Any:
    """Write pieces in u as a sympy expression of ``x = shift + scale * u``.

    Parameters
    ----------
    pieces : Pieces
    shift, scale : float
    symbol : sympy.Expr, optional
        Stands for x. Default: ``Symbol("x")``.

    Returns
    -------
    sympy.Expr

    Examples
    --------
    >>> from kanlens.splines.pieces import spline_pieces
    >>> tent = spline_pieces(np.arange(-1.0, 4.0), np.array([0.0, 1.0, 0.0]), 1)
    >>> sympy_edge(tent, 100.0, 10.0).subs("x", 120)
    0
    """
    import sympy

    x = sympy.Symbol("x") if symbol is None else symbol
    powers = pieces.coefficients / scale ** np.arange(pieces.coefficients.shape[1])
    starts, ends = shift + scale * pieces.origins, shift + scale * pieces.breaks
    terms = [_polynomial(x - float(s), row) for s, row in zip(starts, powers, strict=True)]
    inside = [x < float(end) for end in ends]
    total = sympy.Piecewise(*zip(terms, [*inside, True], strict=True))
    if pieces.weight:
        u = x if (shift, scale) == (0.0, 1.0) else (x - shift) / scale
        total += pieces.weight * pieces.base.sympy(u)
    return total


def _polynomial(offset: Any, powers: Array) -> Any:
    """Sum the powers of a sympy expression."""
    return sum((float(c) * offset**power for power, c in enumerate(powers) if c), 0)
