"""Shapley values and interactions of games that are sums of cosines of a sum of steps.

A cosine is the real part of a product over players, and by Owen's formula a product's Shapley
values are integrals of a polynomial: Gauss-Legendre rules of half as many nodes as players are
exact.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanlens.model import kernels
from kanlens.model.kernels import pool
from kanlens.model.kernels.passes import Array

WORK = 0.8  # nanoseconds of one product


def cosine_values(steps: Tensor, starts: Tensor, cosines: Array) -> Tensor | None:
    """Return Shapley values of ``sum_m cosines[m - 1] cos(m pi (start + sum of steps))``.

    Parameters
    ----------
    steps : Tensor, shape (game, player)
    starts : Tensor, shape (game,)
    cosines : ndarray, shape (cosine,)

    Returns
    -------
    Tensor, shape (game, player), or None
        None where torch operations must find it.

    Examples
    --------
    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> cosine_values(one, torch.zeros(1, dtype=torch.float64), np.ones(1))
    tensor([[-2.]], dtype=torch.float64)
    """
    if not _can_run(steps):
        return None
    from kanlens.model.kernels.product_games_loops import add_values

    games, players = steps.shape
    found = steps.new_zeros(games, players)
    work = WORK * len(cosines) * games * players * (players / 4 + 2)
    _run(add_values, steps, starts, cosines, found, (players + 1) // 2, work)
    return found


def cosine_interactions(steps: Tensor, starts: Tensor, cosines: Array) -> Tensor | None:
    """Return the interactions of every two players of such games, as `cosine_values`.

    Returns
    -------
    Tensor, shape (game, player, player), or None

    Examples
    --------
    >>> two = torch.ones(1, 2, dtype=torch.float64)
    >>> cosine_interactions(two, torch.zeros(1, dtype=torch.float64), np.ones(1))[0, 0]
    tensor([0., 4.], dtype=torch.float64)
    """
    if not _can_run(steps):
        return None
    from kanlens.model.kernels.product_games_loops import add_interactions

    games, players = steps.shape
    found = steps.new_zeros(games, players, players)
    work = WORK * len(cosines) * games * players**2 * (players / 4 + 2)
    _run(add_interactions, steps, starts, cosines, found, players // 2, work)
    return found


def _run(
    loop: Callable[..., None],
    steps: Tensor,
    starts: Tensor,
    cosines: Array,
    found: Tensor,
    order: int,
    work: float,
) -> None:
    """Share the games out to threads."""
    given = steps.contiguous().numpy(), starts.contiguous().numpy(), np.ascontiguousarray(cosines)
    rules, wanted = half_rules(order), found.numpy()

    def task(begin: int, end: int) -> None:
        loop(*given, *rules, wanted, begin, end)

    threads = pool.threads_for(work)
    pool.run(task, pool.shares(len(steps), threads), threads)


def _can_run(steps: Tensor) -> bool:
    return (
        steps.is_cpu
        and steps.dtype == torch.float64
        and kernels.asked() != "torch"
        and kernels._has_numba()
    )


@functools.lru_cache(maxsize=16)
def half_rules(most: int) -> tuple[Array, Array]:
    """Return Gauss-Legendre rules on [0, 1] with up to `most` nodes, only those up to 1/2.

    Returns
    -------
    nodes, weights : ndarray, shape (most + 1, (most + 1) // 2 + 1)
        In row q the rule of q nodes; a node at 1/2 has half its weight. Read-only.

    Examples
    --------
    >>> nodes, weights = half_rules(3)
    >>> nodes[3].round(3), weights[3].round(3)
    (array([0.113, 0.5  , 0.   ]), array([0.278, 0.222, 0.   ]))
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
