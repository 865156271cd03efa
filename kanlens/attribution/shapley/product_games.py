"""Shapley values and interactions of games that are sums of cosines of a sum of steps.

A cosine is the real part of a product over players, and by Owen's formula a product's Shapley
values are integrals of a polynomial: Gauss-Legendre rules of half as many nodes as players are
exact.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from torch import Tensor

from kanlens.functions.elementary import Array
from kanlens.model import kernels
from kanlens.model.kernels import pool

WORK = 0.8  # nanoseconds of one product
TORCH, COMPILING = 10, 2.0  # times as long takes torch; seconds of compiling


def cosine_values(steps: Tensor, starts: Tensor, cosines: Array) -> Tensor | None:
    """Return Shapley values of ``sum_m cosines[m - 1] cos(m pi (start + sum of steps))``.

    Of steps (game, player) and starts (game,) they are (game, player); None where torch operations
    must find them.
    """
    return _added("add_values", steps, starts, cosines, 1)


def cosine_interactions(steps: Tensor, starts: Tensor, cosines: Array) -> Tensor | None:
    """Return the interactions of every two players of such games, (game, player, player)."""
    return _added("add_interactions", steps, starts, cosines, 2)


def _added(
    loops: str, steps: Tensor, starts: Tensor, cosines: Array, together: int
) -> Tensor | None:
    """Return what loops add for every so many players together."""
    if not kernels.can_run_double(steps):
        return None
    from kanlens.attribution.shapley import product_games_loops
    from kanlens.model.kernels.compiling import is_worth

    games, players = steps.shape
    found = steps.new_zeros(games, *[players] * together)
    rules = half_rules((players + 2 - together) // 2)
    given = steps.contiguous().numpy(), starts.contiguous().numpy(), np.ascontiguousarray(cosines)
    work = WORK * len(cosines) * found.numel() * (players / 4 + 2)
    task, arguments = getattr(product_games_loops, loops), (*given, *rules, found.numpy())
    if not is_worth(task, arguments, TORCH * work, COMPILING):
        return None
    pool.share(task, arguments, games, work)
    return found


@functools.lru_cache(maxsize=16)
def half_rules(most: int) -> tuple[Array, Array]:
    """Return Gauss-Legendre rules on [0, 1] with up to `most` nodes, only those up to 1/2.

    Row q of nodes and weights, (most + 1, (most + 1) // 2 + 1), has the rule of q nodes; a node at
    1/2 has half its weight. Read-only.
    """
    nodes: Array = np.zeros((most + 1, (most + 1) // 2 + 1))
    weights: Any = np.zeros_like(nodes)
    for count in range(1, most + 1):
        at, weight = np.polynomial.legendre.leggauss(count)
        half = (count + 1) // 2
        nodes[count, :half] = (1.0 + at[:half]) / 2
        weights[count, :half] = weight[:half] / 2
        if count % 2:
            weights[count, half - 1] /= 2
    for array in (nodes, weights):
        array.flags.writeable = False
    return nodes, weights
