"""The families of functions an edge is compared with, and their starting points.

An edge is fitted on its input scaled to [-1, 1], so that one table of starting points serves
every edge. A family fixes which of a and b in ``c * g(a * u + b) + d`` are searched: the pairs
a, c and b, d say the same thing for many functions, and a parameter that says nothing new is
left out (powers have no a, the exponential no b). c and d always follow by least squares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import torch
from torch import Tensor

from kanlens.functions.catalog import FUNCTIONS, find_function
from kanlens.functions.elementary import ElementaryFunction

Moves = Literal["none", "shift", "scale", "both"]
_POLE_MARGIN = 10.0**-2.5  # nearest pole to the range [-1, 1]
_KINK = 0.95  # farthest kink from the middle of the range; further out it is none
_LARGEST_EXPONENT = 50.0  # exp(b) is folded into c only up to here
_STEEPEST = 30.0  # what rises faster than between two of the samples is a step
STEP = 2 / 63  # width over which a step is fitted, the distance of two of the samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """One function with the rule for its parameters on inputs in [-1, 1].

    Attributes
    ----------
    function : ElementaryFunction
        The function g.
    moves : {"none", "shift", "scale", "both"}
        Which of a and b are searched: neither, b, a, both.
    starts : Tensor, shape (row, column, 2)
        Grid of starting values (a, b); neighbours in the grid are neighbours in the search.
    lowest, highest : float
        u stays between them: off the poles, and where the function is defined.
    least, largest : float
        Limits of ``abs(a)`` where a is searched.
    widest : float
        Limit of ``abs(b) - abs(a)``: how far from all u of the range 0 may lie.
    """

    function: ElementaryFunction
    moves: Moves
    starts: Tensor
    lowest: float = -math.inf
    highest: float = math.inf
    least: float = 0.05
    largest: float = 80.0
    widest: float = 60.0

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.name

    def value(self, u: Tensor) -> Tensor:
        """Return what is fitted: the function, or a steep ramp in place of a step."""
        return (u / STEP).clamp(-1.0, 1.0) if self.name == "sign" else self.function.value(u)

    def derivative(self, u: Tensor) -> Tensor:
        """Return the derivative of `value`."""
        if self.name == "sign":
            return (u.abs() < STEP).to(u.dtype) / STEP
        return self.function.derivative(u)

    @property
    def parameters(self) -> int:
        """Number of free parameters, c and d included."""
        return 2 + {"none": 0, "shift": 1, "scale": 1, "both": 2}[self.moves]

    @cached_property
    def flat_starts(self) -> tuple[Tensor, Tensor]:
        """Starting values a and b, each of shape (start,)."""
        flat = self.starts.reshape(-1, 2)
        return flat[:, 0], flat[:, 1]

    @cached_property
    def rules(self) -> Tensor:
        """What `constrain` needs, shape (7,).

        Whether a and b move, lowest, highest, least, largest, widest.
        """
        scale, shift = self.moves in ("scale", "both"), self.moves in ("shift", "both")
        least, largest = (self.least, self.largest) if scale else (1.0, 1.0)
        limits = (self.lowest, self.highest, least, largest, self.widest)
        values = (float(scale), float(shift), *limits)
        return torch.tensor(values, dtype=torch.float64)

    def canonical(self, parameters: Tensor) -> Tensor:
        """Write parameters in the one form in which equal edges have equal parameters.

        Odd and even functions get a > 0, homogeneous ones ``abs(a) == 1``, the exponential
        b = 0 (unless that over- or underflows), the sine c > 0 and a phase in [0, 2 pi).

        Parameters
        ----------
        parameters : Tensor, shape (..., 4)
            a, b, c, d.

        Returns
        -------
        Tensor, shape (..., 4)
            The same functions.
        """
        a, b, c, d = parameters.unbind(-1)
        g = self.function
        if g.symmetry is not None:
            side = torch.where(a < 0, -1.0, 1.0)
            a, b = a * side, b * side
            c = c * side if g.symmetry == "odd" else c
        size = a.abs().clamp(min=torch.finfo(a.dtype).tiny)
        if g.degree is not None:
            a, b, c = a / size, b / size, c * size**g.degree
        if g.name == "log":
            a, b, d = a / size, b / size, d + c * torch.log(size)
        if g.name == "x":
            b, d = torch.zeros_like(b), d + c * b
        if g.name == "exp":
            fold = torch.where(b.abs() < _LARGEST_EXPONENT, b, 0.0)
            b, c = b - fold, c * torch.exp(fold)
        if g.name == "sin":
            b = torch.remainder(torch.where(c < 0, b + math.pi, b), 2 * math.pi)
            c = c.abs()
        return torch.stack((a, b, c, d), dim=-1)


def constrain(a: Tensor, b: Tensor, rules: Tensor) -> tuple[Tensor, Tensor]:
    """Move parameters to near ones that their families allow on inputs in [-1, 1].

    Parameters
    ----------
    a, b : Tensor, shape (fit,)
    rules : Tensor, shape (7, fit)
        The rules of each fit's family.

    Returns
    -------
    tuple of Tensor
        a and b, of the same shape.

    Examples
    --------
    >>> rules = library(["log"])[1].rules[:, None]
    >>> constrain(torch.ones(1).double(), torch.zeros(1).double(), rules)[1].round(decimals=3)
    tensor([1.0030], dtype=torch.float64)
    """
    _, _, lowest, highest, least, largest, widest = rules
    size = torch.minimum(
        torch.maximum(a.abs(), least), torch.minimum(largest, (highest - lowest) / 2)
    )
    room = widest + size
    b = torch.minimum(torch.maximum(b, -room), room)
    b = torch.minimum(torch.maximum(b, lowest + size), highest - size)
    return torch.where(a < 0, -size, size), b


def library(functions: Sequence[str] | None = None, *, call: str = "library") -> list[Family]:
    """Return the families of the named functions, or all of them.

    Parameters
    ----------
    functions : sequence of str, optional
        Names or aliases of elementary functions; the straight line is always there.
    call : str
        The public call, for the error message.

    Returns
    -------
    list of Family
        Each family once, in the order of the library; registered functions come last.

    Raises
    ------
    InvalidValueError
        If a name is unknown.

    Examples
    --------
    >>> [family.name for family in library(["cos", "exp"])]
    ['x', 'exp', 'sin']
    """
    known = {family.name for family in _FAMILIES} | {"constant"}
    added = [_added(g) for name, g in FUNCTIONS.items() if name not in known]
    if functions is None:
        return [*_FAMILIES, *(family for family in added if family.function.searched)]
    names = {find_function(name, call=call).name for name in functions} | {"x"}
    return [family for family in (*_FAMILIES, *added) if family.name in names]


def _grid(scales: Tensor, shifts: Tensor) -> Tensor:
    """Return the table of (a, b) over all pairs, shape (scale, shift, 2)."""
    return torch.stack(torch.meshgrid(scales, shifts, indexing="ij"), dim=-1)


def _one() -> Tensor:
    return torch.ones(1, dtype=torch.float64)


def _shift_starts(count: int, largest: float) -> Tensor:
    """Return a = 1 and shifts in [-largest, largest], denser near 0."""
    half = torch.linspace(-1.0, 1.0, count, dtype=torch.float64)
    return _grid(_one(), torch.sinh(half * math.asinh(largest)))


def _side_starts(lowest: float) -> Tensor:
    """Return a = -1 and 1 with the point u = 0 at log-spaced distances from the range."""
    distance = torch.logspace(-2.5, 1.3, 20, dtype=torch.float64)
    sides = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    return _grid(sides, 1.0 + distance.clamp(min=lowest))


def _ray_starts(lowest: float) -> Tensor:
    """Return scales of both signs, with u from close to `lowest` upwards to far from it."""
    scales = torch.logspace(-0.7, 1.0, 8, dtype=torch.float64)
    distance = torch.logspace(-2.3, 1.0, 12, dtype=torch.float64)
    starts = _grid(torch.cat((-scales.flip(0), scales)), distance)
    return torch.stack((starts[..., 0], lowest + starts[..., 0].abs() + starts[..., 1]), dim=-1)


def _kink_starts(*, sided: bool) -> Tensor:
    """Return a = 1 (and -1 if `sided`) with the kink inside the range."""
    sides = torch.tensor([-1.0, 1.0] if sided else [1.0], dtype=torch.float64)
    return _grid(sides, torch.linspace(-_KINK, _KINK, 39, dtype=torch.float64))


def _bump_starts(low: float, high: float) -> Tensor:
    """Return scales in [low, high] and centers in and around the range."""
    scales = torch.logspace(math.log10(low), math.log10(high), 14, dtype=torch.float64)
    centers = torch.linspace(-1.6, 1.6, 17, dtype=torch.float64)
    starts = _grid(scales, centers)
    return torch.stack((starts[..., 0], -starts[..., 0] * starts[..., 1]), dim=-1)


def _interval_starts(lowest: float, highest: float) -> Tensor:
    """Return scales and shifts for which u stays between two numbers."""
    middle, reach = (lowest + highest) / 2, (highest - lowest) / 2
    scale = reach * torch.linspace(0.1, 0.98, 14, dtype=torch.float64)
    side = torch.linspace(-1.0, 1.0, 13, dtype=torch.float64)
    starts = _grid(scale, side)
    room = (reach - starts[..., 0]) * starts[..., 1]
    return torch.stack((starts[..., 0], middle + room), dim=-1)


def _exponent_starts() -> Tensor:
    """Return positive and negative rates; b stays 0."""
    rates = torch.logspace(-1.0, 1.3, 16, dtype=torch.float64)
    return _grid(torch.cat((-rates.flip(0), rates)), torch.zeros(1, dtype=torch.float64))


def _frequency_starts() -> Tensor:
    """Return frequencies; the phase is solved for, not searched."""
    low = torch.tensor([0.4, 0.8, 1.2, 1.6], dtype=torch.float64)
    high = torch.linspace(2.0, 50.0, 62, dtype=torch.float64)
    return _grid(torch.cat((low, high)), torch.zeros(1, dtype=torch.float64))


def _family(name: str, moves: Moves, starts: Tensor, **rule: float) -> Family:
    return Family(function=find_function(name), moves=moves, starts=starts, **rule)


def _inside(name: str, reach: float, most: float) -> Family:
    """Return a family on an interval about 0; its starts stay within `reach`, its fits `most`."""
    return _family(name, "both", _interval_starts(-reach, reach), lowest=-most, highest=most)


@lru_cache(maxsize=64)
def _added(function: ElementaryFunction) -> Family:
    """Return the family of a registered function."""
    low, high = function.domain if isinstance(function.domain, tuple) else (-math.inf, math.inf)
    if function.degree is not None:  # a says nothing that c does not
        if low == 0.0:
            starts, lowest = _side_starts(_POLE_MARGIN), _POLE_MARGIN
        else:
            starts, lowest = _shift_starts(29, 8.0), low
        return _family(function.name, "shift", starts, lowest=lowest)
    if math.isfinite(low) and math.isfinite(high):
        margin = 1e-3 * (high - low)
        ends = {"lowest": low + margin, "highest": high - margin}
        return _family(function.name, "both", _interval_starts(**ends), least=0.0, **ends)
    if math.isfinite(low):
        lowest = low + _POLE_MARGIN
        return _family(function.name, "both", _ray_starts(lowest), lowest=lowest)
    if math.isfinite(high):
        highest = high - _POLE_MARGIN
        return _family(function.name, "both", -_ray_starts(-highest), highest=highest)
    return _family(function.name, "both", _bump_starts(0.3, 16.0), largest=_STEEPEST)


_FAMILIES: tuple[Family, ...] = (
    _family("x", "none", _grid(_one(), torch.zeros(1, dtype=torch.float64))),
    *(_family(f"x^{n}", "shift", _shift_starts(29, 8.0)) for n in (2, 3, 4, 5)),
    *(
        _family(name, "shift", _side_starts(_POLE_MARGIN), lowest=_POLE_MARGIN)
        for name in ("1/x", "1/x^2", "1/x^3", "1/x^4", "1/x^1.5", "1/sqrt", "log")
    ),
    *(_family(name, "shift", _side_starts(0.0), lowest=0.0) for name in ("sqrt", "x^1.5")),
    *(_family(name, "both", _bump_starts(0.2, 4.0), least=0.02) for name in ("x^3-x", "x^3+x")),
    _family("exp", "scale", _exponent_starts(), largest=20.0),
    _family("sin", "both", _frequency_starts(), least=0.2),
    _inside("tan", 1.55, 1.56),
    *(
        _family(name, "both", _bump_starts(0.3, _STEEPEST), least=0.1, largest=_STEEPEST)
        for name in ("arctan", "1/(1+x^2)", "sqrt(1+x^2)")
    ),
    *(
        _family(
            name, "both", _bump_starts(0.3, _STEEPEST), least=0.1, largest=_STEEPEST, widest=6.0
        )
        for name in ("tanh", "gaussian")
    ),
    *(
        _family(name, "both", _bump_starts(0.3, 8.0), least=0.1, largest=20.0, widest=12.0)
        for name in ("cosh", "sinh")
    ),
    _inside("arcsin", 1.0, 1.0),
    _inside("arctanh", 0.99, 0.999),
    _inside("1/sqrt(1-x^2)", 0.99, 0.999),
    _family("abs", "shift", _kink_starts(sided=False), widest=_KINK - 1.0),
    _family("sign", "shift", _kink_starts(sided=False), widest=_KINK - 1.0),
    _family("relu", "shift", _kink_starts(sided=True), widest=_KINK - 1.0),
)
