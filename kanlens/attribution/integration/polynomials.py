"""On [-1, 1]: polynomials through Chebyshev points, and pairs of quadrature rules."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

HALVINGS = 6  # of a bracket, before Newton's steps
NEWTON = 4


class Interpolation:
    """The polynomial through values at Chebyshev points.

    Parameters
    ----------
    count : int
        Number of points, both ends among them.
    intervals : int
        Number of equal intervals between the places at which it is sampled.
    device : torch.device, optional

    Attributes
    ----------
    nodes : Tensor, shape (count,)
        From -1 to 1.
    places : Tensor, shape (intervals + 1,)
        Likewise.
    spacing : float
        Of the places.
    """

    def __init__(self, count: int, intervals: int, *, device: torch.device | None = None) -> None:
        nodes = -np.cos(np.pi * np.arange(count) / (count - 1))
        places = np.linspace(-1.0, 1.0, intervals + 1)
        powers = np.linalg.inv(np.vander(nodes, increasing=True))  # (power, node)
        at_places = np.vander(places, count, increasing=True) @ powers  # (place, node)
        self.nodes = torch.as_tensor(nodes, device=device)
        self.places = torch.as_tensor(places, device=device)
        self.spacing = 2.0 / intervals
        self._powers = torch.as_tensor(powers, device=device)
        self._at_places = torch.as_tensor(at_places, device=device)

    def sample(self, values: Tensor) -> Tensor:  # (..., node) -> (..., place)
        """Return the polynomials at the places."""
        return values @ self._at_places.mT

    def solve(
        self, values: Tensor, level: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return where polynomials pass a level between `low` and `high`, and their slopes there.

        Parameters
        ----------
        values : Tensor, shape (polynomial, node)
        level, low, high : Tensor, shape (polynomial,)

        Returns
        -------
        place, slope : Tensor, shape (polynomial,)

        Examples
        --------
        >>> curve = Interpolation(3, 2)
        >>> ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        >>> place, slope = curve.solve(curve.nodes[None] ** 2, ends[1] / 4, *ends)
        >>> round(float(place), 12), round(float(slope), 12)
        (0.5, 1.0)
        """
        powers = (values @ self._powers.mT).T.contiguous()  # (power, polynomial)
        powers[0] -= level
        rising = _horner(powers, high)[0] > 0
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            past = (_horner(powers, middle)[0] > 0) == rising
            low, high = torch.where(past, low, middle), torch.where(past, middle, high)
        place = 0.5 * (low + high)
        for _ in range(NEWTON):
            value, slope = _horner(powers, place)
            place = (place - value / slope).nan_to_num(2.0).clamp(low, high)
        return place, _horner(powers, place)[1]


def _horner(powers: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return polynomials (power, polynomial) at x (polynomial,), and their slopes."""
    value, slope = powers[-1], torch.zeros_like(x)
    for power in range(len(powers) - 2, -1, -1):
        slope = slope * x + value
        value = value * x + powers[power]
    return value, slope


@dataclass(frozen=True, eq=False)
class Rule:
    """A Gauss-Legendre rule inside a Kronrod rule.

    Attributes
    ----------
    nodes : Tensor, shape (node,)
        Of the larger rule; 2m + 1 of them for a smaller rule of m nodes.
    weights, coarse : Tensor, shape (node,)
        Weights of the larger and of the smaller rule.
    """

    nodes: Tensor
    weights: Tensor
    coarse: Tensor

    def to(self, device: torch.device) -> Rule:
        """Return the rule on another device."""
        return Rule(self.nodes.to(device), self.weights.to(device), self.coarse.to(device))


@functools.lru_cache(maxsize=64)
def rule(m: int) -> Rule:
    """Return the Gauss-Legendre rule with `m` nodes in the rule of Kronrod.

    The smaller one is exact up to degree 2m - 1, the larger one up to 3m + 1 [1]_. The nodes that
    are added are the zeros of the polynomial of degree m + 1 that, times the Legendre polynomial
    of degree m, is orthogonal to everything of degree m and less.

    References
    ----------
    .. [1] A. S. Kronrod, Nodes and weights of quadrature formulas, 1965.

    Examples
    --------
    >>> (rule(1).weights * 9).round(decimals=12)
    tensor([5., 8., 5.], dtype=torch.float64)
    """
    gauss, weights = legendre.leggauss(m)
    points, measure = legendre.leggauss(2 * m + 2)
    values = legendre.legvander(points, m + 1)  # (point, degree)
    lower = values[:, : m + 1] * (measure * values[:, m])[:, None]
    moments = lower.T @ values  # (degree up to m, degree up to m + 1)
    series = np.append(np.linalg.solve(moments[:, :-1], -moments[:, -1]), 1.0)
    added = np.sort(legendre.legroots(series).real)
    nodes = np.empty(2 * m + 1)
    nodes[::2], nodes[1::2] = added, gauss
    nodes = 0.5 * (nodes - nodes[::-1])
    integral = np.zeros(2 * m + 1)
    integral[0] = 2.0
    larger = np.linalg.solve(legendre.legvander(nodes, 2 * m).T, integral)
    smaller = np.zeros(2 * m + 1)
    smaller[1::2] = weights
    return Rule(*(torch.as_tensor(array) for array in (nodes, larger, smaller)))
