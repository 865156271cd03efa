"""Standard errors and profile intervals of the constants of a formula.

An interval holds the values of a constant at which the other constants can be refitted so that the
sum of squares rises by no more than ``t**2`` times the error variance, for Student's t [1]_.

References
----------
.. [1] D. Bates, D. Watts, Nonlinear regression analysis and its applications, 1988.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from kanlens.symbolic._composition import Array, Expr
from kanlens.symbolic._joint_refit import Minimum
from kanlens.symbolic._simplification import FormulaNumbers, Scale, can_refine

LEVEL = 0.9  # of profile intervals
MAX_PROFILED = 8  # constants of a formula that have profile intervals
MAX_ROWS = 2000
STEPS = 30  # of the refit of the other constants
EVALUATIONS = 25  # of a profile, to find an end
CLOSE = 1e-3  # relative error of t at an end
FAR = 1e4  # distance from which an end is infinite, relative to that of a linear model
NO_ERROR = 1e-20  # mean squared residual of an exact formula, over the variance of y


def fitted_constants(
    expressions: tuple[Expr, ...],
    symbols: tuple[Expr, ...],
    x: Tensor,
    y: Tensor | None,
    scale: Scale = np.asarray,
) -> dict[str, Any]:
    """Return the inexact numbers with their standard errors, and their profile intervals.

    There are none without y (batch, out), of class codes, and of formulas too large to be refitted.
    """
    facts: dict[str, Any] = {"constants": (), "profiles": ()}
    targets = () if y is None or y.dim() == 1 else y.double().numpy(force=True).T
    for expression, target in zip(expressions, targets, strict=False):
        if can_refine(expression):
            data = x.numpy(force=True), target, scale
            numbers = FormulaNumbers(expression, symbols, *data, rows=MAX_ROWS)
            profile = _Profile(numbers, len(x))
            facts["constants"] += tuple(zip(numbers.start.tolist(), profile.errors, strict=True))
            facts["profiles"] += tuple(profile.interval(k) for k in range(len(numbers.start)))
    return facts


class _Profile:
    """Least sums of squares of a formula as functions of single constants."""

    def __init__(self, numbers: FormulaNumbers, rows: int) -> None:
        from scipy.special import stdtrit

        self.numbers, self.used, free = numbers, len(numbers.target), len(numbers.start)
        self.every = np.ones(free, dtype=bool)
        self.share = math.sqrt(self.used / max(rows, 1))  # of standard errors, for all rows
        errors = numbers.fit(self.every, numbers.start, steps=0).standard_errors
        self.errors: list[float] = (self.share * errors).tolist()
        self.best: Minimum = numbers.fit(self.every, numbers.start, steps=STEPS)
        self.freedom = max(self.used - free, 1)
        self.t = float(stdtrit(max(rows - free, 1), (1 + LEVEL) / 2))

    def interval(self, k: int) -> tuple[float, float]:
        """Return the ends of the interval of a constant; infinite where no data limit it."""
        error, value = self.errors[k], float(self.numbers.start[k])
        if not math.isfinite(error):
            return -math.inf, math.inf
        reach = self.t * error
        linear = len(self.errors) > MAX_PROFILED or self.best.loss < NO_ERROR or reach == 0
        low, high = (reach, reach) if linear else (self._end(k, -reach), self._end(k, reach))
        return value - low, value + high

    def _end(self, k: int, reach: float) -> float:
        """Return the distance of an end from the best value, on the side and scale of `reach`."""
        inner, outer, at = (0.0, 0.0), (math.inf, math.inf), 1.0  # places in `reach`, and their t
        theta = self.best.parameters
        for _ in range(EVALUATIONS):
            near, size = self._refitted(k, theta, self.best.parameters[k] + at * reach)
            if abs(size - self.t) < CLOSE * self.t:
                break
            if size < self.t:  # the next refit starts from there
                inner, theta = (at, size), near
            else:
                outer = at, size
            if inner[0] > FAR:
                return math.inf
            if math.isinf(outer[0]):
                at *= 1.1 * min(max(self.t / max(size, 1e-9), 1.2), 4.0)
                continue
            rise = (self.t - inner[1]) / (outer[1] - inner[1])  # 0 where undefined
            at = inner[0] + min(max(rise, 0.1), 0.9) * (outer[0] - inner[0])
        return at * abs(reach)

    def _refitted(self, k: int, theta: Array, value: float) -> tuple[Array, float]:
        """Return the refitted constants with one fixed, and the square root of the rise as t."""
        start, free = theta.copy(), self.every.copy()
        start[k], free[k] = value, False
        trial = self.numbers.fit(free, start, steps=STEPS)
        rise = max(trial.loss - self.best.loss, 0.0) / self.best.loss * self.freedom
        return trial.parameters, math.sqrt(rise) / self.share
