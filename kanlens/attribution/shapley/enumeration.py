"""Exact Shapley values and interactions of small games by enumeration of coalitions.

A coalition S is worth v(S) = mean over background rows b of F(x_S, b_rest); its first-layer sums
are those of b and one step for each player of S.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.attribution.problem import pairs
from kanlens.attribution.shapley.coalitions import coalition_worths
from kanlens.attribution.shapley.games import Game, Solution
from kanlens.model.analysis import BUDGET, widest

STEP = 2**28  # functions evaluated between two moves of the bar
TRIAL = 2**21  # functions evaluated to tell how long all take


def enumerated(
    game: Game, *, interactions: bool = False, advance: Callable[[int], None] | None = None
) -> Solution:
    """Return exact Shapley values, and on request Grabisch and Roubens' index (1999) of pairs."""
    n = game.size
    values = value_weights(n).to(game.x)
    both = pair_weights(n).to(game.x) if interactions else None
    found, shared = [], []
    for part in torch.arange(len(game.x)).split(_samples_at_once(game)):
        worths = _worths(game, part)
        worths -= worths[:, :1].clone()  # of nobody; the weights add up to 0
        found.append(worths @ values)
        if both is not None:
            shared.append((worths @ both).unflatten(1, (n, n)))
        if advance is not None:
            advance(len(part))
    return Solution(
        values=torch.cat(found),
        pairs=torch.cat(shared) if shared else None,
        evaluations=float(2**n * len(game.rows)),
    )


def seconds(game: Game) -> float:
    """Estimate the seconds a game takes, from a few samples and background rows."""
    rows = min(len(game.rows), max(1, TRIAL // functions(game)))
    samples = min(len(game.x), max(1, TRIAL // (functions(game) * rows)))
    few = dataclasses.replace(game, x=game.x[:samples], rows=game.rows[:rows])
    spent = []
    for _ in range(2):  # the first may load kernels
        start = time.monotonic()
        enumerated(few)
        spent.append(time.monotonic() - start)
    return min(spent) * (len(game.x) / samples) * (len(game.rows) / rows)


def _samples_at_once(game: Game) -> int:
    """Return how many samples' coalitions are kept, and worked out before the bar moves."""
    return max(1, min(BUDGET >> game.size, STEP // (functions(game) * len(game.rows))))


def functions(game: Game) -> int:
    """Return the functions evaluated for a sample and a background row."""
    after = sum(layer.in_features * layer.out_features for layer in game.model.layers[1:])
    return max(1, after) << game.size


def _bits(n: int) -> Tensor:  # (coalition, player)
    """Return the membership of each coalition: bit p of its index is player p."""
    return (torch.arange(2**n)[:, None] >> torch.arange(n)) & 1


@functools.lru_cache(maxsize=4)
def value_weights(n: int) -> Tensor:
    """Return the weight of each coalition's value in each player's Shapley value: (2 ** n, n)."""
    share = [1 / (n * math.comb(n - 1, size)) for size in range(n)]
    joined = torch.tensor([0.0, *share], dtype=torch.float64)  # by the size of S, for a member
    left = torch.tensor([*share, 0.0], dtype=torch.float64)
    bits = _bits(n)
    size = bits.sum(1)
    return torch.where(bits == 1, joined[size][:, None], -left[size][:, None])


def pair_weights(n: int) -> Tensor:
    """Return the weight of each coalition's value in the interaction of every two players.

    It is ``s! (n - s - 2)! / (n - 1)!`` for the s others in the coalition, negative where just one
    of the two is in it.
    Players i and k are at ``i * n + k``, zero where they are the same: (2 ** n, n * n).
    """
    bits = _bits(n)
    share = [1 / ((n - 1) * math.comb(n - 2, size)) for size in range(n - 1)]
    weight = torch.tensor([*share, 0.0, 0.0], dtype=torch.float64)
    inside = bits[:, :, None] + bits[:, None]  # (coalition, player, player)
    found = weight[bits.sum(1)[:, None, None] - inside] * (1 - 2 * (inside == 1).double())
    apart = 1 - torch.eye(n, dtype=torch.float64)
    return (found * apart).flatten(1)


def _worths(game: Game, part: Tensor) -> Tensor:
    """Return v(S) of some samples up to a constant, shape (batch, coalition)."""
    ours, model = game.shares(game.x[part]), game.model
    if len(model.layers) == 2 and model.nodes[1].additive and not model.nodes[0].normalized:
        sides = ours, game.row_shares, game.row_sums
        found = coalition_worths(*sides, model.nodes[0], model.layers[1])
        if found is not None:
            scale = model.nodes[1].scale if model.nodes[1].scaled else 1.0
            return found * scale * model.output_scale
    return _in_torch(game, ours)


def _in_torch(game: Game, ours: Tensor) -> Tensor:
    """Return v(S) by running what comes after the first layer, for any network."""
    n, theirs = game.size, game.row_shares
    at_once = max(1, BUDGET // (16 * widest(game.model)))  # 16: bases of one input
    low = min(n, at_once.bit_length() - 1)  # players taken together
    worth = ours.new_zeros(len(ours), 2 ** (n - low), 2**low)
    for here, there in pairs(len(ours), len(theirs), at_once >> low):
        steps = ours[here, None] - theirs[there]  # (batch, rows, sub, player)
        for block, others in enumerate(_bits(n - low).to(ours)):
            start = game.row_sums[there] + steps[..., low:] @ others  # (batch, rows, sub)
            sums = _subset_sums(start, steps[..., :low])
            worth[here, block] += game.outputs(sums).sum(1) / len(theirs)
    return worth.flatten(1)


def _subset_sums(start: Tensor, steps: Tensor) -> Tensor:
    """Add the steps (..., sub, player) of every subset to start (..., sub): (..., set, sub)."""
    sums = start.unsqueeze(-2)
    for step in steps.unbind(-1):
        sums = torch.cat([sums, sums + step.unsqueeze(-2)], dim=-2)
    return sums
