"""Closed-form Shapley values of two-layer games, from cosine series of their functions.

By Owen's formula a value is the mean change a player makes to coalitions joined with probability t,
over t from 0 to 1: a polynomial for powers and cosines, so Gauss-Legendre rules are exact.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
NODES = 0.5 - 0.5 / math.sqrt(3.0), 0.5 + 0.5 / math.sqrt(3.0)  # of the rule of two points
WORK = 0.8  # nanoseconds of one product
TORCH = 10  # time of torch over that of the kernel
COMPILE = "from kanlens.attribution.shapley._fourier import compile_games; compile_games()"


@dataclass(frozen=True, kw_only=True, eq=False)
class Expansion:
    """A game in cosine series."""

    game: Game  # of two layers, without products
    ours: Tensor  # (batch, node, player): what each player adds to each node in samples
    theirs: Tensor  # (rows, node, player): and in background rows
    start: Tensor  # (rows, node): the nodes in background rows
    series: list[CosineSeries]  # of each node's function, on the range that coalitions reach
    factor: float  # what the functions are multiplied by

    @property
    def bound(self) -> float:
        """Error bound of every value, a mean of differences of the worths of two coalitions."""
        return 2 * abs(self.factor) * sum(series.error for series in self.series)

    @property
    def seconds(self) -> float:
        """Estimated seconds that one thread takes to find the Shapley values."""
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
                values[here] += product_game_values(*flat).unflatten(0, shape).sum(1)
                if both is not None:
                    both[here] += product_game_interactions(*flat).unflatten(0, shape).sum(1)
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
    """Estimate the seconds that one thread takes for the cosines of all nodes together."""
    pairs_of_rows, n = len(game.x) * len(game.rows), game.size
    return TERM * pairs_of_rows * cosines * n * math.ceil(n / 2)


def expand(game: Game, *, tolerance: float) -> Expansion:
    """Expand the functions of a game's nodes in a polynomial and cosines.

    `tolerance` is the wanted bound on every Shapley value, in units of the output; it may not be
    reached. Refuse a function that is not finite on the range that coalitions reach.
    """
    model = game.model
    nodes, last = model.nodes
    ours, theirs, start = game.shares(game.x), game.row_shares, game.row_sums
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
    """Return each node's range over all coalitions, shapes (node,)."""
    low, high = start.amin(0), start.amax(0)
    for here, there in pairs(len(ours), len(theirs), max(1, BUDGET // ours[0].numel())):
        steps = ours[here, None] - theirs[there]  # (batch, rows, node, player)
        low = torch.minimum(low, (start[there] + steps.clamp(max=0).sum(-1)).amin((0, 1)))
        high = torch.maximum(high, (start[there] + steps.clamp(min=0).sum(-1)).amax((0, 1)))
    return low, high


def product_game_values(steps: Tensor, offsets: Tensor, series: CosineSeries) -> Tensor:
    """Return the Shapley values of ``v(S) = series(offset + sum of steps in S)``: (game, player).

    Exact for the series, which must hold on the range that coalitions reach; at most
    ``2 * series.error`` away for its function. A player whose step is 0 gets exactly 0.
    """
    scaled = _scaled(steps, offsets, series)
    return _power_values(*scaled, series.polynomial) + cosine_games(*scaled, series.cosines)


def product_game_interactions(steps: Tensor, offsets: Tensor, series: CosineSeries) -> Tensor:
    """Return the Shapley interaction index of every two players of such games.

    Shape (game, player, player), zero on the diagonal; at most ``4 * series.error`` away.
    """
    scaled = _scaled(steps, offsets, series)
    in_cosines = cosine_games(*scaled, series.cosines, interactions=True)
    return _power_interactions(*scaled, series.polynomial) + in_cosines


def _scaled(steps: Tensor, offsets: Tensor, series: CosineSeries) -> tuple[Tensor, Tensor]:
    """Return steps and starts in units of the interval."""
    if not series.length:  # a single point, where no player moves
        return torch.zeros_like(steps), offsets - series.low
    return steps / series.length, (offsets - series.low) / series.length


def _power_values(steps: Tensor, starts: Tensor, powers: Array) -> Tensor:
    """Return the Shapley values of a polynomial of degree 4 at most, shape (game, player)."""
    _, p1, p2, p3, p4 = (float(power) for power in powers)
    sums = [(steps**k).sum(1, keepdim=True) - steps**k for k in (1, 2, 3)]  # of the others
    total, a = torch.zeros_like(steps), steps
    for t in NODES:
        spread = t * (1 - t)
        x1 = starts[:, None] + t * sums[0]
        x2 = x1**2 + spread * sums[1]
        x3 = x1**3 + 3 * x1 * spread * sums[1] + spread * (1 - 2 * t) * sums[2]
        total += p1 * a + p2 * a * (2 * x1 + a) + p3 * a * (3 * x2 + 3 * a * x1 + a**2)
        total += p4 * a * (4 * x3 + 6 * a * x2 + 4 * a**2 * x1 + a**3)
    return total / 2


def _power_interactions(steps: Tensor, starts: Tensor, powers: Array) -> Tensor:
    """Return the interactions in a polynomial of degree 4 at most, shape (game, player, player)."""
    _, _, p2, p3, p4 = (float(power) for power in powers)
    a, b = steps[:, :, None], steps[:, None, :]
    both, squares, product = a + b, a**2 + b**2, a * b
    first = steps.sum(1)[:, None, None] - both  # sums of all others
    second = (steps**2).sum(1)[:, None, None] - squares
    total = torch.zeros_like(first)
    for t in NODES:
        x1 = starts[:, None, None] + t * first
        x2 = x1**2 + t * (1 - t) * second
        total += 2 * p2 + 3 * p3 * (2 * x1 + both)
        total += p4 * (12 * x2 + 12 * x1 * both + 4 * squares + 6 * product)
    total = total * product / 2
    total.diagonal(dim1=1, dim2=2).zero_()
    return total


def cosine_games(
    steps: Tensor, starts: Tensor, cosines: Array, *, interactions: bool = False
) -> Tensor:
    """Return Shapley values of ``sum_m cosines[m - 1] cos(m pi (start + sum of steps))``.

    Of steps (game, player) and starts (game,) they are (game, player); interactions are (game,
    player, player). A cosine is the real part of a product over players, so rules of half as many
    nodes as players are exact.
    """
    games, players = steps.shape
    totals = np.zeros((games, players, players) if interactions else (games, players))
    work = WORK * len(cosines) * totals.size * (players / 4 + 2)
    if not work:
        return torch.from_numpy(totals).to(steps)
    if kernels.can_run_double(steps):
        from kanlens.attribution.shapley import _product_games_loops as loops
        from kanlens.model.kernels._compiling import is_ready

        kernel = loops.add_interactions if interactions else loops.add_values
        rules = half_rules((players + 1 - interactions) // 2)
        numbers = (part.contiguous().numpy() for part in (steps, starts))
        arguments = (*numbers, np.ascontiguousarray(cosines), *rules, totals)
        if is_ready(kernel, arguments, TORCH * work / 1e9, COMPILE):
            pool.share(kernel, arguments, games, work)
            return torch.from_numpy(totals)
    return (_torch_interactions if interactions else _torch_values)(steps, starts, cosines)


def compile_games() -> None:
    """Compile the kernels of games in cosines into numba's cache."""
    with kernels.use("sparse"):
        for interactions in (False, True):
            parts = torch.zeros(1, 2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
            cosine_games(*parts, np.ones(1), interactions=interactions)


@functools.lru_cache(maxsize=16)
def half_rules(most: int) -> tuple[Array, Array]:
    """Return the nodes up to 1/2 and weights of Gauss-Legendre rules on [0, 1], read-only.

    Row q of each, (most + 1, (most + 1) // 2 + 1), has the rule of q nodes; a node at 1/2 has half
    its weight.
    """
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


def _blocks(
    steps: Tensor, starts: Tensor, cosines: Array, numbers: int
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield blocks of games and cosines: phase factors (game, player, cosine), and the start's."""
    terms = max(1, min(len(cosines), BUDGET // numbers))
    games = max(1, BUDGET // (numbers * terms))
    for game in range(0, len(steps), games):
        here = slice(game, game + games)
        for term in range(0, len(cosines), terms):
            factors = torch.as_tensor(cosines[term : term + terms]).to(steps)
            waves = math.pi * torch.arange(term + 1, term + len(factors) + 1).to(steps)
            angles, phase = steps[here, :, None] * waves, starts[here, None] * waves
            turns = torch.polar(torch.ones_like(angles), angles)
            yield here, turns, torch.polar(torch.ones_like(phase), phase) * factors


def _products(turns: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the factors ``1 - t + t z``, and products of those before and after each player."""
    factors = (1 - t) + t * turns
    one = torch.ones_like(factors[:, :1])
    before = torch.cat([one, factors[:, :-1]], 1).cumprod(1)
    after = torch.cat([factors[:, 1:], one], 1).flip(1).cumprod(1).flip(1)
    return factors, before, after


def _torch_values(steps: Tensor, starts: Tensor, cosines: Array) -> Tensor:
    """Return Shapley values of `cosine_games` by torch operations."""
    players, totals = steps.shape[1], torch.zeros_like(steps)
    rule = half_rules((players + 1) // 2)
    for here, turns, phases in _blocks(steps, starts, cosines, 12 * players):
        ends = (phases - (phases * turns.prod(1)).conj())[:, None]
        total = torch.zeros_like(turns)
        for t, weight in zip(*(row[-1] for row in rule), strict=True):
            _, before, after = _products(turns, float(t))
            total += float(weight) * before * after
        totals[here] += (total * (turns - 1) * ends).real.sum(-1)
    return totals


def _torch_interactions(steps: Tensor, starts: Tensor, cosines: Array) -> Tensor:
    """Return interactions of `cosine_games` by torch operations."""
    players = steps.shape[1]
    totals = steps.new_zeros(len(steps), players, players)
    rule = half_rules(players // 2)
    for here, turns, phases in _blocks(steps, starts, cosines, 20 * players):
        ends = (phases + (phases * turns.prod(1)).conj())[:, None]
        for t, weight in zip(*(row[-1] for row in rule), strict=True):
            factors, before, after = _products(turns, float(t))
            for j in range(players - 1):  # and every player after it
                between = torch.cat([before[:, j : j + 1], factors[:, j + 1 : -1]], 1).cumprod(1)
                pair = (turns[:, j : j + 1] - 1) * (turns[:, j + 1 :] - 1) * ends
                part = float(weight) * (pair * between * after[:, j + 1 :]).real.sum(-1)
                totals[here, j, j + 1 :] += part
                totals[here, j + 1 :, j] += part
    return totals
