"""Marginal contributions along antithetic (forward and reverse) permutations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.shapley.games import Game
from kanlens.model.analysis import BUDGET


@dataclass(frozen=True, kw_only=True, eq=False)
class PathBatch:
    """Marginal contributions of players between samples and background rows, per permutation."""

    gains: Tensor  # (batch, rows, order, player): mean over an order and its reverse
    u: Tensor  # (batch, rows, order, player + 1, sub): sums from the middle on; reverse: -u
    middle: Tensor  # (batch, rows, sub): the sums between sample and row
    steps: Tensor  # (batch, rows, player, sub): what each player adds to the sums
    order: Tensor  # (rows, order, player): the permutations


def marginal_contributions(levels: Tensor, order: Tensor) -> Tensor:
    """Return each player's change of levels (batch, rows, order, player + 1, ...)."""
    place = order.argsort(-1)[None]
    place = place.reshape(*place.shape, *[1] * (levels.dim() - place.dim()))
    return levels.diff(dim=3).take_along_dim(place, 3)


class PermutationPaths:
    """First-layer contributions of samples and background, player by player."""

    def __init__(self, game: Game, x: Tensor) -> None:
        self.game, bias = game, game.model.layers[0].bias
        self.theirs = game.row_shares.mT.contiguous()  # (rows, player, sub)
        self.ours = game.shares(x).mT.contiguous()  # (batch, player, sub)
        self.start, self.end = self.theirs.sum(1) + bias, self.ours.sum(1) + bias
        self.rise = game.outputs(self.end)[:, None] - game.outputs(self.start)  # (batch, rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Numbers of samples, background rows, players and sums of the first layer."""
        return len(self.ours), *self.theirs.shape

    def steps(self, who: Tensor, rows: Tensor) -> Tensor:
        """Return what each player adds to the sums, shape (batch, rows, player, sub)."""
        return self.ours.index_select(0, who)[:, None] - self.theirs.index_select(0, rows)

    def middle(self, who: Tensor, rows: Tensor) -> Tensor:
        """Return the sums between samples and rows, shape (batch, rows, sub)."""
        return (self.end.index_select(0, who)[:, None] + self.start.index_select(0, rows)) / 2

    @property
    def still(self) -> Tensor:
        """Players with equal contributions in a sample and all rows, shape (batch, player)."""
        low, high = self.theirs.aminmax(dim=0)
        return ((self.ours == low) & (self.ours == high)).all(2)

    def at_once(self, points: int) -> int:
        """Return how many samples against one row fit the budget at `points` points and -points."""
        widths = [layer.in_features for layer in self.game.model.layers[1:]]
        widest = max(self.ours.shape[2], *widths, 1)
        return max(1, BUDGET // (32 * points * widest))  # 16 bases of one input, twice

    def odd(self, middle: Tensor, u: Tensor) -> Tensor:
        """Return half of what separates the outputs at middle + u and middle - u, shape (...)."""
        return (self.game.outputs(middle + u) - self.game.outputs(middle - u)) / 2

    def walk(self, who: Tensor, rows: Tensor, order: Tensor) -> PathBatch:
        """Move background rows (indices) to samples in permutations (rows, order, player)."""
        steps, middle = self.steps(who, rows), self.middle(who, rows)
        walked = steps[:, :, None].take_along_dim(order[None, ..., None], 3).cumsum(3)
        u = torch.cat([torch.zeros_like(walked[:, :, :, :1]), walked], 3)
        u -= (middle - self.start.index_select(0, rows))[:, :, None, None]
        odd = self.odd(middle[:, :, None, None], u[:, :, :, 1:-1])
        end = (self.rise[who[:, None], rows] / 2)[:, :, None, None].expand(*u.shape[:3], 1)
        gains = marginal_contributions(torch.cat([-end, odd, end], 3), order)
        return PathBatch(gains=gains, u=u, middle=middle, steps=steps, order=order)
