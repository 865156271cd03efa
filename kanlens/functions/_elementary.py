"""The class of elementary functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kanlens._lazy import sympy
from kanlens.errors import MethodError

Array = np.ndarray[Any, np.dtype[np.float64]]

MAX_PERIODIC_POINTS = 1_000_000  # most turning points or poles that are listed one by one
FINITE = float(np.finfo(np.float64).max)
_SCAN = 40.0  # abs(u) beyond which no derivative of a base function changes sign
_HALVINGS = 60

Domain = Literal["real", "nonzero", "positive", "nonnegative", "unit", "open unit", "tangent"]
Interval: TypeAlias = tuple[float, float]
Scalar: TypeAlias = Callable[[Tensor], Tensor]
Symmetry = Literal["odd", "even"]

_ENDS: dict[str, Interval] = {
    "positive": (0.0, math.inf),
    "nonnegative": (0.0, math.inf),
    "unit": (-1.0, 1.0),
    "open unit": (-1.0, 1.0),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ElementaryFunction:
    """A function g of one variable u, with its properties."""

    name: str  # key into FUNCTIONS
    value: Scalar  # g(u), differentiable; NaN or infinite outside the domain
    derivative: Scalar  # g'(u), likewise
    expression: Callable[[Any], Any]  # from a sympy expression u to g(u)
    complexity: int  # weight in the choice between functions; 0 is a constant, 1 a straight line
    # where g is defined: everywhere, for u != 0, u > 0, u >= 0, in [-1, 1], in (-1, 1), except at
    # the poles of the tangent, or strictly between two numbers
    domain: Domain | Interval = "real"
    symmetry: Symmetry | None = None  # how g(-u) follows from g(u)
    degree: float | None = None  # p when g(s * u) == s**p * g(u) for every s > 0
    # turning points of g, g', g'' in this order, jumps included; those of derivatives not listed
    # follow from the closed form, or are unknown
    turns: tuple[tuple[float, ...], ...] = ()
    period: float | None = None  # after which turning points repeat, those of derivatives too
    turning_known: bool = True  # whether no turning point is missing in `turns`
    jumps: tuple[float, ...] = ()  # points of the domain where g jumps up
    kinks: tuple[float, ...] = ()  # where a derivative of any order jumps; g is analytic between
    searched: bool = True  # whether searches try it without being named
    line: float | None = None  # slope if g is a line through 0, which B-splines represent exactly
    torch_forms: tuple[Any, ...] = ()  # torch's module classes and functions that compute it
    # (g(u), g'(u)) in less time than one after the other
    together: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    # in float64 NumPy: from (u, n) to the n-th derivative, with limits at infinity, and from u to
    # the antiderivative that is 0 at 0
    closed_form: Callable[[Array, int], Array] | None = None
    primitive: Callable[[Array], Array] | None = None
    # from n to the isolated zeros of the n-th derivative, if a search near 0 could miss some
    zeros: Callable[[int], Array] | None = None

    def pair(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return g(u) and g'(u)."""
        return self.together(u) if self.together else (self.value(u), self.derivative(u))

    def nth(self, u: Array | float, n: int) -> Array:
        """Return the `n`-th derivative (0: the value) at `u`; closed forms include limits."""
        points = np.asarray(u, dtype=np.float64)
        if self.closed_form is None:
            form = self.derivative if n else self.value
            for _ in range(n - 1):
                form = slope_of(form)
            return np.asarray(form(torch.as_tensor(points)).numpy(force=True))
        with np.errstate(all="ignore"):  # pieces are evaluated where they are not selected
            return self.closed_form(points, n)

    def zeros_of_derivative(self, n: int) -> Array:
        """Return the isolated zeros of a derivative, up to the 7th, in one period."""
        return _zeros(self, n) if self.zeros is None else self.zeros(n)

    def turning(self, n: int = 0) -> tuple[float, ...] | None:
        """Return the turning points of the `n`-th derivative in one period; None if unknown."""
        if n < len(self.turns):
            return self.turns[n]
        if self.closed_form is None:
            return None
        return (*self.zeros_of_derivative(n + 1).tolist(), *(self.kinks if n else ()))

    def extremes(self, low: Tensor, high: Tensor, n: int = 0) -> tuple[Tensor, Tensor]:
        """Return the least and greatest `n`-th derivative on intervals.

        They are infinite if g is not defined throughout or its turning points are unknown; the
        greatest slope also if g jumps up. At kinks, both sides count.
        """

        def nth(u: Tensor) -> Tensor:
            if self.period is not None:  # no limit exists; any value will do
                u = u.masked_fill(u.isinf(), 0.0)
            return torch.as_tensor(self.nth(u.cpu().numpy(), n)).to(u.device)

        low, high, turning = low.detach().double(), high.detach().double(), self.turning(n)
        if turning is None or not self.turning_known:
            return torch.full_like(low, -math.inf), torch.full_like(high, math.inf)
        sides = [math.nextafter(kink, end) for kink in self.kinks for end in (-math.inf, math.inf)]
        points = (*turning, *sides)  # monotone between
        ends = nth(low), nth(high)
        lower, upper = torch.minimum(*ends), torch.maximum(*ends)
        for point, extreme in zip(points, nth(low.new_tensor(points)), strict=True):
            place = point if self.period is None else _first_after(low, point, self.period)
            inside = (low <= place) & (place <= high)
            lower = torch.where(inside, torch.minimum(lower, extreme), lower)
            upper = torch.where(inside, torch.maximum(upper, extreme), upper)
        for place in self.jumps if n else ():
            upper = torch.where((low <= place) & (place <= high), math.inf, upper)
        defined = self.defined(low.clamp(min=-FINITE), high.clamp(max=FINITE))
        defined &= ~(lower.isnan() | upper.isnan())
        return torch.where(defined, lower, -math.inf), torch.where(defined, upper, math.inf)

    @property
    def inert(self) -> float:
        """A point at which g is finite and smooth."""
        low, high = self.domain if isinstance(self.domain, tuple) else (0.0, 1.0)
        if low < 0.5 < high:
            return 0.5
        start = low if math.isfinite(low) else high - 1.0
        return start + 0.5 * (min(high, start + 1.0) - start)

    @property
    def ends(self) -> Interval:
        """The two ends of the domain."""
        if isinstance(self.domain, tuple):
            return self.domain
        return _ENDS.get(self.domain, (-math.inf, math.inf))

    def stretches(self, low: float, high: float) -> list[Interval]:
        """Return the intervals within ``[low, high]`` on which g is defined and monotone.

        They end at turning points, kinks, jumps, the ends of the domain (where g may be infinite)
        and next to poles; a jump itself is an interval of zero width.
        """
        first, last = self.ends
        if isinstance(self.domain, tuple):  # even the limits at its ends are unknown
            first, last = first + _beside(first), last - _beside(last)
        low, high = max(low, first), min(high, last)
        if not low <= high:
            return []
        turns = [*repeated(self.turning() or (), self.period, low, high), *self.kinks]
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
        """Return the mask of intervals ``[low, high]`` on which g is defined and finite."""
        if self.domain == "nonzero":
            return (low > 0) | (high < 0)
        if self.domain == "tangent":
            return _first_after(low, math.pi / 2, math.pi) > high
        first, last = self.ends
        closed = self.domain in ("nonnegative", "unit")
        above = low >= first if closed else low > first
        below = high <= last if closed or self.domain == "positive" else high < last
        return above & below


# a function that searches try only if named
unsearched = functools.partial(ElementaryFunction, searched=False)


def repeated(
    points: tuple[float, ...], period: float | None, low: float, high: float
) -> list[float]:
    """Return all points in ``[low, high]``, repeated with the period, in increasing order."""
    if period is None:
        return sorted(point for point in points if low <= point <= high)
    most = MAX_PERIODIC_POINTS // max(1, len(points))
    if high - low > most * period:
        got = f"{low:.6g} to {high:.6g}, of period {period:.6g}"
        raise MethodError("Edge", f"an interval of at most {most:,} periods", got, "Narrow it")
    first = [math.ceil((low - point) / period) for point in points]
    last = [math.floor((high - point) / period) for point in points]
    return sorted(
        point + k * period
        for point, start, stop in zip(points, first, last, strict=True)
        for k in range(start, stop + 1)
    )


@functools.lru_cache(maxsize=512)
def _zeros(function: ElementaryFunction, n: int) -> Array:
    """Find the few, simple zeros of one derivative by a fine scan."""
    grid = np.linspace(-_SCAN, _SCAN, 16384)  # even count: no grid point is 0
    zeros = sign_changes(lambda u: function.nth(u, n), grid)
    if function.period is not None:
        zeros = zeros[(zeros + 1e-9 >= 0.0) & (zeros + 1e-9 < function.period)]
    zeros = np.where(np.abs(zeros) < 1e-9, 0.0, zeros)
    zeros.flags.writeable = False
    return zeros


def sign_changes(function: Callable[[Array], Array], grid: Array) -> Array:
    """Return where a function changes sign between points, by bisection."""
    values = function(grid)
    start = np.flatnonzero(values[:-1] * values[1:] < 0)
    left, right, first = grid[start], grid[start + 1], np.sign(values[start])
    for _ in range(_HALVINGS):
        middle = 0.5 * (left + right)
        same = np.sign(function(middle)) == first
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    return np.asarray(0.5 * (left + right))


def slope_of(function: Scalar) -> Scalar:
    """Return the derivative of a function by automatic differentiation."""

    def derivative(u: Tensor) -> Tensor:
        with torch.inference_mode(mode=False), torch.enable_grad():
            own = u.clone() if u.is_inference() else u
            point = own if u.requires_grad else own.detach().requires_grad_()
            total = function(point).sum()
            if not total.requires_grad:
                return torch.zeros_like(u)
            (slope,) = torch.autograd.grad(total, point, create_graph=u.requires_grad)
        return slope

    return derivative


def of_sympy(name: str) -> Callable[[Any], Any]:
    """Return a function of sympy, which is loaded when it is called."""

    def function(u: object) -> object:
        return getattr(sympy, name)(u)

    return function


def _beside(place: float) -> float:
    """Return a distance from `place` that is larger than rounding; 0 at infinity."""
    return 4.0 * math.ulp(max(abs(place), 1.0)) if math.isfinite(place) else 0.0


def _first_after(low: Tensor, point: float, period: float) -> Tensor:
    """Return the first of point + k * period that is not below `low`."""
    return point + torch.ceil((low - point) / period) * period
