"""Rational functions, Gaussians and wavelets, the edge functions of other libraries."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.polynomial import Polynomial
from numpy.polynomial.polynomial import polyder, polyint, polyval
from torch import Tensor

from kanlens._lazy import special, sympy
from kanlens.functions._activations import decaying, tanh_integral, tanh_nth, tanh_slope
from kanlens.functions._elementary import Array, ElementaryFunction, of_sympy, unsearched

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d{1,3})?"
_NUMBERS = rf"{_NUMBER}(?:,{_NUMBER}){{0,15}}"
RATIONAL = re.compile(rf"rational\((?P<top>{_NUMBERS});(?P<even>\|?)(?P<bottom>{_NUMBERS})\|?\)")
_BESIDE = 1e-12  # distance from a kink to either side
# abs(u) from which signs are those at infinity; relative size of leading terms that are rounding
_INFINITY, _LEADING_TOLERANCE = 1e30, 1e-13
_IMAGINARY_TOLERANCE = 1e-5  # relative imaginary part that rounding gives a real double root


def rational_name(top: Sequence[float], bottom: Sequence[float], *, even: bool = False) -> str:
    """Return the name of P(u) / (1 + abs(Q(v))); v is abs(u) if `even`.

    Coefficients are constant first: u / (1 + 2 abs(u)) is ``rational(0.0,1.0;|0.0,2.0|)``.
    """
    numbers, bar = [",".join(repr(float(n)) for n in part) for part in (top, bottom)], "|" * even
    return f"rational({numbers[0]};{bar}{numbers[1]}{bar})"


@functools.lru_cache(maxsize=1024)
def rational(name: str) -> ElementaryFunction:
    """Return the function of a name that `RATIONAL` matches.

    Turning points include those that the formula of a piece has outside its interval.
    """
    part: Any = RATIONAL.fullmatch(name)
    even = bool(part["even"])
    top, bottom = ([float(n) for n in part[key].split(",")] for key in ("top", "bottom"))

    def expression(u: sympy.Expr) -> sympy.Expr:
        v = sympy.Abs(u) if even else u
        q = sum(c * v**k for k, c in enumerate(bottom))
        return sum(c * u**k for k, c in enumerate(top)) / (1 + sympy.Abs(q))

    pieces = _pieces(top, bottom, even)
    kinks = {root for piece in pieces for root in _roots(piece.inner) if piece.half * root >= 0}
    kinks |= {0.0} if even else set()
    sides = [k + s * _BESIDE * (1 + abs(k)) for k in kinks for s in (-1, 1)]

    def zeros(n: int) -> Array:
        roots = [root for piece in pieces for root in _roots(piece.numerator(n))]
        return np.unique([*roots, *sides])  # rounding moves the jumps at kinks

    return ElementaryFunction(
        name=name,
        value=lambda u: _ratio(top, bottom, even, u)[0],
        derivative=lambda u: _ratio(top, bottom, even, u)[1],
        expression=expression,
        complexity=len(top) + len(bottom),
        kinks=tuple(sorted(kinks)),
        searched=False,
        closed_form=lambda u, n: np.select(
            [piece.where(u) for piece in pieces], [piece.nth(u, n) for piece in pieces], math.nan
        ),
        zeros=zeros,
    )


@dataclass(frozen=True)
class _Piece:
    """P / (1 + sign * inner), valid where ``half * u >= 0`` and ``sign * inner >= 0``."""

    top: Polynomial
    inner: Polynomial
    sign: int
    half: int

    @property
    def whole(self) -> Polynomial:
        return 1.0 + self.inner * float(self.sign)

    def where(self, u: Array) -> Any:
        """Return the mask of u at which the piece is the function."""
        near = np.clip(u, -_INFINITY, _INFINITY)
        return (self.half * near >= 0) & (self.sign * self.inner(near) >= 0)

    def numerator(self, n: int) -> Polynomial:
        """Return the numerator of the n-th derivative over ``whole ** (n + 1)``."""
        top = self.top
        for k in range(1, n + 1):
            top = top.deriv() * self.whole - top * self.whole.deriv() * float(k)
        return top.trim(_LEADING_TOLERANCE * float(np.abs(top.coef).max(initial=0.0)))

    def nth(self, u: Array, n: int) -> Array:
        """Return the n-th derivative, with limits at infinity."""
        over, under = self.numerator(n), self.whole ** (n + 1)
        gap = over.degree() - under.degree()
        limit = 0.0 if gap < 0 else over.coef[-1] / under.coef[-1] * (math.inf if gap else 1.0)
        within = np.where(np.isinf(u), 0.0, u)
        values = over(within) / self.whole(within) ** (n + 1)
        return np.asarray(np.where(np.isinf(u), limit * np.sign(u) ** max(gap, 0), values))


def _pieces(top: Sequence[float], bottom: Sequence[float], even: bool) -> list[_Piece]:
    p, q = Polynomial(top), Polynomial(bottom).trim()
    halves = ((q, 1), (q(Polynomial([0.0, -1.0])), -1)) if even else ((q, 0),)
    return [_Piece(p, inner, sign, half) for inner, half in halves for sign in (1, -1)]


def _ratio(
    top: Sequence[float], bottom: Sequence[float], even: bool, u: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the function and its slope (at a kink, that of one side)."""
    v, sign = (u.abs(), torch.sign(u)) if even else (u, torch.ones_like(u))
    p, q = _value(top, u), _value(bottom, v)
    whole, rise = 1 + q.abs(), torch.sign(q) * sign * _value(polyder(bottom).tolist(), v)
    return p / whole, (_value(polyder(top).tolist(), u) - p * rise / whole) / whole


def _value(coefficients: Sequence[float], u: Tensor) -> Tensor:
    """Evaluate a polynomial by Horner's rule."""
    total = torch.full_like(u, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * u + c
    return total


def _roots(polynomial: Polynomial) -> list[float]:
    roots = np.asarray(polynomial.roots(), dtype=np.complex128)
    real = np.abs(roots.imag) <= _IMAGINARY_TOLERANCE * (1 + np.abs(roots))
    return [float(root) for root in roots.real[real]]


FREQUENCY = 5.0  # of the Morlet wavelet
ZERO_BEYOND = 40.0  # abs(u) from which the Gaussian factor is 0 in float64
_HALF = 2**-0.5


def gaussian_nth(u: Array, n: int) -> Array:
    """Return the n-th derivative of exp(-u**2)."""
    return decaying(_HALF**-n * (-1.0) ** n, n, u / _HALF)


def gaussian_integral(u: Array) -> Array:
    """Integrate exp(-u**2) from 0 to u."""
    return np.asarray(0.5 * math.sqrt(math.pi) * special.erf(u), dtype=np.float64)


def _morlet_nth(u: Array, n: int) -> Array:
    """Differentiate cos(5 u) exp(-u**2 / 2) by Leibniz' rule."""
    u, total = np.clip(u, -ZERO_BEYOND, ZERO_BEYOND), np.zeros_like(u)
    for k in range(n + 1):
        wave = np.cos(FREQUENCY * u + k * math.pi / 2)
        total += wave * decaying(math.comb(n, k) * FREQUENCY**k * (-1.0) ** (n - k), n - k, u)
    return total


def _morlet_integral(u: Array) -> Array:
    tail = special.erf((u - 1j * FREQUENCY) * _HALF).real
    return np.asarray(math.sqrt(math.pi / 2) * math.exp(-(FREQUENCY**2) / 2) * tail)


def _morlet_slope(u: Tensor) -> Tensor:
    wave = FREQUENCY * torch.sin(FREQUENCY * u) + u * torch.cos(FREQUENCY * u)
    return -wave * torch.exp(-0.5 * u * u)


def _morlet_turns(n: int) -> tuple[float, ...]:
    """Return the zeros of the wavelet's n-th derivative within 38 of 0, n = 1, 2, 3."""
    target, u = (np.arange(-60, 61) + 0.5) * math.pi, np.zeros(121)
    for _ in range(40):
        w = FREQUENCY * 1j - u
        rest = {1: 0 * w, 2: -1 / w**2, 3: -3 / w**2}[n]
        u = (target - n * np.angle(w) - np.angle(1 + rest)) / FREQUENCY
    return tuple(u[np.abs(u) < 38.0].tolist())


_QUARTIC = (1.0, 0.0, -2.0, 0.0, 1.0)  # (1 - u**2)**2, constant first


def _quartic_nth(u: Array, n: int) -> Array:
    u, outside = np.clip(u, -1.0, 1.0), np.abs(u) >= 1
    bump = (1 - u) * (1 + u)  # factors keep the digits near its zeros
    forms = {0: bump**2, 1: -4 * u * bump}
    inside = forms[n] if n in forms else polyval(u, polyder(_QUARTIC, n))
    return np.asarray(np.where(outside, 0.0, inside))


def _window(u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the Meyer wavelet's window of abs(u), a cosine.

    Also return the sine of its angle, and the slope of the ramp that the angle follows.
    """
    t = (2 * u.abs() - 1).clamp(0.0, 1.0)
    s = torch.minimum(t, 1 - t)  # the ramp mirrors itself
    low = 0.5 * math.pi * s**4 * (35 - 84 * s + 70 * s**2 - 20 * s**3)
    window, across = torch.cos(low), torch.sin(low)
    first = t <= 0.5
    rise = 140 * (s * (1 - s)) ** 3
    return torch.where(first, window, across), torch.where(first, across, window), rise


def _meyer_slope(u: Tensor) -> Tensor:
    (window, across, rise), wave = _window(u), math.pi * u.abs()
    slope = torch.cos(wave) * window - rise * across * torch.sin(wave)
    return math.pi * torch.sign(u) * slope


def _meyer_sympy(u: sympy.Expr) -> sympy.Expr:
    size = sympy.Abs(u)
    t = sympy.Min(sympy.Max(2 * size - 1, 0), 1)
    ramp = t**4 * (35 - 84 * t + 70 * t**2 - 20 * t**3)
    return sympy.sin(sympy.pi * size) * sympy.cos(sympy.pi * ramp / 2)


_MEYER = 0.8368669387706247, 0.686974599052534, 0.5334814166974300, 0.5  # turns of g'' above 0


def _mirrored(*places: float) -> tuple[float, ...]:
    return tuple(sorted((*places, *(-place for place in places))))


def _sinc_slope(u: Tensor) -> Tensor:
    near = u.abs() < 1e-2
    far = torch.where(near, 1.0, u)
    series = u * (-1 / 3 + u**2 * (1 / 30 - u**2 * (1 / 840 - u**2 / 45360)))
    return torch.where(near, series, (torch.cos(far) - torch.sin(far) / far) / far)


LOCALIZED = (
    unsearched(
        name="sech^2",
        value=tanh_slope,
        derivative=lambda u: -2 * torch.tanh(u) * tanh_slope(u),
        expression=lambda u: 1 / sympy.cosh(u) ** 2,
        complexity=4,
        symmetry="even",
        closed_form=lambda u, n: tanh_nth(u, n + 1),
        primitive=np.tanh,
    ),
    unsearched(
        name="relu(1-x^2)^2",
        value=lambda u: torch.relu(1 - u**2) ** 2,
        derivative=lambda u: -4 * u * torch.relu(1 - u**2),
        expression=lambda u: sympy.Max(1 - u**2, 0) ** 2,
        complexity=4,
        symmetry="even",
        kinks=(-1.0, 1.0),
        closed_form=_quartic_nth,
        primitive=lambda u: np.asarray(polyval(np.clip(u, -1.0, 1.0), polyint(_QUARTIC))),
    ),
    unsearched(  # second derivative of exp(-u**2 / 2)
        name="mexican hat",
        value=lambda u: (u**2 - 1) * torch.exp(-0.5 * u**2),
        derivative=lambda u: u * (3 - u**2) * torch.exp(-0.5 * u**2),
        expression=lambda u: (u**2 - 1) * sympy.exp(-(u**2) / 2),
        complexity=4,
        symmetry="even",
        closed_form=lambda u, n: decaying((-1.0) ** n, n + 2, u),
        primitive=lambda u: decaying(-1.0, 1, u),
    ),
    unsearched(
        name="dog",  # derivative of exp(-u**2 / 2)
        value=lambda u: -u * torch.exp(-0.5 * u**2),
        derivative=lambda u: (u**2 - 1) * torch.exp(-0.5 * u**2),
        expression=lambda u: -u * sympy.exp(-(u**2) / 2),
        complexity=4,
        symmetry="odd",
        closed_form=lambda u, n: decaying((-1.0) ** (n + 1), n + 1, u),
        primitive=lambda u: np.expm1(-0.5 * u * u),
    ),
    unsearched(
        name="morlet",
        value=lambda u: torch.cos(FREQUENCY * u) * torch.exp(-0.5 * u**2),
        derivative=_morlet_slope,
        expression=lambda u: sympy.cos(FREQUENCY * u) * sympy.exp(-(u**2) / 2),
        complexity=5,
        symmetry="even",
        turns=tuple(_morlet_turns(n) for n in (1, 2, 3)),
        closed_form=_morlet_nth,
        primitive=_morlet_integral,
    ),
    unsearched(
        name="meyer",
        value=lambda u: torch.sin(math.pi * u.abs()) * _window(u)[0],
        derivative=_meyer_slope,
        expression=_meyer_sympy,
        complexity=6,
        symmetry="even",
        turns=((-0.5, 0.0, 0.5), _mirrored(0.7582111979308318, 5e-324), (0.0, *_mirrored(*_MEYER))),
        kinks=(-1.0, -0.5, 0.0, 0.5, 1.0),
    ),
    unsearched(
        name="sinc",
        value=lambda u: torch.sinc(u / math.pi),
        derivative=_sinc_slope,
        expression=of_sympy("sinc"),
        complexity=4,
        symmetry="even",
        turning_known=False,
    ),
)


@functools.cache
def chebyshev_in_tanh(degree: int) -> ElementaryFunction:
    """Return the Chebyshev polynomial ``T<degree>(tanh)`` of tanh.

    The n-th derivative in u is (1 - t**2) q_n(t) with t = tanh(u): q_1 is the polynomial's
    derivative, and q_(n+1) = (1 - t**2) q_n'(t) - 2 t q_n(t).
    """
    unit, t = np.polynomial.Chebyshev.basis(degree), np.polynomial.Chebyshev([0.0, 1.0])

    @functools.cache
    def factor(n: int) -> np.polynomial.Chebyshev:
        if n == 1:
            return unit.deriv()
        return factor(n - 1).deriv() * (1 - t * t) - 2 * t * factor(n - 1)

    def nth(u: Array, n: int) -> Array:
        if n == 0:
            return np.asarray(unit(np.tanh(u)))
        return np.asarray(tanh_nth(u, 1) * factor(n)(np.tanh(u)))

    quotient, rest = divmod(unit, np.polynomial.Chebyshev([0.5, 0.0, -0.5]))  # by 1 - t**2
    area, (constant, slope) = quotient.integ(), np.pad(rest.coef, (0, 2))[:2]
    area -= area(0.0)

    def derivative(u: Tensor) -> Tensor:
        return degree * _recurrence(torch.tanh(u), degree - 1, second=True) * tanh_slope(u)

    return unsearched(
        name=f"T{degree}(tanh)",
        value=lambda u: _recurrence(torch.tanh(u), degree, second=False),
        derivative=derivative,
        expression=lambda u: sympy.chebyshevt(degree, sympy.tanh(u)),
        complexity=3 + degree,
        symmetry="even" if degree % 2 == 0 else "odd",
        closed_form=nth,
        primitive=lambda u: area(np.tanh(u)) + slope * tanh_integral(u) + constant * u,
    )


def _recurrence(t: Tensor, degree: int, *, second: bool) -> Tensor:
    """Return a Chebyshev polynomial of either kind by recurrence."""
    before, now = torch.ones_like(t), 2 * t if second else t
    for _ in range(degree):
        before, now = now, 2 * t * now - before
    return before
