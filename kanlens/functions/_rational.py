"""Rational functions without poles, the edges of KAT and FR-KAN."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.polynomial import Polynomial
from numpy.polynomial.polynomial import polyder
from torch import Tensor

from kanlens.functions._elementary import Array, ElementaryFunction

if TYPE_CHECKING:
    from sympy import Expr

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d{1,3})?"
_NUMBERS = rf"{_NUMBER}(?:,{_NUMBER}){{0,15}}"
NAME = re.compile(rf"rational\((?P<top>{_NUMBERS});(?P<even>\|?)(?P<bottom>{_NUMBERS})\|?\)")
_BESIDE = 1e-12  # distance from a kink to either side
# beyond it signs are those at infinity; leading terms of rounding
_INFINITY, _LEADING_TOLERANCE = 1e30, 1e-13
_IMAGINARY_TOLERANCE = 1e-5  # imaginary part of a double root by rounding


def rational_name(top: Sequence[float], bottom: Sequence[float], *, even: bool = False) -> str:
    """Return the name of P(u) / (1 + abs(Q(v))); v is abs(u) if `even`.

    That of u / (1 + 2 abs(u)) is ``rational(0.0,1.0;|0.0,2.0|)``.
    """
    numbers, bar = [",".join(repr(float(n)) for n in part) for part in (top, bottom)], "|" * even
    return f"rational({numbers[0]};{bar}{numbers[1]}{bar})"


@functools.lru_cache(maxsize=1024)
def rational(name: str) -> ElementaryFunction:
    """Return the function of a name that `NAME` matches.

    Turning points include those of all pieces, also outside of the piece's interval.
    """
    part: Any = NAME.fullmatch(name)
    even = bool(part["even"])
    top, bottom = ([float(n) for n in part[key].split(",")] for key in ("top", "bottom"))

    def expression(u: Expr) -> Expr:
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
    """P / (1 + sign * inner), valid on a half line where `inner` has that sign."""

    top: Polynomial
    inner: Polynomial
    sign: int
    half: int

    @property
    def whole(self) -> Polynomial:
        return 1.0 + self.inner * float(self.sign)

    def lies(self, u: float) -> bool:
        """Return whether u is in the half line."""
        return self.half * u >= 0

    def where(self, u: Array) -> Any:
        """Return the mask of u at which the piece is the function."""
        near = np.clip(u, -_INFINITY, _INFINITY)
        return (self.half * near >= 0) & (self.sign * self.inner(near) >= 0)

    def numerator(self, n: int) -> Polynomial:
        """Return the numerator of the n-th derivative by the quotient rule."""
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
