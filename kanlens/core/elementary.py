"""What an elementary function is: value, derivative, expression, domain and where it turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

Domain = Literal["real", "nonzero", "positive", "nonnegative", "unit", "open unit", "tangent"]
Interval: TypeAlias = tuple[float, float]
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
    domain : str or tuple of float
        Where g is defined: everywhere ("real"), for u != 0, u > 0, u >= 0, u in [-1, 1],
        u in (-1, 1), but for the poles of the tangent, or strictly between two numbers.
    symmetry : {"odd", "even"} or None
        How ``g(-u)`` follows from ``g(u)``.
    degree : float or None
        p when ``g(s * u) == s**p * g(u)`` for every s > 0.
    turning : tuple of float
        The points where g changes from rising to falling or back.
    period : float or None
        Distance after which the turning points repeat.
    turning_known : bool
        Whether `turning` is sure to be all of them.
    slope_turning : tuple of float or None
        The points where g' changes from rising to falling or back; None when they are not known.
    slope_period : float or None
        Distance after which those repeat.
    jumps : tuple of float
        The points of the domain where g jumps up.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    expression: Callable[[Any], Any]
    complexity: int
    domain: Domain | Interval = "real"
    symmetry: Symmetry | None = None
    degree: float | None = None
    turning: tuple[float, ...] = ()
    period: float | None = None
    turning_known: bool = True
    slope_turning: tuple[float, ...] | None = None
    slope_period: float | None = None
    jumps: tuple[float, ...] = ()

    @property
    def inert(self) -> float:
        """A point at which g is finite and smooth."""
        if not isinstance(self.domain, tuple):
            return 0.5
        low, high = self.domain
        if low < 0.5 < high:
            return 0.5
        start = low if math.isfinite(low) else high - 1.0
        return start + 0.5 * (min(high, start + 1.0) - start)

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
        >>> from kanlens.core.functions import FUNCTIONS
        >>> FUNCTIONS["log"].defined(torch.tensor([-1.0, 1.0]), torch.tensor([2.0, 2.0]))
        tensor([False,  True])
        """
        if isinstance(self.domain, tuple):
            return (low > self.domain[0]) & (high < self.domain[1])
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
        at a turning point. Where g is not defined throughout, or not all places where it turns are
        known, the bounds are infinite.

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
        >>> from kanlens.core.functions import FUNCTIONS
        >>> lower, upper = FUNCTIONS["sin"].bounds(torch.tensor(0.0), torch.tensor(3.0))
        >>> round(lower.item(), 6), round(upper.item(), 6)
        (0.0, 1.0)
        """
        lower, upper = _between_turns(self.value, low, high, self.turning, self.period)
        good = self.defined(low, high) & self.turning_known
        infinite = torch.full_like(low, math.inf)
        return torch.where(good, lower, -infinite), torch.where(good, upper, infinite)

    def slope_bounds(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the largest g'(u) on ``[low, high]``; at kinks, of both sides.

        Where g is not defined throughout, or when it is not known where g' turns, the bounds are
        infinite; where g jumps up, the upper one is.

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
        >>> from kanlens.core.functions import FUNCTIONS
        >>> FUNCTIONS["abs"].slope_bounds(torch.tensor(-1.0), torch.tensor(2.0))
        (tensor(-1.), tensor(1.))
        """
        turning = self.slope_turning or ()
        lower, upper = _between_turns(self.derivative, low, high, turning, self.slope_period)
        good = self.defined(low, high) & ~(lower.isnan() | upper.isnan())
        for place in self.jumps:
            upper = torch.where((low <= place) & (place <= high), math.inf, upper)
        good = good & (self.slope_turning is not None)
        infinite = torch.full_like(low, math.inf)
        return torch.where(good, lower, -infinite), torch.where(good, upper, infinite)


def _between_turns(
    function: Callable[[Tensor], Tensor],
    low: Tensor,
    high: Tensor,
    turning: tuple[float, ...],
    period: float | None,
) -> tuple[Tensor, Tensor]:
    """Return the extremes of a function that is monotone between its turning points."""
    at_low, at_high = function(low), function(high)
    lower, upper = torch.minimum(at_low, at_high), torch.maximum(at_low, at_high)
    for point in turning:
        place = torch.full_like(low, point)
        if period is not None:
            place = _first_after(low, point, period)
        extreme = function(torch.full_like(low, point))
        inside = (low <= place) & (place <= high)
        lower = torch.where(inside, torch.minimum(lower, extreme), lower)
        upper = torch.where(inside, torch.maximum(upper, extreme), upper)
    return lower, upper


def _first_after(low: Tensor, point: float, period: float) -> Tensor:
    """Return the first of the places point + k * period that is at or after `low`."""
    return point + torch.ceil((low - point) / period) * period
