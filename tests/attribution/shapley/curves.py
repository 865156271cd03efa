"""Edges like those of a network, and the games that are made of them."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial.polynomial import polyval
from torch import Tensor

from kanlens.attribution.shapley._cosines import CosineSeries
from kanlens.functions._elementary import Array
from kanlens.functions._sums import FunctionSum
from kanlens.model._edge import Edge


def spline(seed: int, *, grid_size: int = 5, degree: int = 3, **options: object) -> Edge:
    """An edge with the base silu on an even grid from -1 to 1."""
    draw, step = np.random.default_rng(seed), 2 / grid_size
    return Edge(
        knots=-1 + step * np.arange(-degree, grid_size + degree + 1),
        coefficients=0.3 * draw.normal(size=grid_size + degree),
        degree=degree,
        functions=FunctionSum.of(("silu", 1.0, 0.0, draw.normal())),
        **options,
    )


def near_and_far(edge: Edge, low: float, high: float, draw: np.random.Generator) -> Array:
    """Points of an interval, many of them about the breaks and the ends."""
    length = high - low
    special = np.array([*edge.breakpoints, low, high])
    steps = np.concatenate([[0.0], np.geomspace(1e-9, 1.0, 60)])
    around = special[:, None] + length * np.concatenate([-steps, steps])
    points = np.concatenate([draw.uniform(low, high, 1500), around.ravel()])
    return np.unique(np.clip(points, low, high))


def summed(series: CosineSeries, u: Array) -> Array:
    """The value of a series at points of its interval."""
    s = (np.asarray(u, dtype=np.float64) - series.low) / (series.length or 1.0)
    total = polyval(s, series.polynomial)
    for m, factor in enumerate(series.cosines, start=1):
        total = total + factor * np.cos(math.pi * m * s)
    return np.asarray(total)


def values_of(worths: Array) -> Array:
    """Shapley values of a game from their definition; bit p of a coalition's place is player p."""
    d = len(worths).bit_length() - 1
    codes = np.arange(2**d)
    masks = (codes[:, None] >> np.arange(d)) & 1
    weights = np.array([1 / (d * math.comb(d - 1, s)) for s in range(d)])
    values = []
    for i in range(d):
        without = codes[masks[:, i] == 0]
        gain = worths[without | (1 << i)] - worths[without]
        values.append(weights[masks[without].sum(1)] @ gain)
    return np.array(values)


def pairs_of(worths: Array) -> Array:
    """Shapley interaction indices of a game from their definition."""
    d = len(worths).bit_length() - 1
    codes = np.arange(2**d)
    masks = (codes[:, None] >> np.arange(d)) & 1
    weights = np.array([1 / ((d - 1) * math.comb(d - 2, s)) for s in range(d - 1)])
    pairs = np.zeros((d, d))
    for i, k in itertools.permutations(range(d), 2):
        rest = codes[(masks[:, i] == 0) & (masks[:, k] == 0)]
        a, b = 1 << i, 1 << k
        gain = worths[rest | a | b] - worths[rest | a] - worths[rest | b] + worths[rest]
        pairs[i, k] = weights[masks[rest].sum(1)] @ gain
    return pairs


def worths_of(steps: Tensor, offset: float, worth: Callable[[Array], Array]) -> Array:
    """What every coalition is worth in a game of one sum."""
    masks = (np.arange(2 ** len(steps))[:, None] >> np.arange(len(steps))) & 1
    return worth(offset + masks @ steps.numpy())


def enumerated(steps: Tensor, offset: float, worth: Callable[[Array], Array]) -> Array:
    return values_of(worths_of(steps, offset, worth))


def enumerated_pairs(steps: Tensor, offset: float, worth: Callable[[Array], Array]) -> Array:
    return pairs_of(worths_of(steps, offset, worth))


def of_two_groups(
    counts: tuple[int, int], steps: tuple[float, float], offset: float, worth: Callable
) -> tuple[float, float]:
    """Shapley values where players are of two kinds, for any number of them.

    A coalition is known by how many it has of each kind.
    """
    found = []
    for mine, other in ((0, 1), (1, 0)):
        total, d = 0.0, sum(counts)
        for a in range(counts[mine]):
            for b in range(counts[other] + 1):
                ways = math.comb(counts[mine] - 1, a) * math.comb(counts[other], b)
                before = offset + a * steps[mine] + b * steps[other]
                gain = float(worth(before + steps[mine]) - worth(before))
                total += ways / (d * math.comb(d - 1, a + b)) * gain
        found.append(total)
    return found[0], found[1]


def of_a_product(factors: Array, start: complex) -> Array:
    """Shapley values of ``start * product of the factors of S``, by elementary symmetric sums."""
    d, found = len(factors), []
    for i in range(d):
        sums = np.zeros(d, dtype=complex)
        sums[0] = 1.0
        for z in np.delete(factors, i):
            sums[1:] += z * sums[:-1]
        share = sum(sums[k] / (d * math.comb(d - 1, k)) for k in range(d))
        found.append(start * (factors[i] - 1) * share)
    return np.array(found)


def reached(steps: Tensor, offsets: Tensor) -> tuple[float, float]:
    """The interval that holds all that coalitions of all games reach."""
    low = float((offsets + steps.clamp(max=0).sum(1)).min())
    high = float((offsets + steps.clamp(min=0).sum(1)).max())
    return low, high


def drawn(games: int, players: int, *, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Steps (game, player), each game's of absolute sum `spread`, and offsets about 0."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(games, players, generator=generator, dtype=torch.float64)
    steps = steps * spread / steps.abs().sum(1, keepdim=True)
    return steps, 0.3 * torch.randn(games, generator=generator, dtype=torch.float64)
