"""Marginal contributions along antithetic permutations, and their control variate.

A permutation and its reverse together depend only on the odd part of the game around the midpoint
of sample and row, and additive and quadratic parts add no variance. So the control variate is an
odd polynomial of third and fifth powers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from kanlens.attribution._problem import pairs
from kanlens.attribution.shapley._games import Game
from kanlens.model._analysis import BUDGET

MAX_SUMS = 10  # most first-layer sums to fit mixed products of, whose number grows fast
RADII = 0.8, 1.7, 2.6  # points along each sum, in standard deviations of u
MIXED = RADII[1]  # likewise along two or three sums


@dataclass(frozen=True, kw_only=True, eq=False)
class PathBatch:
    """Marginal contributions of players between samples and background rows, per permutation."""

    gains: Tensor  # (batch, rows, order, player): mean over an order and its reverse
    u: Tensor  # (batch, rows, order, player + 1, sub): sums from the middle on; reverse: -u
    steps: Tensor  # (batch, rows, player, sub): what each player adds to the sums
    order: Tensor  # (rows, order, player): the permutations


def marginal_contributions(levels: Tensor, order: Tensor) -> Tensor:
    """Return changes of `levels` (batch, rows, order, player + 1, ...), by index of the player."""
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

        # numbers of samples, background rows, players and sums of the first layer
        self.shape: tuple[int, int, int, int] = (len(self.ours), *self.theirs.shape)

    def steps(self, who: Tensor, rows: Tensor) -> Tensor:
        """Return the contribution of each player to the sums, shape (batch, rows, player, sub)."""
        return self.ours.index_select(0, who)[:, None] - self.theirs.index_select(0, rows)

    def middle(self, who: Tensor, rows: Tensor) -> Tensor:
        """Return the sums halfway between samples and rows, shape (batch, rows, sub)."""
        return (self.end.index_select(0, who)[:, None] + self.start.index_select(0, rows)) / 2

    @property
    def still(self) -> Tensor:
        """Mask (batch, player) of players with equal contributions in a sample and all rows."""
        low, high = self.theirs.aminmax(dim=0)
        return ((self.ours == low) & (self.ours == high)).all(2)

    def at_once(self, points: int) -> int:
        """Return how many samples with `points` points fit the budget, per background row."""
        widths = [layer.in_features for layer in self.game.model.layers[1:]]
        widest = max(self.ours.shape[2], *widths, 1)
        return max(1, BUDGET // (32 * points * widest))  # 16 bases of one input, on both sides

    def odd(self, middle: Tensor, u: Tensor) -> Tensor:
        """Return the odd part of the game: half of output(middle + u) - output(middle - u)."""
        return (self.game.outputs(middle + u) - self.game.outputs(middle - u)) / 2

    def walk(self, who: Tensor, rows: Tensor, order: Tensor) -> PathBatch:
        """Replace background rows (indices) by samples, player by player in each permutation."""
        steps, middle = self.steps(who, rows), self.middle(who, rows)
        walked = steps[:, :, None].take_along_dim(order[None, ..., None], 3).cumsum(3)
        u = torch.cat([torch.zeros_like(walked[:, :, :, :1]), walked], 3)
        u -= (middle - self.start.index_select(0, rows))[:, :, None, None]
        odd = self.odd(middle[:, :, None, None], u[:, :, :, 1:-1])
        end = (self.rise[who[:, None], rows] / 2)[:, :, None, None].expand(*u.shape[:3], 1)
        gains = marginal_contributions(torch.cat([-end, odd, end], 3), order)
        return PathBatch(gains=gains, u=u, steps=steps, order=order)


# --- the control variate ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Odd polynomial ``cubes z**3 + fifths z**5 + form(z)`` of scaled sums z."""

    scale: Tensor  # (batch, rows, sub)
    cubes: Tensor  # (batch, rows, sub)
    fifths: Tensor  # (batch, rows, sub)
    form: Tensor | None  # (batch, rows, sub * sub, sub), symmetric in its three sums

    def of(self, who: Tensor, rows: Tensor) -> Surrogate:
        """Return the polynomials of some samples and rows (indices)."""
        both = who[:, None], rows
        form = None if self.form is None else self.form[both]
        return Surrogate(self.scale[both], self.cubes[both], self.fifths[both], form)

    def correction(self, walked: PathBatch) -> Tensor:
        """Return exact minus sampled values of the polynomials (batch, rows, order, player)."""
        levels = self.values(walked.u.flatten(2, 3)).unflatten(2, walked.u.shape[2:4])
        return self.shares(walked.steps)[:, :, None] - marginal_contributions(levels, walked.order)

    def values(self, u: Tensor) -> Tensor:
        """Return the polynomials at u (batch, rows, point, sub), shape (batch, rows, point)."""
        z = u / self.scale[:, :, None]
        square = z.square()
        cubes, fifths = self.cubes[:, :, None], self.fifths[:, :, None]
        values = (z * square * (cubes + fifths * square)).sum(-1)
        return values if self.form is None else values + (_slopes(self.form, z) * z).sum(-1)

    def shares(self, steps: Tensor) -> Tensor:
        """Return the Shapley values of players who move the sums by (batch, rows, player, sub).

        The other players put the sums at r from the middle: half the sum of their steps with
        random signs, independent and positive with probability t, which is uniform from 0 to 1.
        Player i adds the polynomial at r + step / 2 minus that at r - step / 2, whose mean needs
        only the moments of r.
        """
        z = steps / self.scale[:, :, None]
        s1, s2, s3, s4 = (
            power.sum(2, keepdim=True) - power for power in (z, z**2, z**3, z**4)
        )  # of the others
        second = s2 / 6 + s1.square() / 12  # the mean of r**2
        fourth = -8 * s4 - 16 * s3 * s1 + 24 * s2.square() + 12 * s2 * s1.square()
        fourth = (fourth + 3 * s1**4) / 240
        cubes, fifths = self.cubes[:, :, None], self.fifths[:, :, None]
        shares = cubes * (3 * second * z + z**3 / 4)
        shares += fifths * (5 * fourth * z + 2.5 * second * z**3 + z**5 / 16)
        if self.form is None:
            return shares.sum(-1)
        spread = (z.mT @ z).flatten(2)[:, :, None] @ self.form / 2
        bent = (_slopes(self.form, s1) - _slopes(self.form, z)) / 4
        return (shares + (spread + bent) * z).sum(-1)


def _slopes(form: Tensor, z: Tensor) -> Tensor:
    """Return a third of the gradients of cubic forms at z (..., point, sub)."""
    return (z[..., :, None] * z[..., None, :]).flatten(-2) @ form


def fitted(walks: PermutationPaths, who: Tensor) -> Surrogate:
    """Fit polynomials to the game at `places` around each midpoint of a sample and a row."""
    _, n_rows, players, sub = walks.shape
    rows = torch.arange(n_rows, device=who.device)
    at = places(sub).to(walks.ours)
    scale, odd = (at.new_empty(len(who), n_rows, size) for size in (sub, len(at)))
    for here, there in pairs(len(who), n_rows, walks.at_once(max(len(at), players))):
        both = who[here], rows[there]
        width = walks.steps(*both).square().sum(2).sqrt() / 2  # u's deviation under random signs
        scale[here, there] = width = torch.where(width > 0, width, 1.0)
        odd[here, there] = walks.odd(walks.middle(*both)[:, :, None], at * width[:, :, None])
    solution = torch.linalg.solve(_powers(at), odd.mT).mT.nan_to_num(0.0, 0.0, 0.0)
    form = None
    if sub <= MAX_SUMS:
        form = (solution[..., 3 * sub :] @ _symmetric(sub).to(solution)).unflatten(-1, (-1, sub))
    return Surrogate(scale, solution[..., sub : 2 * sub], solution[..., 2 * sub : 3 * sub], form)


def count(sub: int) -> int:
    """Return the number of evaluation points for a game of `sub` sums."""
    return 3 * sub + len(_products(sub))


def places(sub: int) -> Tensor:
    """Return points on the axes, and between two and three of them: (point, sub)."""
    axes = torch.eye(sub, dtype=torch.float64)
    points = [axes * radius for radius in RADII]
    for i, j, k in _products(sub):
        middle = axes[j] if i < j < k else 0.0
        sign = -1.0 if i < j == k else 1.0
        points.append(MIXED * (axes[i] + middle + sign * axes[k])[None])
    return torch.cat(points)


def _powers(z: Tensor) -> Tensor:
    """Return the design matrix (..., coefficient): z (..., sub), z**3, z**5 and mixed products."""
    mixed = [z[..., list(factors)].prod(-1, keepdim=True) for factors in _products(z.shape[-1])]
    return torch.cat([z, z**3, z**5, *mixed], -1)


def _symmetric(sub: int) -> Tensor:
    """Return the symmetric form of every product, shape (product, sub ** 3)."""
    products = _products(sub)
    form = torch.zeros(len(products), sub, sub, sub, dtype=torch.float64)
    for row, factors in enumerate(products):
        orders = set(itertools.permutations(factors))
        for order in orders:
            form[row][order] = 1 / len(orders)
    return form.flatten(1)


def _products(sub: int) -> list[tuple[int, ...]]:
    """List the mixed products of three sums."""
    if sub > MAX_SUMS:
        return []
    triples = itertools.combinations_with_replacement(range(sub), 3)
    return [factors for factors in triples if factors[0] < factors[2]]
