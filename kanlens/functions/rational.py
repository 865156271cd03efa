"""Rational functions without poles, named by their coefficients: the edges of KAT and FR-KAN."""

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
from torch import Tensor

from kanlens.functions.elementary import Array, ElementaryFunction

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d{1,3})?"
_NUMBERS = rf"{_NUMBER}(?:,{_NUMBER}){{0,15}}"
NAME = re.compile(rf"rational\((?P<top>{_NUMBERS});(?P<even>\|?)(?P<bottom>{_NUMBERS})\|?\)")
_BESIDE = 1e-12  # from a kink, to either side of it
_FAR, _SMALL = 1e30, 1e-13  # where signs are those at infinity; leading terms that are rounding
_NEARLY = 1e-5  # imaginary part of a double root, as rounding leaves it


def rational_name(top: Sequence[float], bottom: Sequence[float], *, even: bool = False) -> str:
    """Return the name of P(u) / (1 + abs(Q(v))), lowest powers first; v is abs(u) if `even`.

    That of u / (1 + 2 abs(u)) is ``rational(0.0,1.0;|0.0,2.0|)``.
    """
    numbers, bar = [",".join(repr(float(n)) for n in part) for part in (top, bottom)], "|" * even
    return f"rational({numbers[0]};{bar}{numbers[1]}{bar})"


@functools.lru_cache(maxsize=1024)
def rational(name: str) -> ElementaryFunction:
    """Return the function of a name that `NAME` matches.

    It is a quotient of polynomials between kinks. Turning points are the roots of numerators of
    derivatives, of all pieces: more points than there are, none less.
    """
    part = NAME.fullmatch(name)
    if part is None:
        raise ValueError(f"no rational function: {name}")
    even = bool(part["even"])
    top, bottom = ([float(n) for n in part[key].split(",")] for key in ("top", "bottom"))

    def expression(u: Any) -> Any:
        import sympy

        v = sympy.Abs(u) if even else u
        q = sum(c * v**k for k, c in enumerate(bottom))
        return sum(c * u**k for k, c in enumerate(top)) / (1 + sympy.Abs(q))

    pieces = _pieces(top, bottom, even)
    kinks = {root for piece in pieces for root in _roots(piece.inner) if piece.lies(root)}
    kinks |= {0.0} if even else set()
    sides = [k + s * _BESIDE * (1 + abs(k)) for k in kinks for s in (-1, 1)]

    def zeros(n: int) -> Array:
        roots = [root for piece in pieces for root in _roots(piece.numerator(n))]
        return np.unique([*roots, *sides])  # a derivative jumps where rounding has the kink

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
    """P / (1 + sign * inner), where `inner` has that sign and, unless `half` is 0, u has `half`."""

    top: Polynomial
    inner: Polynomial
    sign: int
    half: int

    @property
    def whole(self) -> Polynomial:
        return 1.0 + self.inner * float(self.sign)

    def lies(self, u: float) -> bool:
        """Tell whether a place is in the half."""
        return self.half * u >= 0

    def where(self, u: Array) -> Any:
        """Tell where the piece is the function."""
        near = np.clip(u, -_FAR, _FAR)
        return (self.half * near >= 0) & (self.sign * self.inner(near) >= 0)

    def numerator(self, n: int) -> Polynomial:
        """Return the numerator of the n-th derivative; (f / w**k)' = (f' w - k f w') / w**(k+1)."""
        found = self.top
        for k in range(1, n + 1):
            found = found.deriv() * self.whole - found * self.whole.deriv() * float(k)
        return found.trim(_SMALL * float(np.abs(found.coef).max(initial=0.0)))

    def nth(self, u: Array, n: int) -> Array:
        """Return the n-th derivative, with limits at infinity."""
        over, under = self.numerator(n), self.whole ** (n + 1)
        gap = over.degree() - under.degree()
        limit = 0.0 if gap < 0 else over.coef[-1] / under.coef[-1] * (math.inf if gap else 1.0)
        within = np.where(np.isinf(u), 0.0, u)
        found = over(within) / self.whole(within) ** (n + 1)
        return np.asarray(np.where(np.isinf(u), limit * np.sign(u) ** max(gap, 0), found))


def _pieces(top: Sequence[float], bottom: Sequence[float], even: bool) -> list[_Piece]:
    p, q = Polynomial(top), Polynomial(bottom).trim()
    halves = ((q, 1), (q(Polynomial([0.0, -1.0])), -1)) if even else ((q, 0),)
    return [_Piece(p, inner, sign, half) for inner, half in halves for sign in (1, -1)]


def _ratio(
    top: Sequence[float], bottom: Sequence[float], even: bool, u: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the function and its slope; at a kink one between those of both sides."""
    v, sign = (u.abs(), torch.sign(u)) if even else (u, torch.ones_like(u))
    p, q = _value(top, u), _value(bottom, v)
    whole, rise = 1 + q.abs(), torch.sign(q) * sign * _value(_derivative(bottom), v)
    return p / whole, (_value(_derivative(top), u) - p * rise / whole) / whole


def _value(coefficients: Sequence[float], u: Tensor) -> Tensor:
    """Evaluate a polynomial by Horner's rule."""
    total = torch.full_like(u, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * u + c
    return total


def _derivative(coefficients: Sequence[float]) -> list[float]:
    return [k * c for k, c in enumerate(coefficients)][1:] or [0.0]


def _roots(polynomial: Polynomial) -> list[float]:
    roots = np.asarray(polynomial.roots(), dtype=np.complex128)
    real = np.abs(roots.imag) <= _NEARLY * (1 + np.abs(roots))
    return [float(root) for root in roots.real[real]]
