"""Search problem: columns, a target, and how a formula of it becomes one of y."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy

from kanlens.discovery import settings as tuned
from kanlens.discovery.regression import Array, away
from kanlens.symbolic.composition import Expr

Inverse = Callable[[Expr], Expr]
_TARGET = sympy.Symbol("_target", positive=True)


@dataclass(frozen=True, eq=False)
class SearchProblem:
    """A target to be written as a formula of columns."""

    columns: Array  # (row, feature)
    names: tuple[Expr, ...]  # of the columns, in the symbols of the table
    target: Array  # (row,)
    held_out: Array  # bool (row,): rows that judge and are not fitted
    rebuild: Inverse  # from an expression of the target to that of y
    slope: Array | None = None  # (row,): |dy / dtarget|; None where it is 1 or not known

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.columns.shape[1])

    @property
    def fitted(self) -> Array:
        """Rows that are fitted."""
        return ~self.held_out

    @property
    def count(self) -> int:
        """How many rows are fitted."""
        return int(self.fitted.sum())

    @property
    def judged(self) -> Array:
        """Rows that judge: those held out, or all of them where there are none."""
        return self.held_out if self.held_out.any() else ~self.held_out

    @property
    def one_sign(self) -> bool:
        """Whether the target is positive everywhere or negative everywhere."""
        return bool((self.target > 0).all() or (self.target < 0).all())

    @property
    def positive(self) -> Array:
        """Say of each column whether it is positive throughout, with some room."""
        return np.asarray((self.columns.min(axis=0) > 0) & away(self.columns))

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
        return np.maximum(self.slope / size, tuned.LIGHTEST)

    @property
    def key(self) -> tuple[Expr, ...]:
        """Key that identifies a problem within a search."""
        return (*sorted(self.names, key=str), self.rebuild(_TARGET))

    @property
    def steepness(self) -> Array:
        """The slope, 1 where it is not known."""
        return np.ones(len(self.target)) if self.slope is None else self.slope

    def with_target(
        self, target: Array, rebuild: Inverse, slope: Array | None = None
    ) -> SearchProblem:
        """Return the problem of another target, from whose formula `rebuild` makes this one's."""
        outer = self.rebuild
        return dataclasses.replace(
            self, target=target, rebuild=lambda e: outer(rebuild(e)), slope=slope
        )

    def over(self, factor: Array, name: Expr) -> SearchProblem:
        """Divide the target by a factor."""
        slope = self.steepness * np.abs(factor)
        return self.with_target(self.target / factor, lambda e: e * name, slope)

    def through(self, transform: Transform) -> SearchProblem:
        """Take a function of the target."""
        side, slope = transform.side(self.target), self.slope
        if transform.name != "id":
            step = tuned.DIFFERENCE_STEP * np.abs(self.target)
            rise = transform.value(self.target + step) - transform.value(self.target - step)
            with np.errstate(all="ignore"):
                slope = self.steepness * 2 * step / np.abs(rise)
        target = transform.value(self.target)
        return self.with_target(target, lambda e: side * transform.expression(e), slope)

    def without(self, drop: set[int]) -> SearchProblem:
        """Leave out columns."""
        kept = [i for i in range(self.width) if i not in drop]
        names = tuple(self.names[i] for i in kept)
        return dataclasses.replace(self, columns=self.columns[:, kept], names=names)

    def joined(self, i: int, j: int, column: Array, name: Expr) -> SearchProblem:
        """Put one column in the place of two."""
        less = self.without({i, j})
        columns = np.column_stack((less.columns, column))
        return dataclasses.replace(less, columns=columns, names=(*less.names, name))

    def onto(self, column: Array, name: Expr) -> SearchProblem:
        """Put one column in the place of all."""
        return dataclasses.replace(self, columns=column[:, None], names=(name,), slope=None)


@dataclass(frozen=True, eq=False)
class Transform:
    """A function of the target that may be easier to fit than the target itself."""

    name: str
    value: Callable[[Array], Array]
    inverse: Callable[[Array], Array]  # the branch of positive values
    expression: Inverse  # the inverse as an expression

    def side(self, target: Array) -> int:
        """Return the sign of a target that fits, where its transform does not tell it; else 1."""
        return -1 if self.name in ONE_SIGN and target[0] < 0 else 1

    def fits(self, target: Array) -> bool:
        """Say whether a target is one-to-one with its transform and this is of sound size."""
        if self.name == "id":
            return True
        low, high, wide = float(target.min()), float(target.max()), float(np.ptp(target))
        largest = max(-low, high)
        if self.name in ONE_SIGN and not (low > 0 or high < 0):
            return False
        if self.name == "log":
            return bool(away(target, tuned.LOGARITHM))
        if self.name in ("exp", "sinh"):
            varied = self.name == "exp" or wide > tuned.ANGLE
            return varied and wide < tuned.EXPONENT and largest < tuned.EXPONENT
        if self.name in ("sin", "tan"):
            return largest <= np.pi / 2 and wide > tuned.ANGLE
        if self.name == "cos":
            return low >= 0 and high <= np.pi and wide > tuned.ANGLE
        return bool(away(target, tuned.POWER))


ONE_SIGN = ("sq", "invsq", "sqrt", "invsqrt", "log")
_HALF = sympy.Rational(1, 2)


TRANSFORMS = (
    Transform("id", lambda t: t, lambda s: s, lambda e: e),
    Transform("log", lambda t: np.log(np.abs(t)), np.exp, sympy.exp),
    Transform("inv", lambda t: 1 / t, lambda s: 1 / s, lambda e: 1 / e),
    Transform("sq", np.square, np.sqrt, lambda e: e**_HALF),
    Transform("invsq", lambda t: t**-2.0, lambda s: s**-0.5, lambda e: e**-_HALF),
    Transform("sqrt", lambda t: np.sqrt(np.abs(t)), np.square, lambda e: e**2),
    Transform("invsqrt", lambda t: np.abs(t) ** -0.5, lambda s: s**-2.0, lambda e: e**-2),
    Transform("exp", np.exp, np.log, sympy.log),
    Transform("sin", np.sin, np.arcsin, sympy.asin),
    Transform("tan", np.tan, np.arctan, sympy.atan),
    Transform("cos", np.cos, np.arccos, sympy.acos),
    Transform("sinh", np.sinh, np.arcsinh, sympy.asinh),
)


def transformed(problem: SearchProblem, names: tuple[str, ...]) -> list[tuple[str, SearchProblem]]:
    """Return the problems of those of some transformed targets that make sense, with names."""
    made = (each for each in TRANSFORMS if each.name in names and each.fits(problem.target))
    return [(each.name, problem.through(each)) for each in made]
