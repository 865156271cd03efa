"""The families of functions of edges, on inputs scaled to [-1, 1].

A family is a function g with the starting values and limits of a and b in ``c * g(a * u + b) + d``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Literal

import torch
from torch import Tensor

from kanlens.functions._catalog import FUNCTIONS, find_function
from kanlens.functions._elementary import ElementaryFunction

Moves = Literal["none", "shift", "scale", "both"]
_POLE_MARGIN = 10.0**-2.5  # least distance of a pole from the range [-1, 1]
_KINK = 0.95  # largest distance of a kink from the middle
_LARGEST_EXPONENT = 50.0  # up to which exp(b) is folded into c
_STEEPEST = 30.0  # largest scale; steeper functions are steps
STEP = 2 / 63  # width of a fitted step: the distance of samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """A function g with starting values and limits of its parameters, for inputs in [-1, 1]."""

    function: ElementaryFunction  # g
    moves: Moves  # which of a and b are searched: neither, b, a, both
    starts: Tensor  # (row, column, 2): grid of starting a, b; neighbors are close
    lowest: float = -math.inf  # limits of u: away from poles, in the domain
    highest: float = math.inf
    least: float = 0.05  # limits of abs(a) where a is searched
    largest: float = 80.0
    widest: float = 60.0  # limit of abs(b) - abs(a)

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.name

    def value(self, u: Tensor) -> Tensor:
        """Return g(u), or a steep ramp in place of a step function."""
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
    def flat_starts(self) -> tuple[Tensor, ...]:
        """Starting values a and b, each of shape (start,)."""
        return self.starts.reshape(-1, 2).unbind(1)

    @cached_property
    def rules(self) -> Tensor:
        """Flags that a and b are searched, then the limits in the order of the fields: (7,)."""
        scale, shift = self.moves in ("scale", "both"), self.moves in ("shift", "both")
        sizes = (self.least, self.largest) if scale else (1.0, 1.0)
        values = (scale, shift, self.lowest, self.highest, *sizes, self.widest)
        return torch.tensor(values, dtype=torch.float64)

    def canonical(self, parameters: Tensor) -> Tensor:
        """Return a, b, c, d (..., 4) in a normal form that is unique for each function."""
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
    """Return the nearest a and b (fit,) that `rules` (7, fit) allow."""
    _, _, lowest, highest, least, largest, widest = rules
    most = torch.minimum(largest, (highest - lowest) / 2)
    size = torch.minimum(torch.maximum(a.abs(), least), most)
    room = widest + size
    b = torch.minimum(torch.maximum(b, -room), room)
    b = torch.minimum(torch.maximum(b, lowest + size), highest - size)
    return torch.where(a < 0, -size, size), b


def library(functions: Sequence[str] | None = None, *, call: str = "library") -> list[Family]:
    """Return all families, or those of some names and the straight line."""
    names = {family.name for family in _FAMILIES} | {"constant"}
    added = [_added(g) for name, g in FUNCTIONS.items() if name not in names]
    if functions is None:
        return [*_FAMILIES, *(family for family in added if family.function.searched)]
    names = {find_function(name, call=call).name for name in functions} | {"x"}
    return [family for family in (*_FAMILIES, *added) if family.name in names]


def _grid(scales: Tensor | list[float], shifts: Tensor | list[float]) -> Tensor:
    """Return the table of (a, b) over all pairs, shape (scale, shift, 2)."""
    axes = [torch.as_tensor(axis, dtype=torch.float64) for axis in (scales, shifts)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


_linspace = partial(torch.linspace, dtype=torch.float64)
_logspace = partial(torch.logspace, dtype=torch.float64)


def _both_signs(scales: Tensor) -> Tensor:
    return torch.cat((-scales.flip(0), scales))


def _side_starts(lowest: float) -> Tensor:
    """Return a = -1 and 1 with b such that a u + b is 0 at log-spaced distances beyond [-1, 1]."""
    return _grid([-1.0, 1.0], 1.0 + _logspace(-2.5, 1.3, 20).clamp(min=lowest))


def _ray_starts(lowest: float) -> Tensor:
    """Return scales of both signs, with shifts that keep a u + b above `lowest`."""
    a, room = _grid(_both_signs(_logspace(-0.7, 1.0, 8)), _logspace(-2.3, 1.0, 12)).unbind(-1)
    return torch.stack((a, lowest + a.abs() + room), dim=-1)


def _bump_starts(low: float, high: float) -> Tensor:
    """Return scales in [low, high], and shifts that put centers in and around [-1, 1]."""
    scales, centers = _logspace(math.log10(low), math.log10(high), 14), _linspace(-1.6, 1.6, 17)
    a, center = _grid(scales, centers).unbind(-1)
    return torch.stack((a, -a * center), dim=-1)


def _interval_starts(lowest: float, highest: float) -> Tensor:
    """Return scales and shifts for which u stays between two numbers."""
    middle, reach = (lowest + highest) / 2, (highest - lowest) / 2
    a, side = _grid(reach * _linspace(0.1, 0.98, 14), _linspace(-1.0, 1.0, 13)).unbind(-1)
    return torch.stack((a, middle + (reach - a) * side), dim=-1)


def _families(names: str, moves: Moves, starts: Tensor, **rule: float) -> list[Family]:
    """Return families with equal starts and limits; names are separated by spaces."""
    functions = map(find_function, names.split())
    return [Family(function=g, moves=moves, starts=starts, **rule) for g in functions]


def _inside(names: str, reach: float, most: float) -> list[Family]:
    """Return families whose argument starts within `reach` and is limited by `most`."""
    return _families(names, "both", _interval_starts(-reach, reach), lowest=-most, highest=most)


@lru_cache(maxsize=64)
def _added(function: ElementaryFunction) -> Family:
    """Return the family of a registered function."""
    low, high = function.domain if isinstance(function.domain, tuple) else (-math.inf, math.inf)
    moves: Moves = "both"
    if function.degree is not None:  # a is redundant with c
        moves, lowest = "shift", _POLE_MARGIN if low == 0.0 else low
        starts = _side_starts(_POLE_MARGIN) if low == 0.0 else _SHIFTS
        rule = {"lowest": lowest}
    elif math.isfinite(low) and math.isfinite(high):
        margin = 1e-3 * (high - low)
        rule = {"lowest": low + margin, "highest": high - margin}
        starts = _interval_starts(**rule)
        rule["least"] = 0.0
    elif math.isfinite(low):
        rule = {"lowest": low + _POLE_MARGIN}
        starts = _ray_starts(**rule)
    elif math.isfinite(high):
        rule = {"highest": high - _POLE_MARGIN}
        starts = -_ray_starts(-rule["highest"])
    else:
        starts, rule = _bump_starts(0.3, 16.0), {"largest": _STEEPEST}
    return Family(function=function, moves=moves, starts=starts, **rule)


_SHIFTS = _grid([1.0], torch.sinh(_linspace(-1.0, 1.0, 29) * math.asinh(8.0)))  # denser near 0
_WITH_POLES = "1/x 1/x^2 1/x^3 1/x^4 1/x^1.5 1/sqrt log"
_STEEP = {"least": 0.1, "largest": _STEEPEST}
_RATES = _both_signs(_logspace(-1.0, 1.3, 16))  # of the exponential, whose b stays 0
_FREQUENCIES = [0.4, 0.8, 1.2, 1.6, *_linspace(2.0, 50.0, 62).tolist()]  # phases are solved for
_KINKS = _linspace(-_KINK, _KINK, 39)  # inside the range
_FAMILIES: tuple[Family, ...] = (
    *_families("x", "none", _grid([1.0], [0.0])),
    *_families("x^2 x^3 x^4 x^5", "shift", _SHIFTS),
    *_families(_WITH_POLES, "shift", _side_starts(_POLE_MARGIN), lowest=_POLE_MARGIN),
    *_families("sqrt x^1.5", "shift", _side_starts(0.0), lowest=0.0),
    *_families("x^3-x x^3+x", "both", _bump_starts(0.2, 4.0), least=0.02),
    *_families("exp", "scale", _grid(_RATES, [0.0]), largest=20.0),
    *_families("sin", "both", _grid(_FREQUENCIES, [0.0]), least=0.2),
    *_inside("tan", 1.55, 1.56),
    *_families("arctan 1/(1+x^2) sqrt(1+x^2)", "both", _bump_starts(0.3, _STEEPEST), **_STEEP),
    *_families("tanh gaussian", "both", _bump_starts(0.3, _STEEPEST), **_STEEP, widest=6.0),
    *_families("cosh sinh", "both", _bump_starts(0.3, 8.0), least=0.1, largest=20.0, widest=12.0),
    *_inside("arcsin", 1.0, 1.0),
    *_inside("arctanh 1/sqrt(1-x^2)", 0.99, 0.999),
    *_families("abs sign", "shift", _grid([1.0], _KINKS), widest=_KINK - 1.0),
    *_families("relu", "shift", _grid([-1.0, 1.0], _KINKS), widest=_KINK - 1.0),
)
