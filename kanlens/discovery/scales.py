"""Origin and unit in which the search sees a column or the target, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery.regression import Array
from kanlens.symbolic.composition import Expr

_ZERO = sympy.Integer(0)
_FAR = 100.0  # distance of the middle from zero, in spreads, from which zero is moved there
_LOST = 1e6  # and from which digits are lost where it is not
_CORE = (0.05, 0.95)  # quantiles between which values are no outliers
_SOUND = (1e-3, 1e4)  # largest sizes that are left as they are
_STEPS = 4  # of rounding that a constant may seem to vary by
_DIGITS = 15  # after the point, to which a constant may be rounded


@dataclass(frozen=True)
class Scale:
    """A round number that is taken off, and a power of ten that the rest is divided by.

    Attributes
    ----------
    shift : Rational
        0 unless the values lie far from zero for how much they vary.
    power : int
        0 where the rest is of sound size.
    distance : float
        Of the middle of the values from zero, in parts of their spread.
    """

    shift: Expr = _ZERO
    power: int = 0
    distance: float = 0.0

    @classmethod
    def of(cls, values: Array) -> Scale:
        """Choose the scale of a column.

        Examples
        --------
        >>> Scale.of(1e9 + np.arange(8.0)).shift, Scale.of(np.array([2e-7, 1e-6])).power
        (1000000000, -6)
        """
        low, middle, high = np.quantile(values, (_CORE[0], 0.5, _CORE[1]), method="nearest")
        spread = float(high / 2 - low / 2) or float(values.max() / 2 - values.min() / 2)
        distance = abs(float(middle)) / spread if spread else 0.0
        shift = _round_number(float(middle), spread) if distance > _FAR else _ZERO
        return cls(shift, _power(values - float(shift)), distance)

    @property
    def moved(self) -> bool:
        """Whether anything is changed."""
        return bool(self.shift) or self.power != 0

    @property
    def origin(self) -> Expr:
        """Where zero is, as the search sees it; 0 where that is too far away to be looked for."""
        lost = self.distance > _LOST
        return _ZERO if lost else self.shift / sympy.Integer(10) ** self.power

    def scaled(self, values: Array) -> Array:
        """Return values as the search sees them."""
        return (values - float(self.shift)) / 10.0**self.power


def resolved(values: Array) -> bool:
    """Say whether values differ by more than the rounding of one number.

    Examples
    --------
    >>> resolved(np.array([0.3, 0.1 + 0.2])), resolved(1e15 + np.arange(3.0))
    (False, True)
    """
    return bool(values.max() - values.min() > _STEPS * step(values))


def step(values: Array) -> float:
    """Return the distance between neighbouring numbers of the largest size among values.

    Examples
    --------
    >>> step(np.array([-1e16, 3.0]))
    2.0
    """
    return float(np.spacing(np.abs(values).max()))


def shortest(value: float, room: float) -> Expr:
    """Return the number with the fewest decimals within some room of a value.

    Examples
    --------
    >>> shortest(1000000000.0000001, 1e-6), shortest(1e9 + 0.1230000001, 1e-6)
    (1000000000, 1000000000.12300)
    """
    for digits in range(_DIGITS):
        found = round(value, digits)
        if abs(found - value) <= room:
            return number(found)
    return number(value)


def number(value: float) -> Expr:
    """Return a whole number as it is, others as a Float.

    Examples
    --------
    >>> number(3.0), number(0.25)
    (3, 0.250000000000000)
    """
    whole = value.is_integer() and abs(value) < 1e18
    return sympy.Integer(int(value)) if whole else sympy.Float(value)


def _round_number(middle: float, spread: float) -> Expr:
    """Return the multiple of a power of ten, at least the spread, that is nearest to a value."""
    power = math.ceil(math.log10(spread))
    return round(middle / 10.0**power) * sympy.Integer(10) ** power


def _power(values: Array) -> int:
    """Return the power of ten that brings values to a sound size."""
    size = float(np.abs(values).max())
    if size == 0 or _SOUND[0] <= size <= _SOUND[1]:
        return 0
    return round(math.log10(size))
