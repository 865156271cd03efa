"""Incremental forward pass: values of all nodes while edges are removed and scaled one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.model.function_layer import SPLINE, FunctionLinear
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.model.series_layer import SeriesLinear

Edge = tuple[int, int, int]  # layer, out, in
Levels = tuple[list[Tensor], list[Tensor]]  # values and sums
REFRESH = 200  # removals after which everything is computed anew, so that rounding stays small
MOST_VALUES = 2**25  # of edges over rows, up to which they are remembered
RIDGE = 1e-3  # of edges in units of their deviation: what two that are alike share between them
FLAT = 1e-6  # share of the largest deviation below which an edge is not used


def factors_for(lost: Tensor, left: Tensor) -> Tensor:  # (batch,), (batch, n) -> (n,)
    """Fit least-squares compensation factors of the remaining edges after a removal.

    Ridge regression towards 1 that counts every edge in units of its own deviation. Means do not
    count: a bias takes them.
    """
    target = (lost - lost.mean()).double()
    moves = (left - left.mean(0)).double()
    sizes = moves.square().mean(0).sqrt()
    usable = sizes > FLAT * torch.maximum(sizes.amax(), target.square().mean().sqrt())
    factors = torch.ones_like(sizes)
    if not bool(usable.any()):
        return factors.to(left)
    units = moves[:, usable] / sizes[usable]
    gram = units.mT @ units / len(units)
    right = units.mT @ target / len(units)
    ridge = RIDGE * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factors[usable] += torch.linalg.solve(gram + ridge, right) / sizes[usable]
    return factors.to(left)


@torch.no_grad()
def scale_edges(layer: KANLinear, out: int, factors: Tensor) -> Callable[[], None]:
    """Multiply the edges of one sum of a layer by factors (in,), and its statistics.

    Returns what takes it back, bit for bit.
    """
    own, each = layer.enable_standalone_scale_spline, factors[:, None]
    parts: list[tuple[Tensor, Tensor]] = [(layer.base_weight, factors)]
    parts.append((layer.spline_scaler, factors) if own else (layer.spline_weight, each))
    if isinstance(layer, SeriesLinear) and layer.series:
        parts.append((layer.series_weight, each))
    if isinstance(layer, FunctionLinear):
        named = torch.tensor([name != SPLINE for name in layer.functions[out]]).to(factors.device)
        parts.append((layer.affine[:, :, 2:], torch.where(named, factors, 1.0)[:, None]))
    kept, statistics = [tensor[out].clone() for tensor, _ in parts], layer.statistics
    for tensor, factor in parts:
        tensor[out] *= factor
    if statistics is not None:
        mean, std, by = statistics.edge_mean.clone(), statistics.edge_std.clone(), factors.cpu()
        mean[out] *= by
        std[out] *= by.abs()
        layer.statistics = dataclasses.replace(statistics, edge_mean=mean, edge_std=std)

    @torch.no_grad()
    def take_back() -> None:
        for (tensor, _), row in zip(parts, kept, strict=True):
            tensor[out] = row
        layer.statistics = statistics

    return take_back


class Propagation:
    """Values of all nodes of a network over rows (batch, in), under changes of its edges.

    `values` are the nodes of each level (batch, node), from the scaled inputs on, and `sums` the
    outputs of each layer (batch, out). Only layers behind a removed edge's node are run in full.
    """

    @torch.no_grad()
    def __init__(self, model: KAN, rows: Tensor) -> None:
        self.model, self.rows = model, rows
        # how often the weights of each layer's sums have changed, each of shape (out,)
        self.versions = [torch.zeros(len(layer.bias), dtype=torch.long) for layer in model.layers]
        self._undone: list[Callable[[], None]] = []  # what takes the latest changes back
        self._columns: dict[tuple[int, int], KANLinear] = {}
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._effects: dict[Edge, tuple[int, tuple[Tensor, ...], Tensor]] = {}
        edges = sum(layer.mask.numel() for layer in model.layers)
        self.remembers = edges * len(rows) <= MOST_VALUES
        widest = max(layer.out_features for layer in model.layers)
        self._remembers_effects = edges * len(rows) * widest <= MOST_VALUES
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Compute all values anew."""
        self.values, self.sums = self.model.levels(self.model.scale_inputs(self.rows))
        self.age = 0

    @property
    def output(self) -> Tensor:
        """Output of the network, shape (batch, out), in the units of the data."""
        return self.model.scale_outputs(self.values[-1])

    @torch.no_grad()
    def edge_values(self, index: int, rows: slice = slice(None)) -> Tensor:
        """Return the value of every edge of a layer, shape (batch, out, in), on some rows."""
        layer, x = self.model.layers[index], self.values[index]
        if not self.remembers:
            return layer.edge_values(x[rows])
        columns = [self._edges_from(index, in_, x) for in_ in range(layer.in_features)]
        alive = layer.mask != 0
        return torch.where(alive, torch.stack(columns, dim=-1), 0.0)[rows]

    @torch.no_grad()
    def edge(self, edge: Edge) -> Tensor:
        """Return the values of one edge that is not masked, shape (batch,)."""
        index, out, in_ = edge
        return self._edges_from(index, in_, self.values[index])[:, out]

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

        self._undone = [take_back]

    @torch.no_grad()
    def scale(self, index: int, out: int, factors: Tensor) -> None:
        """Multiply the edges of one sum by factors (in,), and keep its mean over the rows."""
        layer, before = self.model.layers[index], (self.values, self.sums)
        scaled = ((factors != 1) & (layer.mask[out] != 0)).nonzero()[:, 0].tolist()
        change = torch.zeros_like(self.sums[index][:, out])
        for in_ in scaled:
            change += (factors[in_] - 1) * self._edges_from(index, in_, self.values[index])[:, out]
        bias = layer.bias[out].clone()
        mean = change.double().mean().to(change)
        self.values, self.sums = self._pushed(index, out, change - mean)
        restore = [scale_edges(layer, out, factors)]
        restore += [self._scale_known((index, in_), out, factors) for in_ in scaled]
        layer.bias[out] -= mean
        self.versions[index][out] += 1

        def take_back() -> None:
            for each in restore:
                each()
            layer.bias[out] = bias
            self.versions[index][out] -= 1
            self.values, self.sums = before

        self._undone.append(take_back)

    @torch.no_grad()
    def undo(self) -> None:
        """Take back the latest change since, and with, the last removal, bit for bit."""
        if self._undone:
            self._undone.pop()()

    def _scale_known(self, key: tuple[int, int], out: int, factors: Tensor) -> Callable[[], None]:
        """Multiply what is remembered of the edge from an input of a layer to one of its sums."""
        restore = scale_edges(self._columns[key], out, factors[key[1], None])
        known = self._known.get(key)
        if known is not None:
            edges = known[1].clone()
            edges[:, out] *= factors[key[1]]
            self._known[key] = (known[0], edges)

        def take_back() -> None:
            restore()
            if known is not None:
                self._known[key] = known

        return take_back

    def _removed(self, edge: Edge) -> tuple[Levels, Tensor]:
        """Return values and sums without an edge, and its mean."""
        index, out, in_ = edge
        phi = self._edges_from(index, in_, self.values[index])[:, out]  # (batch,)
        mean = phi.double().mean().to(phi)
        return self._pushed(index, out, mean - phi, edge), mean

    def _pushed(self, index: int, out: int, change: Tensor, edge: Edge | None = None) -> Levels:
        """Add `change` (batch,) to one sum of a layer, and follow it to the end."""
        values, sums = list(self.values), list(self.sums)
        sums[index] = sums[index].clone()
        sums[index][:, out] += change
        values[index + 1] = self.model.nodes[index](sums[index])
        following = index + 1
        if following < len(self.model.layers) and not self.model.nodes[index].normalized:
            node = int(self.model.nodes[index].owner[out])
            effect = self._effect(index, node, values[index + 1], edge)
            alive = self.model.layers[index + 1].mask[:, node] != 0
            sums[index + 1] = sums[index + 1] + torch.where(alive, effect, 0.0)
            values[index + 2] = self.model.nodes[index + 1](sums[index + 1])
            following = index + 2
        for later in range(following, len(self.model.layers)):
            sums[later] = self.model.layers[later](values[later])
            values[later + 1] = self.model.nodes[later](sums[later])
        return values, sums

    def _effect(self, index: int, node: int, moved: Tensor, edge: Edge | None) -> Tensor:
        """Return by how much the edges that leave a node change (batch, out), moved as it is.

        What it is for an `edge` that goes is remembered.
        """
        version = int(self.versions[index + 1].sum())
        ends = (self.values[index + 1][:, node], moved[:, node])
        if edge is not None and edge in self._effects:
            at, known, effect = self._effects[edge]
            if at == version and all(map(torch.equal, known, ends)):
                return effect
        before = self._edges_from(index + 1, node, self.values[index + 1])
        after = self._edges_from(index + 1, node, moved, keep=edge is None)
        effect = after - before
        if edge is not None and self._remembers_effects:
            self._effects[edge] = (version, tuple(end.clone() for end in ends), effect)
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
        edges = self._columns[key].edge_values(node)[..., 0]
        if self.remembers and keep:
            self._known[key] = (node, edges)
        return edges
