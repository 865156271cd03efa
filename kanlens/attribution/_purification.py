"""Functions of single columns in products of two: a functional ANOVA over rows [1]_.

The mean of a product f(a) g(b) given a is f(a) times the mean of g(b) given a, which is smooth, and
constant unless the columns clearly depend on each other.

References
----------
.. [1] B. Lengerich et al., Purifying interaction effects with the functional ANOVA, 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kanlens.functions._elementary import Array

CURVES = 30  # columns that share the breakpoints of curves, for those of a mean
NOISE, PRIOR = 0.5, 0.5  # error variance at the start of its fit, and prior of no dependence
PASSES = 8


def purify(factors: Array, x: Array, pair: Sequence[list[int]], rows: int) -> list[Array]:
    """Return the functions (row + point,) of either column that are nearest to a sum of products.

    `factors` (row + point, 2, product) are those of the first and of the second column, whose
    features in x (row + point, in) are a `pair`. Backfitting has steps of half the size: it begins
    and ends with means where the columns are independent, with half of each where they are equal.
    """
    means, targets = [conditional_mean(x, features, rows) for features in pair], list[Array]()
    for place, mean in enumerate(means):
        both = zip(factors[:, place].T, factors[:rows, 1 - place].T, strict=True)
        target = np.sum([own * (other.mean() + mean(other)) for own, other in both], 0)
        targets.append(target - target[:rows].mean())
    parts = targets
    for _ in range(PASSES):
        moves = zip(parts, targets, means, parts[::-1], strict=True)
        parts = [(part + target - mean(other[:rows])) / 2 for part, target, mean, other in moves]
    return parts


def conditional_mean(x: Array, features: list[int], rows: int) -> Callable[[Array], Array]:
    """Return a function: the smooth mean (row + point,) of values (row,) given features of x.

    The mean of the values is subtracted.
    """
    from kanlens.training._curve_design import CurveDesign, make_curve
    from kanlens.training._variance_components import restricted_fit

    curves = [make_curve(k, x[:rows, k], features[0], CURVES, rough=False) for k in features]
    design, weights = CurveDesign(curves, x), np.ones(rows)
    at_rows = design.take(np.arange(rows))

    def mean(values: Array) -> Array:
        spread = float(values.std()) or 1.0
        equations, _ = at_rows.equations(weights, values / spread)
        fit = restricted_fit(equations, design.start, NOISE, prior=PRIOR)
        means = spread * design.values(fit.coefficients)
        return np.asarray(means - means[:rows].mean())

    return mean
