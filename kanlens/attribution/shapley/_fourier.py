"""Closed-form Shapley values of two-layer games, from cosine series of their functions.

By Owen's formula a value is the mean, over t from 0 to 1, of a player's change to coalitions that
others join with probability t: a polynomial for powers and cosines, so Gauss-Legendre is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from kanlens.attribution._problem import pairs
from kanlens.attribution.shapley._cosines import CosineSeries, fit
from kanlens.attribution.shapley._games import Game, Solution
from kanlens.functions._elementary import Array
from kanlens.model import kernels
from kanlens.model._analysis import BUDGET
from kanlens.model.kernels import _pool as pool

TERM = 1e-9  # seconds for one player, cosine and node of a quadrature rule
WORK = 0.8  # nanoseconds of one product
TORCH = 10  # time of torch over that of the kernel
COMPILE = "from kanlens.attribution.shapley._fourier import compile_games; compile_games()"


class Expansion:
    """A game of two layers, without products, in a polynomial and cosines.

    `tolerance` is the wanted bound on every Shapley value, in units of the output; it may not be
    reached. Refuse a function that is not finite on the range that coalitions reach.
    """

    def __init__(self, game: Game, *, tolerance: float) -> None:
        self.game, (nodes, last) = game, game.model.nodes
        # what each player adds to each node: in samples (batch, node, player), and background rows
        self.ours, self.theirs = game.shares(game.x), game.row_shares
        self.start = game.row_sums  # (rows, node): the nodes in background rows
        if nodes.scaled:
            self.ours, self.theirs = (k * nodes.scale[:, None] for k in (self.ours, self.theirs))
            self.start = self.start * nodes.scale + nodes.shift
        self.factor = float(game.model.output_scale * (last.scale if last.scaled else 1.0))
        low, high = _reach(self.ours, self.theirs, self.start)
        size = max(abs(self.factor), torch.finfo(torch.float64).tiny)
        fitted = partial(fit, tolerance=tolerance / (2 * len(low) * size))
        ranges = enumerate(zip(low.tolist(), high.tolist(), strict=True))
        self.series = [fitted(game.model.layers[1].edge(0, j), *ends) for j, ends in ranges]

    @property
    def bound(self) -> float:
        """Error bound of every value, which is a mean of differences of two coalitions' values."""
        return 2 * abs(self.factor) * sum(series.error for series in self.series)

    @property
    def seconds(self) -> float:
        """Estimated seconds on one thread to compute the Shapley values."""
        return seconds(self.game, sum(len(series.cosines) for series in self.series))

    def solve(
        self, *, interactions: bool = False, advance: Callable[[int], None] | None = None
    ) -> Solution:
        """Return Shapley values with a bound, and on request the interactions of every pair."""
        batch, rows, n = len(self.ours), len(self.theirs), self.game.size
        values = self.ours.new_zeros(batch, n)
        both = values.new_zeros(batch, n, n) if interactions else None
        size = max(1, BUDGET // (n * n if interactions else n))
        for here, there in pairs(batch, rows, size):
            for j, series in enumerate(self.series):
                steps = self.ours[here, None, j] - self.theirs[there, j]  # (batch, rows, player)
                shape, starts = steps.shape[:2], self.start[there, j].expand(steps.shape[:2])
                flat = steps.flatten(0, 1), starts.flatten(), series
                values[here] += product_games(*flat).unflatten(0, shape).sum(1)
                if both is not None:
                    both[here] += product_games(*flat, interactions=True).unflatten(0, shape).sum(1)
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
    """Estimate the seconds on one thread to compute Shapley values from all nodes' cosines."""
    pairs_of_rows, n = len(game.x) * len(game.rows), game.size
    return TERM * pairs_of_rows * cosines * n * math.ceil(n / 2)


def _reach(ours: Tensor, theirs: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return each node's range over all coalitions, shapes (node,)."""
    low, high = start.amin(0), start.amax(0)
    for here, there in pairs(len(ours), len(theirs), max(1, BUDGET // ours[0].numel())):
        steps = ours[here, None] - theirs[there]  # (batch, rows, node, player)
        low = torch.minimum(low, (start[there] + steps.clamp(max=0).sum(-1)).amin((0, 1)))
        high = torch.maximum(high, (start[there] + steps.clamp(min=0).sum(-1)).amax((0, 1)))
    return low, high


def product_games(
    steps: Tensor, offsets: Tensor, series: CosineSeries, *, interactions: bool = False
) -> Tensor:
    """Return the Shapley values of ``v(S) = series(offset + sum of steps in S)``: (game, player).

    Or the interactions, (game, player, player), zero on the diagonal. They are exact for the
    series, which must be valid on the range that coalitions reach. For the expanded function, the
    error is at most ``2 * series.error``, of interactions ``4 * series.error``; a player with
    step 0 gets exactly 0.
    """
    scaled = torch.zeros_like(steps), offsets - series.low  # for an interval of length 0
    if series.length:
        scaled = steps / series.length, scaled[1] / series.length
    worths = partial(_power_worths, *scaled, series.polynomial)
    powers = _mean_derivatives(worths, steps, 2, interactions=interactions)  # of degree 3
    return powers + cosine_games(*scaled, series.cosines, interactions=interactions)


def _mean_derivatives(
    worths: Callable[[Tensor], Tensor], like: Tensor, order: int, *, interactions: bool
) -> Tensor:
    """Return mean derivatives by one or two probabilities, by Gauss-Legendre quadrature.

    `worths` maps the probabilities (game, player) that players join to expected values (game,).
    """
    shape = (*like.shape, like.shape[1]) if interactions else like.shape
    means = like.new_zeros(shape)
    for node, weight in zip(*np.polynomial.legendre.leggauss(order), strict=True):
        with torch.enable_grad():
            chances = torch.full_like(like, (1 + node) / 2).requires_grad_()
            total = worths(chances).sum()
            (slopes,) = torch.autograd.grad(total, chances, create_graph=interactions)
            if interactions:
                columns = [slope.sum() for slope in slopes.unbind(1)]
                rows = [torch.autograd.grad(c, chances, retain_graph=True)[0] for c in columns]
                slopes = torch.stack(rows, 1)
        means += weight / 2 * slopes.detach()
    if interactions:
        means.diagonal(dim1=1, dim2=2).zero_()
    return means


def _power_worths(steps: Tensor, starts: Tensor, powers: Array, chances: Tensor) -> Tensor:
    """Return a polynomial's mean over coalitions, without its constant, by central moments."""
    _, p1, p2, p3, p4 = (float(power) for power in powers)
    spread = chances * (1 - chances)
    mean, second = starts + (chances * steps).sum(1), (spread * steps**2).sum(1)
    third = (spread * (1 - 2 * chances) * steps**3).sum(1)
    fourth = 3 * second**2 + (spread * (1 - 6 * spread) * steps**4).sum(1)
    worths = mean * (p1 + mean * (p2 + mean * (p3 + mean * p4)))
    worths = worths + second * (p2 + 3 * p3 * mean + 6 * p4 * mean**2)
    return worths + third * (p3 + 4 * p4 * mean) + p4 * fourth


def cosine_games(
    steps: Tensor, starts: Tensor, cosines: Array, *, interactions: bool = False
) -> Tensor:
    """Return Shapley values of ``sum_m cosines[m - 1] cos(m pi (start + sum of steps))``.

    For steps (game, player) and starts (game,), shape (game, player); interactions, (game,
    player, player). A cosine is the real part of a product over players, so rules of half as many
    nodes as players are exact.
    """
    games, players = steps.shape
    totals = np.zeros((games, players, players) if interactions else (games, players))
    work = WORK * len(cosines) * totals.size * (players / 4 + 2)
    if not work:
        return torch.from_numpy(totals).to(steps)
    if kernels.can_run_double(steps):
        from kanlens.attribution.shapley import _game_loops as loops
        from kanlens.model.kernels._compiling import is_ready

        rules = half_rules((players + 1 - interactions) // 2)
        numbers = (part.contiguous().numpy() for part in (steps, starts))
        rows = totals.reshape(games, -1)
        arguments = (*numbers, np.ascontiguousarray(cosines), *rules, int(interactions), rows)
        if is_ready(loops.add_games, arguments, TORCH * work / 1e9, COMPILE):
            pool.share(loops.add_games, arguments, games, work)
            return torch.from_numpy(totals)
    return _torch_games(steps, starts, cosines, interactions=interactions)


def _torch_games(steps: Tensor, starts: Tensor, cosines: Array, *, interactions: bool) -> Tensor:
    """Return the result of `cosine_games` by torch operations."""
    games, players = steps.shape
    totals = steps.new_zeros((games, players, players) if interactions else (games, players))
    terms = max(1, min(len(cosines), BUDGET // (40 * players)))  # 40: complex numbers of each
    order = max(1, (players + 1 - interactions) // 2)
    for here in torch.arange(games).split(max(1, BUDGET // (40 * players * terms))):
        for first in range(0, len(cosines), terms):
            factors = torch.as_tensor(cosines[first : first + terms]).to(steps)
            waves = 1j * math.pi * torch.arange(first + 1, first + len(factors) + 1).to(steps)
            phases = (starts[here, None] * waves).exp() * factors  # (game, cosine)
            turns = (steps[here, :, None] * waves).exp() - 1  # (game, player, cosine)

            def worths(chances: Tensor, turns: Tensor = turns, phases: Tensor = phases) -> Tensor:
                return (phases * (1 + chances[..., None] * turns).prod(1)).real.sum(-1)

            totals[here] += _mean_derivatives(worths, steps[here], order, interactions=interactions)
    return totals


def compile_games() -> None:
    """Compile the kernel of games in cosines into numba's cache."""
    with kernels.use("sparse"):
        cosine_games(torch.zeros(1, 2).double(), torch.zeros(1).double(), np.ones(1))


@lru_cache(maxsize=16)
def half_rules(most: int) -> tuple[Array, Array]:
    """Return nodes up to 1/2 and weights of Gauss-Legendre rules on [0, 1], by number of nodes."""
    nodes: Array = np.zeros((most + 1, (most + 1) // 2 + 1))
    weights: Array = np.zeros_like(nodes)
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
