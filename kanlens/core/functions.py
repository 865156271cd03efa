"""Named elementary functions: what a symbolic edge is made of.

A symbolic edge is ``c * g(a * u + b) + d`` with g one entry of `FUNCTIONS`. Each entry knows its
value, its derivative, its expression in sympy (imported when first asked for), where it is
defined, and where it turns, so that the bounds of an edge over an interval are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from kanlens.checks import check_choice

Domain = Literal["real", "nonzero", "positive", "nonnegative", "unit", "open unit", "tangent"]
Symmetry = Literal["odd", "even"]


@dataclass(frozen=True, kw_only=True)
class ElementaryFunction:
    """One function g of one variable u.

    Attributes
    ----------
    name : str
        Key into ``FUNCTIONS``.
    value, derivative : callable
        ``g(u)`` and ``g'(u)``, Tensor to Tensor, differentiable; NaN or infinite outside the
        domain.
    expression : callable
        Takes a sympy expression u and returns the expression g(u).
    complexity : int
        Weight in the choice between functions; 0 is a constant, 1 a straight line.
    domain : str
        Where g is defined: everywhere ("real"), for u != 0, u > 0, u >= 0, u in [-1, 1],
        u in (-1, 1), or but for the poles of the tangent.
    symmetry : {"odd", "even"} or None
        How ``g(-u)`` follows from ``g(u)``.
    degree : float or None
        p when ``g(s * u) == s**p * g(u)`` for every s > 0.
    turning : tuple of float
        The points where g changes from rising to falling or back.
    period : float or None
        Distance after which the turning points repeat.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    expression: Callable[[Any], Any]
    complexity: int
    domain: Domain = "real"
    symmetry: Symmetry | None = None
    degree: float | None = None
    turning: tuple[float, ...] = ()
    period: float | None = None

    def defined(self, low: Tensor, high: Tensor) -> Tensor:
        """Say where g is defined and finite on the whole of ``[low, high]``.

        Parameters
        ----------
        low, high : Tensor
            Ends of the intervals, of one shape.

        Returns
        -------
        Tensor of bool
            Of that shape.

        Examples
        --------
        >>> FUNCTIONS["log"].defined(torch.tensor([-1.0, 1.0]), torch.tensor([2.0, 2.0]))
        tensor([False,  True])
        """
        if self.domain == "nonzero":
            return (low > 0) | (high < 0)
        if self.domain == "positive":
            return low > 0
        if self.domain == "nonnegative":
            return low >= 0
        if self.domain == "unit":
            return (low >= -1) & (high <= 1)
        if self.domain == "open unit":
            return (low > -1) & (high < 1)
        if self.domain == "tangent":
            return _first_after(low, math.pi / 2, math.pi) > high
        return torch.isfinite(low) & torch.isfinite(high)

    def bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the largest g(u) on ``[low, high]``.

        The function is monotone between its turning points, so the extremes lie at the ends or
        at a turning point. Where g is not defined throughout, the bounds are infinite.

        Parameters
        ----------
        low, high : Tensor
            Ends of the intervals, of one shape, ``low <= high``.

        Returns
        -------
        tuple of Tensor
            ``(lower, upper)``, of that shape.

        Examples
        --------
        >>> lower, upper = FUNCTIONS["sin"].bounds(torch.tensor(0.0), torch.tensor(3.0))
        >>> round(lower.item(), 6), round(upper.item(), 6)
        (0.0, 1.0)
        """
        at_low, at_high = self.value(low), self.value(high)
        lower, upper = torch.minimum(at_low, at_high), torch.maximum(at_low, at_high)
        for point in self.turning:
            place = torch.full_like(low, point)
            if self.period is not None:
                place = _first_after(low, point, self.period)
            extreme = self.value(torch.full_like(low, point))
            inside = (low <= place) & (place <= high)
            lower = torch.where(inside, torch.minimum(lower, extreme), lower)
            upper = torch.where(inside, torch.maximum(upper, extreme), upper)
        good = self.defined(low, high)
        infinite = torch.full_like(low, math.inf)
        return torch.where(good, lower, -infinite), torch.where(good, upper, infinite)


def _first_after(low: Tensor, point: float, period: float) -> Tensor:
    """Return the first of the places point + k * period that is at or after `low`."""
    return point + torch.ceil((low - point) / period) * period


def find_function(name: str, *, call: str = "find_function") -> ElementaryFunction:
    """Return the elementary function of that name or alias.

    Parameters
    ----------
    name : str
        A key of ``FUNCTIONS`` or ``ALIASES``.
    call : str
        The public call, for the error message.

    Returns
    -------
    ElementaryFunction

    Raises
    ------
    InvalidValueError
        If there is no function of that name.

    Examples
    --------
    >>> find_function("cos").name
    'sin'
    """
    known = ALIASES.get(name, name)
    check_choice(call, "function", known, FUNCTIONS)
    return FUNCTIONS[known]


def _sympy() -> Any:
    import sympy

    return sympy


def _power(name: str, exponent: int, complexity: int) -> ElementaryFunction:
    """Return u**exponent for an integer exponent other than 0."""
    even = exponent % 2 == 0
    return ElementaryFunction(
        name=name,
        value=lambda u: u**exponent,
        derivative=lambda u: exponent * u ** (exponent - 1),
        expression=lambda u: u**exponent,
        complexity=complexity,
        domain="real" if exponent > 0 else "nonzero",
        symmetry="even" if even else "odd",
        degree=float(exponent),
        turning=(0.0,) if even and exponent > 0 else (),
    )


def _half_power(name: str, halves: int, complexity: int) -> ElementaryFunction:
    """Return u**(halves / 2) for an odd number of halves."""
    exponent = halves / 2
    return ElementaryFunction(
        name=name,
        value=lambda u: u**exponent,
        derivative=lambda u: exponent * u ** (exponent - 1),
        expression=lambda u: u ** _sympy().Rational(halves, 2),
        complexity=complexity,
        domain="nonnegative" if halves > 0 else "positive",
        degree=exponent,
    )


_ALGEBRAIC = (
    ElementaryFunction(
        name="constant",
        value=torch.zeros_like,
        derivative=torch.zeros_like,
        expression=lambda u: _sympy().Integer(0),
        complexity=0,
    ),
    ElementaryFunction(
        name="x",
        value=lambda u: u,
        derivative=torch.ones_like,
        expression=lambda u: u,
        complexity=1,
        symmetry="odd",
        degree=1.0,
    ),
    _power("x^2", 2, 2),
    _power("x^3", 3, 3),
    _power("x^4", 4, 3),
    _power("x^5", 5, 3),
    _power("1/x", -1, 2),
    _power("1/x^2", -2, 2),
    _power("1/x^3", -3, 3),
    ElementaryFunction(
        name="x^3-x",  # with x^3+x, every cubic but for a, b, c and d
        value=lambda u: u**3 - u,
        derivative=lambda u: 3 * u**2 - 1,
        expression=lambda u: u**3 - u,
        complexity=4,
        symmetry="odd",
        turning=(-(3**-0.5), 3**-0.5),
    ),
    ElementaryFunction(
        name="x^3+x",
        value=lambda u: u**3 + u,
        derivative=lambda u: 3 * u**2 + 1,
        expression=lambda u: u**3 + u,
        complexity=4,
        symmetry="odd",
    ),
    _half_power("sqrt", 1, 2),
    _half_power("1/sqrt", -1, 3),
    _half_power("x^1.5", 3, 4),
    ElementaryFunction(
        name="1/(1+x^2)",
        value=lambda u: 1 / (1 + u**2),
        derivative=lambda u: -2 * u / (1 + u**2) ** 2,
        expression=lambda u: 1 / (1 + u**2),
        complexity=4,
        symmetry="even",
        turning=(0.0,),
    ),
    ElementaryFunction(
        name="abs",
        value=torch.abs,
        derivative=torch.sign,
        expression=lambda u: _sympy().Abs(u),
        complexity=3,
        symmetry="even",
        degree=1.0,
        turning=(0.0,),
    ),
    ElementaryFunction(
        name="sign",
        value=lambda u: torch.where(torch.isnan(u), u, torch.sign(u)),
        derivative=torch.zeros_like,
        expression=lambda u: _sympy().sign(u),
        complexity=3,
        symmetry="odd",
        degree=0.0,
    ),
    ElementaryFunction(
        name="relu",
        value=torch.relu,
        derivative=lambda u: (u > 0).to(u.dtype),
        expression=lambda u: _sympy().Max(u, 0),
        complexity=3,
        degree=1.0,
    ),
)

_TRANSCENDENTAL = (
    ElementaryFunction(
        name="exp",
        value=torch.exp,
        derivative=torch.exp,
        expression=lambda u: _sympy().exp(u),
        complexity=2,
    ),
    ElementaryFunction(
        name="log",
        value=torch.log,
        derivative=torch.reciprocal,
        expression=lambda u: _sympy().log(u),
        complexity=2,
        domain="positive",
    ),
    ElementaryFunction(
        name="sin",
        value=torch.sin,
        derivative=torch.cos,
        expression=lambda u: _sympy().sin(u),
        complexity=2,
        symmetry="odd",
        turning=(math.pi / 2, -math.pi / 2),
        period=2 * math.pi,
    ),
    ElementaryFunction(
        name="tan",
        value=torch.tan,
        derivative=lambda u: 1 + torch.tan(u) ** 2,
        expression=lambda u: _sympy().tan(u),
        complexity=3,
        domain="tangent",
        symmetry="odd",
    ),
    ElementaryFunction(
        name="tanh",
        value=torch.tanh,
        derivative=lambda u: 1 - torch.tanh(u) ** 2,
        expression=lambda u: _sympy().tanh(u),
        complexity=3,
        symmetry="odd",
    ),
    ElementaryFunction(
        name="arctan",
        value=torch.arctan,
        derivative=lambda u: 1 / (1 + u**2),
        expression=lambda u: _sympy().atan(u),
        complexity=4,
        symmetry="odd",
    ),
    ElementaryFunction(
        name="arcsin",
        value=torch.arcsin,
        derivative=lambda u: torch.rsqrt(1 - u**2),
        expression=lambda u: _sympy().asin(u),
        complexity=4,
        domain="unit",
        symmetry="odd",
    ),
    ElementaryFunction(
        name="arctanh",
        value=torch.arctanh,
        derivative=lambda u: 1 / (1 - u**2),
        expression=lambda u: _sympy().atanh(u),
        complexity=4,
        domain="open unit",
        symmetry="odd",
    ),
    ElementaryFunction(
        name="gaussian",
        value=lambda u: torch.exp(-(u**2)),
        derivative=lambda u: -2 * u * torch.exp(-(u**2)),
        expression=lambda u: _sympy().exp(-(u**2)),
        complexity=3,
        symmetry="even",
        turning=(0.0,),
    ),
    ElementaryFunction(
        name="cosh",
        value=torch.cosh,
        derivative=torch.sinh,
        expression=lambda u: _sympy().cosh(u),
        complexity=3,
        symmetry="even",
        turning=(0.0,),
    ),
)

FUNCTIONS: dict[str, ElementaryFunction] = {
    entry.name: entry for entry in (*_ALGEBRAIC, *_TRANSCENDENTAL)
}
"""Every elementary function by name, in the order of a table of functions."""

ALIASES: dict[str, str] = {
    "linear": "x",
    "cos": "sin",
    "sigmoid": "tanh",
    "square": "x^2",
    "1/x^0.5": "1/sqrt",
    "x^0.5": "sqrt",
    "lorentzian": "1/(1+x^2)",
}
"""Other names of the same families: with free phase and scale, cos is sin and sigmoid is tanh."""
