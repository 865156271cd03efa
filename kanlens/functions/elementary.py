"""What an elementary function is: value, derivative, expression, domain and where it turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import MethodError

MOST = 1_000_000  # turning points or poles that are counted one by one

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
    kinks : tuple of float
        The points of the domain where the slope of g jumps.
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
    kinks: tuple[float, ...] = ()

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

    @property
    def ends(self) -> Interval:
        """The least and the greatest u of the domain, or what it comes close to."""
        if isinstance(self.domain, tuple):
            return self.domain
        if self.domain in ("positive", "nonnegative"):
            return 0.0, math.inf
        return (-1.0, 1.0) if self.domain in ("unit", "open unit") else (-math.inf, math.inf)

    def stretches(self, low: float, high: float) -> list[Interval]:
        """Return the stretches of ``[low, high]`` on each of which g is defined and monotone.

        They end at turning points, kinks, jumps and where the domain ends, and just beside poles.
        At the end of a domain that does not hold its ends, g may be infinite.

        Parameters
        ----------
        low, high : float

        Returns
        -------
        list of tuple of float
            Increasing; the value at a jump is a stretch of no width.

        Examples
        --------
        >>> from kanlens.functions.catalog import FUNCTIONS
        >>> FUNCTIONS["sqrt"].stretches(-1.0, 4.0)
        [(0.0, 4.0)]
        >>> FUNCTIONS["x^2"].stretches(-1.0, 4.0)
        [(-1.0, 0.0), (0.0, 4.0)]
        """
        first, last = self.ends
        if isinstance(self.domain, tuple):  # where no more is known, not even a limit
            first, last = first + _beside(first), last - _beside(last)
        low, high = max(low, first), min(high, last)
        if not low <= high:
            return []
        turns = [*repeated(self.turning, self.period, low, high), *self.kinks]
        cuts = [(turn, turn) for turn in turns if low < turn < high]
        for place in self.jumps:
            cuts.append((math.nextafter(place, -math.inf), place))
            cuts.append((place, math.nextafter(place, math.inf)))
        if self.domain == "nonzero":
            cuts.append((math.nextafter(0.0, -1.0), math.nextafter(0.0, 1.0)))
        if self.domain == "tangent":
            poles = repeated((math.pi / 2,), math.pi, low - 1.0, high + 1.0)
            cuts += [(pole - _beside(pole), pole + _beside(pole)) for pole in poles]
        cuts.sort()
        starts = [low, *(max(low, right) for _, right in cuts)]
        stops = [*(min(high, left) for left, _ in cuts), high]
        return [(a, b) for a, b in zip(starts, stops, strict=True) if a <= b]

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
        >>> from kanlens.functions.catalog import FUNCTIONS
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
        >>> from kanlens.functions.catalog import FUNCTIONS
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
        >>> from kanlens.functions.catalog import FUNCTIONS
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


def repeated(
    points: tuple[float, ...], period: float | None, low: float, high: float
) -> list[float]:
    """Return the points of ``[low, high]``, with their repetitions, increasing.

    Raises
    ------
    MethodError
        If there are more than a million.

    Examples
    --------
    >>> repeated((0.5,), 2.0, -1.0, 5.0)
    [0.5, 2.5, 4.5]
    """
    if period is None:
        return sorted(point for point in points if low <= point <= high)
    if len(points) * (high - low) > MOST * period:
        got = f"{low:.6g} to {high:.6g}, of period {period:.6g}"
        text = message("FunctionEdge", f"an interval of at most {MOST:,} turns", got, "Narrow it")
        raise MethodError(text)
    first = [math.ceil((low - point) / period) for point in points]
    last = [math.floor((high - point) / period) for point in points]
    return sorted(
        point + k * period
        for point, start, stop in zip(points, first, last, strict=True)
        for k in range(start, stop + 1)
    )


def _beside(place: float) -> float:
    """Return a distance that rounding does not swallow; 0 at infinity."""
    return 4.0 * math.ulp(max(abs(place), 1.0)) if math.isfinite(place) else 0.0


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
