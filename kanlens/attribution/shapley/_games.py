"""Decompose a KAN output into a sum of cooperative games, one per node of the last hidden layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor, nn

from kanlens.attribution._problem import Problem
from kanlens.attribution._result import membership
from kanlens.data._schema import default_schema
from kanlens.model._analysis import BUDGET, reaching
from kanlens.model._network import KAN

LIMIT = 14  # players of a game whose coalitions are enumerated: 2**14

Who: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """An additive component of an output, up to a constant, as a game on its features."""

    model: KAN  # model(x)[:, 0] is the component, in units of the output; float64, frozen
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
        """Return the contribution of each player to each first-layer sum, (batch, sub, player)."""
        layer = self.model.layers[0]
        numbers = layer.mask.numel() + 16 * layer.in_features  # 16: bases of one input
        parts = self.model.scale_inputs(x).split(max(1, BUDGET // numbers))
        return torch.cat([layer.edge_values(part) @ self.member for part in parts])

    @cached_property
    def row_shares(self) -> Tensor:
        """The contributions of players in the background, shape (rows, sub, player)."""
        return self.shares(self.rows)

    @cached_property
    def row_sums(self) -> Tensor:
        """The first layer's sums in the background, shape (rows, sub)."""
        return self.row_shares.sum(2) + self.model.layers[0].bias

    def outputs(self, sums: Tensor) -> Tensor:
        """Return the value of the game, shape (...), from first-layer sums (..., sub)."""
        hidden = self.model.run(self.model.nodes[0](sums.flatten(0, -2)), start=1)
        return self.model.scale_outputs(hidden)[:, 0].reshape(sums.shape[:-1])

    @property
    def additive_nodes(self) -> bool:
        """True if the output is a sum of functions of nodes: two layers, no products."""
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
    """Return the names of the players (features or table columns), and the mask (in, player)."""
    schema = problem.model.schema
    if not by_column:
        return schema.feature_names, torch.eye(len(schema.features)).to(problem.x)
    return membership([item.column for item in schema.features], problem.x)


def games(problem: Problem, member: Tensor) -> list[Game]:
    """Divide an output that is not additive into games of nodes with the same players.

    In two layers, sums and products are kept apart if they have too many players to enumerate.
    """
    decomposition = _GameDecomposition(problem)
    moving = decomposition.moving  # (unit, in)
    acting = (moving.to(member.dtype) @ member) > 0  # (unit, player)
    units: dict[tuple[Who, bool], list[int]] = {}
    for unit, row in enumerate(acting):
        who = tuple(row.nonzero().flatten().tolist())
        if who:
            apart = len(who) > LIMIT and unit >= decomposition.first_product
            units.setdefault((who, apart), []).append(unit)
    parts = []
    for (who, _), nodes in sorted(units.items(), key=lambda item: (-len(item[0][0]), item[0])):
        features = moving[nodes].any(0).nonzero().flatten()
        chosen = torch.tensor(who, device=features.device)
        game = Game(
            model=decomposition.cut(nodes, features),
            features=features,
            players=chosen,
            member=member[features][:, chosen],
            x=problem.x[:, features],
            rows=problem.background[:, features],
        )
        parts.append(game)
    return parts


class _GameDecomposition:
    """Decomposition of an output into units: the last layer's inputs, or itself if a product."""

    def __init__(self, problem: Problem) -> None:
        self.problem, model = problem, problem.model
        self.reached = reaching(model, problem.target)  # sums that lead to the output, (out,) each
        self.live = [layer.nonzero_edges() for layer in model.layers]  # (out, in) each
        self.splits = problem.target < model.nodes[-1].grouping.sums  # into the last layer's inputs
        two = self.splits and len(model.layers) == 2
        self.first_product = model.nodes[0].grouping.sums if two else math.inf

    @cached_property
    def changing(self) -> Tensor:
        """Mask (out, in) of first-layer edges that vary over the rows and affect the output."""
        problem, layer = self.problem, self.problem.model.layers[0]
        low = problem.x.new_full((layer.out_features, layer.in_features), math.inf)
        high = -low
        for x in (problem.x, problem.background):
            for part in x.split(problem.pairs_at_once):
                values = layer.edge_values(problem.model.scale_inputs(part))  # (batch, out, in)
                low = torch.minimum(low, values.amin(0))
                high = torch.maximum(high, values.amax(0))
        return ~(high <= low) & self.reached[0][:, None]  # NaN counts as varying

    @cached_property
    def moving(self) -> Tensor:
        """Mask of the features that affect each unit, shape (unit, in)."""
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

    def _needed(self, units: list[int]) -> list[tuple[list[int], list[int]]]:
        """Return each layer's outputs and inputs that units depend on; products are kept whole."""
        last, nodes = len(self.live) - 1, [self.problem.target]
        needed: list[tuple[list[int], list[int]]] = []
        for index in range(last, -1, -1):
            level = self.problem.model.nodes[index]
            if level.normalized:
                nodes = level.together(nodes)
                needed[-1] = (needed[-1][0], nodes)
            outs = [sub for node in nodes for sub in level.grouping.members(node)]
            if index == 0:
                nodes = list(range(self.live[0].shape[1]))
            elif index == last and self.splits:
                nodes = units
            else:
                chosen = [sub for sub in outs if bool(self.reached[index][sub])]
                nodes = self.live[index][chosen].any(0).nonzero().flatten().tolist()
            needed.append((outs, nodes))
        return needed[::-1]

    def cut(self, units: list[int], features: Tensor) -> KAN:
        """Return the subnetwork from some features through some units to the output."""
        problem, model = self.problem, self.problem.model
        needed = self._needed(units)
        sizes = [(layer.out_features, layer.in_features) for layer in model.layers]
        if len(features) == sizes[0][1] and sizes == [tuple(map(len, part)) for part in needed]:
            return model  # nothing to cut
        (first, _), *others = needed
        start = model.layers[0].select(first, features.tolist())
        edges = model.layers[0].edge_values(model.scale_inputs(problem.x[:1]))[0].clone()
        edges[:, features] = 0.0
        start.bias.data += edges.sum(1)[first]  # of all other features, which never change
        layers: list[nn.Module] = [start]
        layers += [model.layers[k + 1].select(outs, ins) for k, (outs, ins) in enumerate(others)]
        ends = [ins for _, ins in others] + [[problem.target]]
        nodes = [level.select(end) for level, end in zip(model.nodes, ends, strict=True)]
        cut = KAN.from_layers(layers, default_schema(len(features), 1), nodes=nodes)
        for name in ("input_shift", "input_scale", "input_low", "input_high"):
            getattr(cut, name).copy_(getattr(model, name)[features])
        for name in ("output_shift", "output_scale"):
            getattr(cut, name).fill_(getattr(model, name)[problem.target])
        return cut.requires_grad_(False).eval()
