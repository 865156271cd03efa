"""Incremental forward pass: values of all nodes while edges are removed and scaled one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from kanlens.model.analysis import BUDGET, levels_of, over_rows, rows_at_once
from kanlens.model.function_layer import SPLINE, FunctionLinear
from kanlens.model.layers import KANLinear
from kanlens.model.network import KAN
from kanlens.model.series_layer import SeriesLinear
from kanlens.resources import allowed_memory, check_memory

Edge = tuple[int, int, int]  # layer, out, in
Levels = tuple[list[Tensor], list[Tensor]]  # values and sums
REFRESH = 200  # removals after which everything is computed anew, so that rounding stays small
MOST_VALUES = 2**25  # of edges over rows, up to which they are remembered
PART = 4  # of the memory allowed is for the edges that are remembered, and one for their effects
FEWER = "Pass fewer rows, or a larger max_memory"  # advice
RIDGE = 1e-3  # of edges in units of their deviation: what two that are alike share between them
FLAT = 1e-6  # share of the largest deviation below which an edge is not used


def covariance(parts: Iterable[Tensor]) -> Tensor:  # parts of the rows (batch, n) -> (n, n)
    """Return the covariance matrix of columns, in float64, merged from sums over parts."""
    count, mean, total = 0, torch.zeros(()), torch.zeros(())
    for part in parts:
        values = part.double()
        own, rows = values.mean(0), len(values)
        moves, away = values - own, own - mean.to(own)
        mean = own if not count else mean + away * (rows / (count + rows))
        between = torch.outer(away, away) * (count * rows / (count + rows))
        total, count = total.to(own) + moves.mT @ moves + between, count + rows
    return total / count


def factors_for(moments: Tensor) -> Tensor:  # (n + 1, n + 1) -> (n,)
    """Fit least-squares compensation factors of the remaining edges after a removal.

    Ridge regression towards 1 that counts every edge in units of its own deviation, from the
    covariances of what is left and, last, what is lost. Means do not count: a bias takes them.
    """
    gram, right = moments[:-1, :-1], moments[:-1, -1]
    sizes = gram.diagonal().sqrt()
    usable = sizes > FLAT * torch.maximum(sizes.amax(), moments[-1, -1].sqrt())
    factors = torch.ones_like(sizes)
    units = sizes[usable]
    gram = gram[usable][:, usable] / units / units[:, None]
    ridge = RIDGE * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    factors[usable] += torch.linalg.solve(gram + ridge, right[usable] / units) / units
    return factors


@torch.no_grad()
def scale_edges(layer: KANLinear, out: int, factors: Tensor) -> Callable[[], None]:
    """Multiply the edges of one sum by factors (in,); return what takes it back, bit for bit."""
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
    def __init__(self, model: KAN, rows: Tensor, *, call: str = "prune") -> None:
        self.model, self.rows = model, rows
        # how often the weights of each layer's sums have changed, each of shape (out,)
        self.versions = [torch.zeros(len(layer.bias), dtype=torch.long) for layer in model.layers]
        self._undone: list[Callable[[], None]] = []  # what takes the latest changes back
        self._columns: dict[tuple[int, int], KANLinear] = {}
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._effects: dict[Edge, tuple[int, tuple[Tensor, ...], Tensor]] = {}
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

    def edge_values(self, index: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and the value of every edge of a layer on them, shape (batch, out, in)."""
        layer = self.model.layers[index]
        outs, ins = range(layer.out_features), range(layer.in_features)
        for rows, values in self._edges_of(index, [*outs], [*ins]):
            yield rows, torch.where(layer.mask != 0, values, 0.0)

    @torch.no_grad()
    def moments(self, edge: Edge, others: list[int]) -> Tensor:  # (n + 1, n + 1)
        """Return the covariances of some other edges of an edge's sum and, last, its own."""
        index, out, in_ = edge
        found = self._edges_of(index, [out], [*others, in_])
        return covariance(values[:, 0] for _, values in found)

    def _edges_of(
        self, index: int, outs: list[int], ins: list[int]
    ) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows, and the values of some edges on them, shape (batch, out, in)."""
        x = self.values[index]
        known = [self._edges_from(index, in_, x) for in_ in ins] if self.remembers else []
        layer = self.model.layers[index].select(outs, ins)
        size = max(1, BUDGET // (16 * len(ins) + layer.mask.numel()))  # 16: bases of one input
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            if known:
                yield rows, torch.stack([edges[rows][:, outs] for edges in known], dim=-1)
            else:
                yield rows, layer.edge_values(x[rows][:, ins])

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
            (sums[later],) = over_rows(
                lambda part, layer=self.model.layers[later]: [layer(part)],  # type: ignore[misc]
                values[later],
                rows_at_once(self.model),
            )
            values[later + 1] = self.model.nodes[later](sums[later])
        return values, sums

    def _effect(self, index: int, node: int, moved: Tensor, edge: Edge | None) -> Tensor:
        """Return the change (batch, out) by edges that leave a node, kept where an `edge` goes."""
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
        layer = self._columns[key]
        at_once = max(1, BUDGET // (16 + layer.out_features))
        (edges,) = over_rows(lambda part: [layer.edge_values(part)[..., 0]], node, at_once)
        if self.remembers and keep:
            self._known[key] = (node, edges)
        return edges
