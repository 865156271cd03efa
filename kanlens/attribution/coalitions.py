"""Exact Shapley values: in closed form for a sum of edges, else by enumerating all coalitions.

The game of a sample x against a background B is interventional: a coalition S of features is
worth v(S) = mean over b in B of F(x_S, b_rest). In a KAN the first layer is additive, so its sums
for (x, b, S) are P(x, S) + Q(b, S), each the edge values contracted with the members of S: a
coalition costs one addition, the nodes of the first layer, and the layers after it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kanlens.attribution.problem import MEAN_OUTPUT, Parts, Problem, pairs, reaching
from kanlens.checks import check_choice, message
from kanlens.errors import MethodError
from kanlens.progress import progress_bar

LIMIT = 14  # players; 2**14 coalitions
BLOCK = 256  # coalitions taken together


def shapley(problem: Problem, *, groups: Literal["features", "columns"] = "features") -> Parts:
    """Return exact interventional Shapley values.

    One layer: f_i(x_i) - mean of f_i over the background. Deeper, or where the output is a product:
    every coalition of the features that can change the output, at most 14 of them; work is samples
    x background x 2^features.

    Parameters
    ----------
    problem : Problem
        With a background.
    groups : {"features", "columns"}
        Who plays: each feature, or each table column (the one-hot features of a column come and
        go together).

    Returns
    -------
    Parts
        Counted from the mean output over the background.

    Raises
    ------
    MethodError
        If more than 14 players can change an output that is no sum of functions of one feature.

    References
    ----------
    .. [1] L. Shapley, A value for n-person games, 1953.
    .. [2] S. Lundberg, S.-I. Lee, A Unified Approach to Interpreting Model Predictions, 2017.
    .. [3] D. Janzing et al., Feature relevance quantification in explainable AI, 2020.
    """
    check_choice("attribute", "groups", groups, ["columns", "features"])
    names, member = _players(problem, by_column=groups == "columns")
    values = _closed_form(problem) @ member if problem.additive else _enumerated(problem, member)
    return Parts(
        values=values,
        reference=problem.expected_output(),
        baseline=MEAN_OUTPUT,
        features=names if groups == "columns" else None,
    )


def _players(problem: Problem, *, by_column: bool) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the players and, shape (in, player), which features each one holds."""
    schema = problem.model.schema
    features = schema.features
    owners = [item.column for item in features] if by_column else list(schema.feature_names)
    names = tuple(dict.fromkeys(owners))
    index = torch.tensor([names.index(name) for name in owners], device=problem.x.device)
    member = index[:, None] == torch.arange(len(names), device=problem.x.device)
    return names, member.to(problem.x.dtype)


def _closed_form(problem: Problem) -> Tensor:
    """Return f_i(x_i) - mean f_i(b_i) of an output that is a sum, shape (batch, in)."""
    model, target = problem.model, problem.target

    def contributions(x: Tensor) -> Tensor:  # (batch, in)
        parts = model.scale_inputs(x).split(problem.pairs_at_once)
        return torch.cat([model.layers[0].edge_values(part)[:, target] for part in parts])

    change = contributions(problem.x) - contributions(problem.background).mean(0)
    nodes = model.nodes[0]
    return change * model.output_scale[target] * (nodes.scale[target] if nodes.scaled else 1.0)


def _enumerated(problem: Problem, member: Tensor) -> Tensor:
    """Return Shapley values of all players, shape (batch, player); 0 for those that cannot act."""
    changes = _changing_edges(problem)
    acting = ((changes.any(0).to(member.dtype) @ member) > 0).nonzero().flatten()
    if len(acting) > LIMIT:
        raise MethodError(
            message(
                "attribute",
                f"at most {LIMIT} features with an effect for method 'shapley'",
                str(len(acting)),
                "Use method='secant' (closed form) or method='captum_shapley_value_sampling'",
            )
        )
    values = problem.x.new_zeros(len(problem.x), member.shape[1])
    if len(acting):
        values[:, acting] = _Game(problem, member[:, acting]).values()
    return values


def _changing_edges(problem: Problem) -> Tensor:
    """Tell which first-layer edges differ between any two rows and lead on, shape (out, in)."""
    layer = problem.model.layers[0]
    low = problem.x.new_full((layer.out_features, layer.in_features), math.inf)
    high = -low
    for x in (problem.x, problem.background):
        for part in problem.model.scale_inputs(x).split(problem.pairs_at_once):
            values = layer.edge_values(part)  # (batch, out, in)
            low = torch.minimum(low, values.amin(0))
            high = torch.maximum(high, values.amax(0))
    leads_on = reaching(problem.model, problem.target)[0]
    return (high > low) & leads_on[:, None]


@dataclass(frozen=True, eq=False)
class _Game:
    """All coalitions of the players whose features are the columns of `member` (in, player)."""

    problem: Problem
    member: Tensor

    def values(self) -> Tensor:
        """Return the Shapley values, shape (batch, player)."""
        problem, size = self.problem, self.problem.pairs_at_once
        steps = math.ceil(2 ** self.member.shape[1] / BLOCK) * len(problem.x)
        found = []
        with progress_bar("shapley", steps, shown=problem.progress) as advance:
            for part in problem.model.scale_inputs(problem.x).split(size):
                edges = problem.model.layers[0].edge_values(part)  # (batch, out, in)
                total = part.new_zeros(len(part), self.member.shape[1])
                for masks, weights in self.blocks():
                    total += self.worths(edges, masks) @ weights
                    advance(len(part))
                found.append(total)
        return torch.cat(found)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield coalitions (mask, player), and their weight in each player's value."""
        n = self.member.shape[1]
        bits = torch.arange(n, device=self.member.device)
        share = [1 / (n * math.comb(n - 1, size)) for size in range(n)]
        joining = self.member.new_tensor([0.0, *share])  # by the size of S, for a member
        leaving = self.member.new_tensor([*share, 0.0])
        for first in range(0, 2**n, BLOCK):
            codes = torch.arange(first, min(first + BLOCK, 2**n), device=bits.device)
            masks = (codes[:, None] >> bits) & 1  # (mask, player)
            size = masks.sum(1)
            weights = torch.where(masks == 1, joining[size][:, None], -leaving[size][:, None])
            yield masks.to(self.member.dtype), weights

    def worths(self, edges: Tensor, masks: Tensor) -> Tensor:
        """Return v(S) of samples with first-layer `edges` (batch, out, in): (batch, mask)."""
        problem, layer = self.problem, self.problem.model.layers[0]
        inside = masks @ self.member.mT  # (mask, in)
        rows = problem.model.scale_inputs(problem.background)
        worth = edges.new_zeros(len(edges), len(masks))
        at_once = max(1, problem.rows_at_once // len(masks))
        for here, there in pairs(len(edges), len(rows), at_once):
            of_x = torch.einsum("boi,si->bso", edges[here], inside)
            of_b = torch.einsum("boi,si->bso", layer.edge_values(rows[there]), 1 - inside)
            sums = of_x[:, None] + of_b + layer.bias  # (batch, background, mask, out)
            worth[here] += self.finish(sums).sum(1) / len(rows)
        return worth

    def finish(self, sums: Tensor) -> Tensor:
        """Return the output from the sums (..., out) of the first layer, shape (...)."""
        model, target = self.problem.model, self.problem.target
        hidden = model.run(model.nodes[0](sums.flatten(0, -2)), start=1)
        y = hidden[:, target] * model.output_scale[target] + model.output_shift[target]
        return y.reshape(sums.shape[:-1])
