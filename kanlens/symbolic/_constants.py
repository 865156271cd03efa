"""Standard errors and profile intervals of the constants of a formula.

An interval holds the values of a constant at which the other constants can be refitted so that the
sum of squares rises by no more than ``t**2`` times the error variance, for Student's t [1]_.

References
----------
.. [1] D. Bates, D. Watts, Nonlinear regression analysis and its applications, 1988.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from kanlens.symbolic._composition import Expr
from kanlens.symbolic._joint_refit import Minimum
from kanlens.symbolic._simplification import FormulaNumbers, Scale, can_refine

LEVEL = 0.9  # of profile intervals
MAX_PROFILED, MAX_ROWS = 8, 2000  # constants of a formula that have profiles, and their rows
STEPS = 30  # of the refit of the other constants
CLOSE = 1e-3  # relative error of an end
FAR = 1e4  # distance from which an end is infinite, relative to that of a linear model
NO_ERROR = 1e-20  # mean squared residual of an exact formula, over the variance of y


def fitted_constants(
    expressions: tuple[Expr, ...],
    symbols: tuple[Expr, ...],
    x: Tensor,
    y: Tensor | None,
    scale: Scale = np.asarray,
    *,
    profiled: bool = True,
) -> dict[str, Any]:
    """Return a dict of `constants` and `profiles` as in `Receipt`, for floating-point numbers.

    Both are empty without y (batch, out), for class codes, and for formulas too large to refit.
    Unless `profiled`, intervals are symmetric.
    """
    targets = () if y is None or y.dim() == 1 else y.double().numpy(force=True).T
    profiles = [
        _Profile(
            FormulaNumbers(e, symbols, x.numpy(force=True), own, scale, MAX_ROWS), len(x), profiled
        )
        for e, own in zip(expressions, targets, strict=False)
        if can_refine(e)
    ]
    pairs = [(p, k, float(value)) for p in profiles for k, value in enumerate(p.numbers.start)]
    return {
        "constants": tuple((value, p.errors[k]) for p, k, value in pairs),
        "profiles": tuple((value - p.end(k, -1), value + p.end(k, 1)) for p, k, value in pairs),
    }


class _Profile:
    """Least sums of squares of a formula as functions of single constants."""

    def __init__(self, numbers: FormulaNumbers, rows: int, profiled: bool) -> None:
        from scipy.special import stdtrit

        self.numbers, self.every = numbers, np.ones(len(numbers.start), dtype=bool)
        used, free = len(numbers.target), len(numbers.start)
        self.symmetric = not profiled or free > MAX_PROFILED
        share = math.sqrt(used / max(rows, 1))  # of standard errors, for all rows
        errors = numbers.fit(self.every, numbers.start, steps=0).standard_errors
        self.errors: list[float] = (share * errors).tolist()
        self.t = float(stdtrit(max(rows - free, 1), (1 + LEVEL) / 2))
        self.most = (share * self.t) ** 2 / max(used - free, 1)  # relative rise of squares

    @cached_property
    def best(self) -> Minimum:
        """The refit of all constants."""
        return self.numbers.fit(self.every, self.numbers.start, steps=STEPS)

    def end(self, k: int, sign: int) -> float:
        """Return the distance from a constant to an end of its interval; inf if unlimited."""
        from scipy.optimize import brentq

        reach, inner, outer = self.t * self.errors[k], 0.0, 1.01
        if reach in (0, math.inf) or self.symmetric or self.best.loss < NO_ERROR:
            return reach
        near = self.best.parameters

        def excess(at: float) -> float:
            """Return sqrt(r) - 1, for r the rise of the loss over its rise at an end."""
            nonlocal near
            start, free = near.copy(), self.every.copy()
            start[k], free[k] = self.best.parameters[k] + sign * at * reach, False
            trial = self.numbers.fit(free, start, steps=STEPS)
            rise = max(trial.loss / self.best.loss - 1, 0.0) / self.most
            near = trial.parameters if rise < 1 else near  # the next refit starts from there
            return min(math.sqrt(rise), 1e3) - 1

        while excess(outer) < 0:
            inner, outer = outer, 3 * outer
            if outer > FAR:
                return math.inf
        return reach * float(brentq(excess, inner, outer, rtol=CLOSE, xtol=CLOSE))
