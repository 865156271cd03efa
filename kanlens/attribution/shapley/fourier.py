"""A game of two layers without products solved by writing every node's function in cosines.

The part is a sum of functions of nodes, each a sum of steps that players take. A cosine of such a
sum has Shapley values in closed form (`product_games`), at a cost that grows with the square of
the number of players; what the series miss of the functions bounds the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution.problem import pairs
from kanlens.attribution.shapley.cosines import CosineSeries, fit
from kanlens.attribution.shapley.games import Game, Solution
from kanlens.attribution.shapley.product_games import (
    product_game_interactions,
    product_game_values,
)
from kanlens.model.analysis import BUDGET

TERM = 1e-9  # seconds for one player, cosine and node of a quadrature rule


@dataclass(frozen=True, kw_only=True, eq=False)
class Expansion:
    """A game whose functions are written in cosines.

    Attributes
    ----------
    game : Game
        Of two layers, without products.
    ours, theirs : Tensor, shapes (batch, node, player) and (rows, node, player)
        What each player adds to each node in samples and in background rows.
    start : Tensor, shape (rows, node)
        The nodes in background rows.
    series : list of CosineSeries, one per node
        The function of each on all that coalitions reach.
    factor : float
        What the functions are multiplied by.
    """

    game: Game
    ours: Tensor
    theirs: Tensor
    start: Tensor
    series: list[CosineSeries]
    factor: float

    @property
    def bound(self) -> float:
        """No Shapley value of the series is farther than this from the true one.

        A value is a mean of differences of what two coalitions are worth.
        """
        return 2 * abs(self.factor) * sum(series.error for series in self.series)

    @property
    def seconds(self) -> float:
        """About how long one thread takes to find the Shapley values."""
        return seconds(self.game, sum(len(series.cosines) for series in self.series))

    def solve(
        self, *, interactions: bool = False, advance: Callable[[int], None] | None = None
    ) -> Solution:
        """Return Shapley values, and the interaction of every two players on request.

        Parameters
        ----------
        interactions : bool
            Whether pairs are wanted.
        advance : callable, optional
            Told how many samples are done.

        Returns
        -------
        Solution
            With a bound for every value.
        """
        batch, rows, n = len(self.ours), len(self.theirs), self.game.size
        values = self.ours.new_zeros(batch, n)
        both = values.new_zeros(batch, n, n) if interactions else None
        size = max(1, BUDGET // (n * n if interactions else n))
        for here, there in pairs(batch, rows, size):
            for j, series in enumerate(self.series):
                steps = self.ours[here, None, j] - self.theirs[there, j]  # (batch, rows, player)
                shape, starts = steps.shape[:2], self.start[there, j].expand(steps.shape[:2])
                flat = steps.flatten(0, 1), starts.flatten()
                found = product_game_values(*flat, series).unflatten(0, shape)
                values[here] += found.sum(1)
                if both is not None:
                    found = product_game_interactions(*flat, series).unflatten(0, shape)
                    both[here] += found.sum(1)
            if advance is not None and there.stop >= rows:
                advance(len(values[here]))
        scale = self.factor / rows
        return Solution(
            values=values * scale,
            pairs=None if both is None else both * scale,
            bound=torch.full_like(values, self.bound),
            evaluations=float(rows),
        )


def seconds(game: Game, cosines: int) -> float:
    """Return about how long one thread takes for so many cosines, those of all nodes together."""
    pairs_of_rows, n = len(game.x) * len(game.rows), game.size
    return TERM * pairs_of_rows * cosines * n * math.ceil(n / 2)


def expand(game: Game, *, tolerance: float) -> Expansion:
    """Write the functions of a game's nodes as a polynomial and cosines each.

    Parameters
    ----------
    game : Game
        Of two layers, without products.
    tolerance : float
        Wanted bound on every Shapley value, in units of the output; it may not be reached.

    Returns
    -------
    Expansion

    Raises
    ------
    MethodError
        If a function is not finite on all that coalitions reach.
    """
    model = game.model
    nodes, last = model.nodes
    ours, theirs = game.shares(game.x), game.shares(game.rows)
    start = theirs.sum(2) + model.layers[0].bias  # (rows, node)
    if nodes.scaled:
        ours, theirs = ours * nodes.scale[:, None], theirs * nodes.scale[:, None]
        start = start * nodes.scale + nodes.shift
    factor = float(model.output_scale * (last.scale if last.scaled else 1.0))
    low, high = _reach(ours, theirs, start)
    wanted = tolerance / (2 * len(low) * max(abs(factor), torch.finfo(torch.float64).tiny))
    series = [
        fit(model.layers[1].edge(0, j), float(low[j]), float(high[j]), tolerance=wanted)
        for j in range(len(low))
    ]
    return Expansion(game=game, ours=ours, theirs=theirs, start=start, series=series, factor=factor)


def _reach(ours: Tensor, theirs: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the most that coalitions make of each node, shapes (node,)."""
    low, high = start.amin(0), start.amax(0)
    for here, there in pairs(len(ours), len(theirs), max(1, BUDGET // ours[0].numel())):
        steps = ours[here, None] - theirs[there]  # (batch, rows, node, player)
        low = torch.minimum(low, (start[there] + steps.clamp(max=0).sum(-1)).amin((0, 1)))
        high = torch.maximum(high, (start[there] + steps.clamp(min=0).sum(-1)).amax((0, 1)))
    return low, high
