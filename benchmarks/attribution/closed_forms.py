"""Sobol's first and total indices of formulas whose variance is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["additive", "bilinear", "cosine", "ishigami", "sobol_g"]

Indices = tuple[list[float], list[float]]


def additive() -> Indices:
    """Return the indices of sin(pi x1) + x2^2 - exp(x3)/2 + x4^3 on [-1, 1]^5.

    Examples
    --------
    >>> sum(additive()[0])
    1.0
    """
    growth = (math.sinh(2) / 2 - math.sinh(1) ** 2) / 4
    parts = [0.5, 4 / 45, growth, 1 / 7, 0.0]
    shares = [part / sum(parts) for part in parts]
    return shares, shares


def bilinear() -> Indices:
    """Return the indices of 2 x1 x2 + x3 on [-1, 1]^4.

    Examples
    --------
    >>> [round(share, 4) for share in bilinear()[1]]
    [0.5714, 0.5714, 0.4286, 0.0]
    """
    both, alone = 4 / 9, 1 / 3
    whole = both + alone
    return [0.0, 0.0, alone / whole, 0.0], [both / whole, both / whole, alone / whole, 0.0]


def cosine(weights: Sequence[float]) -> Indices:
    """Return the indices of cos(sum of weight * feature) on [-1, 1].

    Of features that lie evenly around 0, the mean of the cosine of a sum is the product of those
    of its terms.

    Examples
    --------
    >>> cosine([1.0])
    ([1.0], [1.0])
    """

    def variance(some: Sequence[float]) -> float:
        """Return the variance of the cosine of a sum of these features alone."""
        twice = math.prod(math.sin(2 * w) / (2 * w) for w in some)
        return (1 + twice) / 2 - math.prod((math.sin(w) / w) ** 2 for w in some)

    whole, first, total = variance(weights), [], []
    for i, w in enumerate(weights):
        others = [*weights[:i], *weights[i + 1 :]]
        rest = math.prod((math.sin(each) / each) ** 2 for each in others)
        first.append(variance([w]) * rest / whole)
        total.append(1 - (math.sin(w) / w) ** 2 * variance(others) / whole)
    return first, total


def ishigami(a: float, b: float) -> Indices:
    """Return the indices of sin(x1) + a sin(x2)^2 + b x3^4 sin(x1) on [-pi, pi]^3.

    References
    ----------
    .. [1] T. Ishigami, T. Homma, An importance quantification technique in uncertainty analysis
       for computer models, 1990.

    Examples
    --------
    >>> [round(share, 4) for share in ishigami(7, 0.1)[0]]
    [0.3139, 0.4424, 0.0]
    """
    first = (1 + b * math.pi**4 / 5) ** 2 / 2
    second = a**2 / 8
    both = b**2 * math.pi**8 * (1 / 18 - 1 / 50)  # of x1 and x3 together
    whole = first + second + both
    return (
        [first / whole, second / whole, 0.0],
        [(first + both) / whole, second / whole, both / whole],
    )


def sobol_g(a: Sequence[float]) -> Indices:
    """Return the indices of prod_i (|4 xi - 2| + ai) / (1 + ai) on [0, 1].

    References
    ----------
    .. [1] A. Saltelli, I. Sobol, About the use of rank transformation in sensitivity analysis of
       model output, 1995.

    Examples
    --------
    >>> [round(share, 4) for share in sobol_g([0, 1])[0]]
    [0.75, 0.1875]
    """
    alone = [1 / (3 * (1 + each) ** 2) for each in a]
    product = math.prod(1 + part for part in alone)
    whole = product - 1
    total = [part * product / (1 + part) / whole for part in alone]
    return [part / whole for part in alone], total
