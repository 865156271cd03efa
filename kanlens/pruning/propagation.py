"""Incremental forward pass: values of all nodes while edges are removed one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.model.analysis import BUDGET, levels_of, over_rows, rows_at_once
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.resources import allowed_memory, check_memory

Edge = tuple[int, int, int]  # layer, out, in
Levels = tuple[list[Tensor], list[Tensor]]  # values and sums
REFRESH = 200  # removals after which everything is computed anew, so that rounding stays small
MOST_VALUES = 2**25  # of edges over rows, up to which they are remembered
PART = 4  # of the memory allowed is for the edges that are remembered, and one for their effects
FEWER = "Pass fewer rows, or a larger max_memory"  # advice


class Propagation:
    """Values of all nodes of a network over rows (batch, in), under changes of its edges.

    `values` are the nodes of each level (batch, node), from the scaled inputs on, and `sums` the
    outputs of each layer (batch, out). Only layers behind a removed edge's node are run in full.
    """

    @torch.no_grad()
    def __init__(self, model: KAN, rows: Tensor, *, call: str = "prune") -> None:
        self.model, self.rows = model, rows
        self._take_back: Callable[[], None] | None = None
        self._columns: dict[tuple[int, int], KANLinear] = {}
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._effects: dict[Edge, tuple[tuple[Tensor, ...], Tensor]] = {}
        edges = sum(layer.mask.numel() for layer in model.layers)
        each = len(rows) * rows.element_size()
        needed = 2 * each * sum(layer.in_features + layer.out_features for layer in model.layers)
        check_memory(call, needed, f"values of nodes on {len(rows):,} rows", FEWER)
        room = min(MOST_VALUES, allowed_memory() // (PART * rows.element_size()))
        self.remembers = edges * len(rows) <= room
        widest = max(layer.out_features for layer in model.layers)
        self._remembers_effects = edges * len(rows) * widest <= room
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Compute all values anew."""
        self.values, self.sums = levels_of(self.model, self.rows)
        self.age = 0

    @property
    def output(self) -> Tensor:
        """Output of the network, shape (batch, out), in the units of the data."""
        return self.model.scale_outputs(self.values[-1])

    @torch.no_grad()
    def without(self, edge: Edge) -> Tensor:  # (batch, out)
        """Return what the output would be with an edge replaced by its mean over the rows."""
        (values, _), _ = self._removed(edge)
        return self.model.scale_outputs(values[-1])

    @torch.no_grad()
    def remove(self, edge: Edge) -> None:
        """Mask an edge and leave its mean over the rows in the bias of its sum."""
        if self.age >= REFRESH:
            self.refresh()
        index, out, in_ = edge
        layer, before = self.model.layers[index], (self.values, self.sums)
        (self.values, self.sums), mean = self._removed(edge)
        mask, bias = layer.mask[out, in_].clone(), layer.bias[out].clone()
        layer.bias[out] += mean
        layer.mask[out, in_] = 0
        self.age += 1

        def take_back() -> None:
            layer.mask[out, in_], layer.bias[out] = mask, bias
            (self.values, self.sums), self.age = before, self.age - 1

        self._take_back = take_back

    @torch.no_grad()
    def undo(self) -> None:
        """Take back the last removal, bit for bit."""
        if self._take_back is not None:
            self._take_back()
            self._take_back = None

    def _removed(self, edge: Edge) -> tuple[Levels, Tensor]:
        """Return values and sums without an edge, and its mean."""
        index, out, in_ = edge
        phi = self._edges_from(index, in_, self.values[index])[:, out]  # (batch,)
        mean = phi.double().mean().to(phi)
        return self._pushed(edge, mean - phi), mean

    def _pushed(self, edge: Edge, change: Tensor) -> Levels:
        """Add `change` (batch,) to the sum of an edge, and follow it to the end."""
        index, out, _ = edge
        values, sums = list(self.values), list(self.sums)
        sums[index] = sums[index].clone()
        sums[index][:, out] += change
        values[index + 1] = self.model.nodes[index](sums[index])
        following = index + 1
        if following < len(self.model.layers) and not self.model.nodes[index].normalized:
            node = int(self.model.nodes[index].owner[out])
            effect = self._effect(edge, node, values[index + 1])
            alive = self.model.layers[index + 1].mask[:, node] != 0
            sums[index + 1] = sums[index + 1] + torch.where(alive, effect, 0.0)
            values[index + 2] = self.model.nodes[index + 1](sums[index + 1])
            following = index + 2
        for later in range(following, len(self.model.layers)):
            (sums[later],) = over_rows(
                lambda part, layer=self.model.layers[later]: [layer(part)],  # type: ignore[misc]
                values[later],
                rows_at_once(self.model),
            )
            values[later + 1] = self.model.nodes[later](sums[later])
        return values, sums

    def _effect(self, edge: Edge, node: int, moved: Tensor) -> Tensor:
        """Return the change (batch, out) by edges that leave the node of a removed edge."""
        index = edge[0]
        ends = (self.values[index + 1][:, node], moved[:, node])
        if edge in self._effects:
            known, effect = self._effects[edge]
            if all(map(torch.equal, known, ends)):
                return effect
        before = self._edges_from(index + 1, node, self.values[index + 1])
        after = self._edges_from(index + 1, node, moved, keep=False)
        effect = after - before
        if self._remembers_effects:
            self._effects[edge] = (tuple(end.clone() for end in ends), effect)
        return effect

    def _edges_from(  # (batch, in) -> (batch, out)
        self, index: int, in_: int, x: Tensor, *, keep: bool = True
    ) -> Tensor:
        """Return all edges that leave one node, the removed ones among them."""
        key, node = (index, in_), x[:, [in_]]
        known = self._known.get(key)
        if known is not None and torch.equal(known[0], node):
            return known[1]
        if key not in self._columns:
            layer = self.model.layers[index]
            self._columns[key] = layer.select(range(layer.out_features), [in_])
        layer = self._columns[key]
        at_once = max(1, BUDGET // (16 + layer.out_features))
        (edges,) = over_rows(lambda part: [layer.edge_values(part)[..., 0]], node, at_once)
        if self.remembers and keep:
            self._known[key] = (node, edges)
        return edges
