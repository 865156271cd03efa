"""Decompose a KAN output into a sum of cooperative games, each of few players.

Each node of the last hidden layer is a game of the features that can move it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor, nn

from kanlens.attribution.problem import Problem
from kanlens.attribution.result import membership
from kanlens.data.schema import default_schema
from kanlens.model.analysis import BUDGET, reaching
from kanlens.model.network import KAN

LIMIT = 14  # players of a game whose coalitions are enumerated: 2**14

Who: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """Additive component of an output, up to a constant, as a game on the features it reads."""

    model: KAN  # model(x)[:, 0] is the part, in the units of the output; float64, no gradients
    features: Tensor  # (in,): columns of the problem's x that the model reads
    players: Tensor  # (player,): indices of the problem's players
    member: Tensor  # (in, player): 1 where a feature belongs to a player, else 0
    x: Tensor  # (batch, in): the samples, only these features
    rows: Tensor  # (rows, in): the background, likewise

    @property
    def size(self) -> int:
        """Number of players."""
        return len(self.players)

    def shares(self, x: Tensor) -> Tensor:
        """Return what each player adds to each sum of the first layer, (batch, sub, player)."""
        layer = self.model.layers[0]
        numbers = layer.mask.numel() + 16 * layer.in_features  # 16: bases of one input
        parts = self.model.scale_inputs(x).split(max(1, BUDGET // numbers))
        return torch.cat([layer.edge_values(part) @ self.member for part in parts])

    @cached_property
    def row_shares(self) -> Tensor:
        """The shares of the background, shape (rows, sub, player)."""
        return self.shares(self.rows)

    @cached_property
    def row_sums(self) -> Tensor:
        """The first layer's sums in the background, shape (rows, sub)."""
        return self.row_shares.sum(2) + self.model.layers[0].bias

    def outputs(self, sums: Tensor) -> Tensor:
        """Return the part from the sums (..., sub) of the first layer, shape (...)."""
        hidden = self.model.run(self.model.nodes[0](sums.flatten(0, -2)), start=1)
        return self.model.scale_outputs(hidden)[:, 0].reshape(sums.shape[:-1])

    @property
    def additive_nodes(self) -> bool:
        """Whether the part is a sum of functions of nodes that are sums: two layers, no product."""
        return all(nodes.additive for nodes in self.model.nodes) and len(self.model.layers) == 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """Shapley values of a game's players, with their errors."""

    values: Tensor  # (batch, player): their Shapley values
    pairs: Tensor | None = None  # (batch, player, player): interactions, zero on the diagonal
    bound: Tensor | None = None  # (batch, player): no value is farther off, rounding aside
    standard_error: Tensor | None = None  # (batch, player), where values were sampled
    evaluations: float  # of the game's model for one sample


def players(problem: Problem, *, by_column: bool) -> tuple[tuple[str, ...], Tensor]:
    """Return who plays, each feature or each table column, and whose features are: (in, player)."""
    schema = problem.model.schema
    if not by_column:
        return schema.feature_names, torch.eye(len(schema.features)).to(problem.x)
    return membership([item.column for item in schema.features], problem.x)


def games(problem: Problem, member: Tensor) -> list[Game]:
    """Cut the asked output into games, the one of the most players first.

    One layer: one game for each player. Deeper: one for each node of the last hidden layer, those
    of the same players together. A product at the output is one game. In two layers sums and
    products of too many players to enumerate are kept apart.
    """
    decomposition = _GameDecomposition(problem)
    moving = decomposition.moving  # (unit, in)
    acting = (moving.to(member.dtype) @ member) > 0  # (unit, player)
    units: dict[tuple[Who, bool], list[int]] = {}
    for unit, row in enumerate(acting):
        who = tuple(row.nonzero().flatten().tolist())
        if who:
            apart = len(who) > LIMIT and decomposition.multiplies(unit)
            units.setdefault((who, apart), []).append(unit)
    found = []
    for (who, _), nodes in sorted(units.items(), key=lambda one: (-len(one[0][0]), one[0])):
        features = moving[nodes].any(0).nonzero().flatten()
        chosen = torch.tensor(who, device=features.device)
        found.append(
            Game(
                model=decomposition.cut(nodes, features),
                features=features,
                players=chosen,
                member=member[features][:, chosen],
                x=problem.x[:, features],
                rows=problem.background[:, features],
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class _GameDecomposition:
    """Decomposes the value function of an output into a sum of smaller games.

    A unit is an input of the last layer, or the output itself where it is a product.
    """

    problem: Problem

    @cached_property
    def reached(self) -> list[Tensor]:
        """Which sums have a live path to the output, one per layer, shapes (out,)."""
        return reaching(self.problem.model, self.problem.target)

    @cached_property
    def live(self) -> list[Tensor]:
        """Edges that are not identically zero, one per layer, shapes (out, in)."""
        return [layer.nonzero_edges() for layer in self.problem.model.layers]

    @cached_property
    def splits(self) -> bool:
        """Whether the output is a sum over the inputs of the last layer."""
        return self.problem.target < self.problem.model.nodes[-1].grouping.sums

    @cached_property
    def changing(self) -> Tensor:
        """Which first-layer edges differ between any two rows and lead on, shape (out, in)."""
        problem, layer = self.problem, self.problem.model.layers[0]
        low = problem.x.new_full((layer.out_features, layer.in_features), math.inf)
        high = -low
        for x in (problem.x, problem.background):
            for part in x.split(problem.pairs_at_once):
                values = layer.edge_values(problem.model.scale_inputs(part))  # (batch, out, in)
                low = torch.minimum(low, values.amin(0))
                high = torch.maximum(high, values.amax(0))
        return ~(high <= low) & self.reached[0][:, None]  # NaN changes what it meets

    @cached_property
    def moving(self) -> Tensor:
        """Which features can move which unit, shape (unit, in)."""
        if self.problem.additive:
            return torch.diag(self.changing.any(0))
        if not self.splits:
            return self.changing.any(0, keepdim=True)
        last = len(self.live) - 1
        leads = torch.diag(self.live[last][self.reached[last]].any(0))  # (unit, node)
        for index in range(last - 1, -1, -1):
            nodes = self.problem.model.nodes[index]
            if not nodes.additive:
                leads = (leads.double() @ nodes.linked.double()) > 0  # (unit, out)
            to = (leads & self.reached[index]).double()
            edges = self.changing if index == 0 else self.live[index]
            leads = (to @ edges.double()) > 0  # (unit, in)
        return leads

    def multiplies(self, unit: int) -> bool:
        """Tell whether a unit is a product of sums of features."""
        two = self.splits and len(self.live) == 2
        return two and unit >= self.problem.model.nodes[0].grouping.sums

    def _kept(self, units: Sequence[int]) -> list[tuple[list[int], list[int]]]:
        """Return outputs and inputs of every layer that units need, products with all factors."""
        last, nodes = len(self.live) - 1, [self.problem.target]
        kept: list[tuple[list[int], list[int]]] = []
        for index in range(last, -1, -1):
            given = self.problem.model.nodes[index]
            if given.normalized:
                nodes = given.together(nodes)
                kept[-1] = (kept[-1][0], nodes)
            outs = [sub for node in nodes for sub in given.grouping.members(node)]
            if index == 0:
                nodes = list(range(self.live[0].shape[1]))
            elif index == last and self.splits:
                nodes = sorted(units)
            else:
                chosen = [sub for sub in outs if bool(self.reached[index][sub])]
                nodes = self.live[index][chosen].any(0).nonzero().flatten().tolist()
            kept.append((outs, nodes))
        return kept[::-1]

    def cut(self, units: list[int], features: Tensor) -> KAN:
        """Return the network that leads from some features to some units and to the output."""
        problem, model = self.problem, self.problem.model
        sizes = [(layer.out_features, layer.in_features) for layer in model.layers]
        kept = self._kept(units)
        if [(len(outs), len(ins)) for outs, ins in kept] == sizes and len(features) == sizes[0][1]:
            return model  # nothing to cut
        (first, _), *others = kept
        start = model.layers[0].select(first, features.tolist())
        if not problem.additive:
            start.bias.data += self._constants(features)[first]
        layers: list[nn.Module] = [start]
        layers += [model.layers[k + 1].select(outs, ins) for k, (outs, ins) in enumerate(others)]
        ends = [ins for _, ins in others] + [[problem.target]]
        nodes = [given.select(kept) for given, kept in zip(model.nodes, ends, strict=True)]
        cut = KAN.from_layers(layers, default_schema(len(features), 1), nodes=nodes)
        for name in ("input_shift", "input_scale", "input_low", "input_high"):
            getattr(cut, name).copy_(getattr(model, name)[features])
        for name in ("output_shift", "output_scale"):
            getattr(cut, name).fill_(getattr(model, name)[problem.target])
        return cut.requires_grad_(False).eval()

    def _constants(self, features: Tensor) -> Tensor:
        """Return the constant part of the first layer's sums from all other features, (out,)."""
        problem, layer = self.problem, self.problem.model.layers[0]
        edges = layer.edge_values(problem.model.scale_inputs(problem.x[:1]))[0].clone()
        edges[:, features] = 0.0
        return edges.sum(1)
