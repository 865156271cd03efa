"""Main effects in products of two columns: a functional ANOVA over rows [1]_.

The mean of a product f(a) g(b) given a is f(a) E[g(b) | a]. The conditional mean is estimated with
a smoother; it is constant unless the columns clearly depend on each other.

References
----------
.. [1] B. Lengerich et al., Purifying interaction effects with the functional ANOVA, 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kanlens.functions._elementary import Array

CURVES = 30  # columns that `make_curve` divides the breakpoints among
NOISE, PRIOR = 0.5, 0.5  # of `restricted_fit`: initial error variance, prior toward a constant
PASSES = 8


def purify(factors: Array, x: Array, pair: Sequence[list[int]], rows: int) -> list[Array]:
    """Return the main effects (row + point,) of a sum of products of two columns.

    `factors` (row + point, 2, product) are functions of the first and of the second column; `pair`
    has the features of each in x (row + point, in), whose first `rows` rows are data. Effects are
    computed by damped backfitting (steps of one half). For independent columns they are the
    conditional means; identical columns share them equally.
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
    """Return a smoother: values (row,) to their means given one column, (row + point,).

    The means have mean 0 over the rows.
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
