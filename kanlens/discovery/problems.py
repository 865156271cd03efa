"""What the search works on: columns, a target, and how a formula of it becomes one of y."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery.regression import Array
from kanlens.symbolic.composition import Expr

Inverse = Callable[[Expr], Expr]
_TARGET = sympy.Symbol("_target", positive=True)


@dataclass(frozen=True, eq=False)
class Problem:
    """A target to be written as a formula of columns.

    Attributes
    ----------
    columns : ndarray, shape (row, feature)
    names : tuple of Expr
        What each column is, in the symbols of the table.
    target : ndarray, shape (row,)
    held_out : ndarray of bool, shape (row,)
        Rows that judge and are not fitted.
    rebuild : callable
        Takes an expression of the target and returns the one of y.
    slope : ndarray, shape (row,), optional
        Size of the derivative of y by the target, where the target is y over a factor or a
        function of it. None: 1 everywhere, or not known.
    """

    columns: Array
    names: tuple[Expr, ...]
    target: Array
    held_out: Array
    rebuild: Inverse
    slope: Array | None = None

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.columns.shape[1])

    @property
    def positive(self) -> Array:
        """Say of each column whether it is positive throughout, with some room."""
        low, high = self.columns.min(axis=0), self.columns.max(axis=0)
        return np.asarray((low > 0) & (low > 1e-4 * high))

    @property
    def weights(self) -> Array | None:
        """By what residuals of the target are multiplied to be as those of y, at most 1.

        None where the target is y but for a factor.
        """
        if self.slope is None or not np.isfinite(self.slope).all():
            return None
        size = float(self.slope.max())
        if size <= 0 or self.slope.min() > 0.99 * size:
            return None
        return np.maximum(self.slope / size, _LIGHTEST)

    @property
    def key(self) -> tuple[Expr, ...]:
        """What tells one problem from another of the same search."""
        return (*sorted(self.names, key=str), self.rebuild(_TARGET))

    def with_target(self, target: Array, rebuild: Inverse) -> Problem:
        """Return the problem of another target, from whose formula `rebuild` makes this one's."""
        outer = self.rebuild
        return dataclasses.replace(
            self, target=target, rebuild=lambda e: outer(rebuild(e)), slope=None
        )

    def over(self, factor: Array, name: Expr) -> Problem:
        """Divide the target by a factor."""
        less = self.with_target(self.target / factor, lambda e: e * name)
        return dataclasses.replace(less, slope=self._steepness() * np.abs(factor))

    def _steepness(self) -> Array:
        return np.ones(len(self.target)) if self.slope is None else self.slope

    def through(self, transform: Transform, rebuild: Inverse) -> Problem:
        """Take a function of the target."""
        made = self.with_target(transform.value(self.target), rebuild)
        if transform.name == "id":
            return dataclasses.replace(made, slope=self.slope)
        step = _STEP * np.abs(self.target)
        rise = transform.value(self.target + step) - transform.value(self.target - step)
        with np.errstate(all="ignore"):
            slope = self._steepness() * 2 * step / np.abs(rise)
        return dataclasses.replace(made, slope=slope)

    def without(self, drop: set[int]) -> Problem:
        """Leave out columns."""
        kept = [i for i in range(self.width) if i not in drop]
        names = tuple(self.names[i] for i in kept)
        return dataclasses.replace(self, columns=self.columns[:, kept], names=names)

    def joined(self, i: int, j: int, column: Array, name: Expr) -> Problem:
        """Put one column in the place of two."""
        less = self.without({i, j})
        columns = np.column_stack((less.columns, column))
        return dataclasses.replace(less, columns=columns, names=(*less.names, name))


@dataclass(frozen=True, eq=False)
class Transform:
    """A function of the target that may be easier to fit than the target itself.

    Attributes
    ----------
    name : str
    value : callable
        Of an array.
    inverse : callable
        Of an array; the branch of positive values.
    expression : callable
        The inverse as an expression.
    """

    name: str
    value: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    expression: Inverse

    def fits(self, target: Array) -> bool:
        """Say whether a target is one-to-one with its transform and this is of sound size."""
        if self.name == "id":
            return True
        size = np.abs(target)
        one_sign = bool((target > 0).all() or (target < 0).all())
        if self.name in _ONE_SIGN and not one_sign:
            return False
        if self.name == "log":
            return bool(size.min() > _TINY * size.max())
        if self.name == "exp":
            return float(np.ptp(target)) < 30 and float(size.max()) < 30
        if self.name in ("sin", "tan"):
            return bool(size.max() <= np.pi / 2) and float(np.ptp(target)) > _WIDE
        if self.name == "cos":
            return bool(target.min() >= 0 and target.max() <= np.pi) and np.ptp(target) > _WIDE
        if self.name == "sinh":
            return _WIDE < float(np.ptp(target)) < 30 and float(size.max()) < 30
        return bool(size.min() > 1e-9 * size.max())


_LIGHTEST = 1e-4  # least weight of a row
_STEP = 1e-6  # of a difference quotient, in parts of the target
_TINY = 1e-250  # smallest part of the largest value whose logarithm is taken
_WIDE = 0.5  # range of a target that may be an angle or a logarithm
_ONE_SIGN = ("sq", "invsq", "sqrt", "invsqrt", "log")
_HALF = sympy.Rational(1, 2)


def _absolute(
    name: str,
    value: Callable[[Array], Array],
    inverse: Callable[[Array], Array],
    expression: Inverse,
) -> Transform:
    return Transform(name, lambda t: value(np.abs(t)), inverse, expression)


TRANSFORMS = (
    Transform("id", lambda t: t, lambda s: s, lambda e: e),
    _absolute("log", np.log, np.exp, sympy.exp),
    Transform("inv", lambda t: 1 / t, lambda s: 1 / s, lambda e: 1 / e),
    _absolute("sq", np.square, np.sqrt, lambda e: e**_HALF),
    _absolute("invsq", lambda t: t**-2.0, lambda s: s**-0.5, lambda e: e**-_HALF),
    _absolute("sqrt", np.sqrt, np.square, lambda e: e**2),
    _absolute("invsqrt", lambda t: t**-0.5, lambda s: s**-2.0, lambda e: e**-2),
    Transform("exp", np.exp, np.log, sympy.log),
    Transform("sin", np.sin, np.arcsin, sympy.asin),
    Transform("tan", np.tan, np.arctan, sympy.atan),
    Transform("cos", np.cos, np.arccos, sympy.acos),
    Transform("sinh", np.sinh, np.arcsinh, sympy.asinh),
)


def transformed(problem: Problem, names: tuple[str, ...]) -> list[tuple[str, Problem]]:
    """Return the problems of the transformed targets that make sense.

    Parameters
    ----------
    problem : Problem
    names : tuple of str
        Names of `TRANSFORMS`.

    Returns
    -------
    list of (str, Problem)
    """
    side = -1 if (problem.target < 0).all() else 1
    found = []
    for each in TRANSFORMS:
        if each.name in names and each.fits(problem.target):
            sign = side if each.name in _ONE_SIGN else 1
            rebuild = _signed(each.expression, sign)
            found.append((each.name, problem.through(each, rebuild)))
    return found


def _signed(expression: Inverse, sign: int) -> Inverse:
    return lambda e: sign * expression(e)
