"""Networks that lose edges: values of all nodes, reachability, and compaction."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import cast

import torch
from torch import Tensor, nn

from kanlens._resources import allowed_memory, check_memory
from kanlens.errors import MethodError
from kanlens.model._analysis import BUDGET, Model, check_model, levels_of, over_rows, rows_at_once
from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes
from kanlens.model._spline_forward import means_and_norms
from kanlens.model._statistics import summarize

Edge = tuple[int, int, int]  # layer, out, in
REFRESH = 200  # removals between two full passes, which keep rounding small
MAX_CACHED_VALUES = 2**25  # of edges over rows, up to which they are cached
PART = 4  # a quarter of the memory is for cached edges, another for those of the next layer
MEMORY_ADVICE = "Pass fewer rows, or a larger max_memory"  # advice


class Propagation:
    """Values of all nodes of a network over rows (batch, in), under removals of its edges.

    `values` are the nodes of each level (batch, node), from the scaled inputs on, `sums` the
    outputs of each layer (batch, out), and `output` that of the network in the units of the data.
    After a removal, the layer of the edge and the next one are updated incrementally, later layers
    in full.
    """

    @torch.no_grad()
    def __init__(self, model: KAN, rows: Tensor, *, call: str = "prune") -> None:
        self.model, self.rows = model, rows
        self._last: tuple[Edge, Tensor, Tensor, tuple[list[Tensor], list[Tensor], int]] | None
        self._columns: dict[tuple[int, int], KANLinear] = {}
        self._cache: dict[tuple[int, int, Edge | None], tuple[Tensor, Tensor]] = {}
        edges = sum(layer.mask.numel() for layer in model.layers)
        size = len(rows) * rows.element_size()
        needed = 2 * size * sum(layer.in_features + layer.out_features for layer in model.layers)
        check_memory(call, needed, f"values of nodes on {len(rows):,} rows", MEMORY_ADVICE)
        room = min(MAX_CACHED_VALUES, allowed_memory() // (PART * rows.element_size()))
        widest = max(layer.out_features for layer in model.layers)
        self.caches = edges * len(rows) <= room
        self._caches_following = edges * len(rows) * widest <= room
        self.values, self.sums = levels_of(model, rows)
        self.output, self._last, self.age = model.scale_outputs(self.values[-1]), None, 0

    @torch.no_grad()
    def without(self, edge: Edge) -> Tensor:  # (batch, out)
        """Return the output with an edge replaced by its mean over the rows."""
        return self.model.scale_outputs(self._removed(edge)[0][-1])

    @torch.no_grad()
    def remove(self, edge: Edge) -> None:
        """Mask an edge and add its mean over the rows to the bias of its sum."""
        if self.age >= REFRESH:
            (self.values, self.sums), self.age = levels_of(self.model, self.rows), 0
        index, out, in_ = edge
        layer, before = self.model.layers[index], (self.values, self.sums, self.age)
        self._last = edge, layer.mask[out, in_].clone(), layer.bias[out].clone(), before
        self.values, self.sums, mean = self._removed(edge)
        self.output, self.age = self.model.scale_outputs(self.values[-1]), self.age + 1
        layer.bias[out] += mean
        layer.mask[out, in_] = 0

    @torch.no_grad()
    def undo(self) -> None:
        """Undo the last removal, bit for bit."""
        if self._last is None:
            return
        (index, out, in_), mask, bias, (self.values, self.sums, self.age) = self._last
        layer, self._last = self.model.layers[index], None
        layer.mask[out, in_], layer.bias[out] = mask, bias
        self.output = self.model.scale_outputs(self.values[-1])

    def _removed(self, edge: Edge) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Return node values and sums with an edge replaced by its mean, and that mean."""
        index, out, in_ = edge
        layers, nodes = self.model.layers, self.model.nodes
        phi = self._edges_from(index, in_, self.values[index])[:, out]  # (batch,)
        mean = phi.double().mean().to(phi)
        values, sums, following = list(self.values), list(self.sums), index + 1
        sums[index] = sums[index].clone()
        sums[index][:, out] += mean - phi
        values[following] = nodes[index](sums[index])
        if following < len(layers) and not nodes[index].normalized:
            node = int(nodes[index].owner[out])
            before = self._edges_from(following, node, self.values[following])
            after = self._edges_from(following, node, values[following], edge)
            unmasked = layers[following].mask[:, node] != 0
            sums[following] = sums[following] + torch.where(unmasked, after - before, 0.0)
            values[following + 1] = nodes[following](sums[following])
            following += 1
        self._run(values, sums, following)
        return values, sums, mean

    @torch.no_grad()
    def replace(self, index: int, layer: KANLinear) -> None:
        """Replace a layer by one with other weights."""
        cast("nn.ModuleList", self.model.layers)[index] = layer
        self._last = None
        self._columns = {key: part for key, part in self._columns.items() if key[0] != index}
        self._cache = {key: known for key, known in self._cache.items() if key[0] != index}
        self.values, self.sums = list(self.values), list(self.sums)
        self._run(self.values, self.sums, index)
        self.output = self.model.scale_outputs(self.values[-1])

    def _run(self, values: list[Tensor], sums: list[Tensor], start: int) -> None:
        """Compute values and sums of the layers from `start` on."""
        for index in range(start, len(self.model.layers)):
            (sums[index],) = over_rows(
                lambda part, layer=self.model.layers[index]: [layer(part)],  # type: ignore[misc]
                values[index],
                rows_at_once(self.model),
            )
            values[index + 1] = self.model.nodes[index](sums[index])

    def _edges_from(  # (batch, in) -> (batch, out)
        self, index: int, in_: int, x: Tensor, removed: Edge | None = None
    ) -> Tensor:
        """Return the values of all edges from an input; removing `removed`, if any, changed x."""
        key, column = (index, in_, removed), x[:, [in_]]
        cached = self._cache.get(key)
        if cached is not None and torch.equal(cached[0], column):
            return cached[1]
        if key[:2] not in self._columns:
            layer = self.model.layers[index]
            self._columns[key[:2]] = layer.select(range(layer.out_features), [in_])
        layer = self._columns[key[:2]]
        at_once = max(1, BUDGET // (16 + layer.out_features))
        (edges,) = over_rows(lambda part: [layer.edge_values(part)[..., 0]], column, at_once)
        if self.caches if removed is None else self._caches_following:
            self._cache[key] = (column, edges)
        return edges


def renew_statistics(model: KAN, rows: Tensor) -> None:
    """Update the statistics of a network, if any, after removals."""
    if model.statistics is None:
        return
    first, *deeper = model.layers
    old, mask = model.statistics[0], (first.mask != 0).cpu()
    moments = {name: getattr(old, name) * mask for name in ("edge_mean", "edge_std")}
    first.statistics = dataclasses.replace(old, **moments)
    for layer, x in zip(deeper, Propagation(model, rows).values[1:-1], strict=True):
        layer.statistics = summarize(x, *means_and_norms(layer, x))


def reached(model: KAN) -> Tensor:  # (out,)
    """Return the mask of outputs that depend on a feature."""
    nodes = torch.ones(model.widths[0], dtype=torch.bool)
    for index, layer in enumerate(model.layers):
        nodes = varying(model, index, ((layer.mask != 0).cpu() & nodes).any(1))
    return nodes


def varying(model: KAN, index: int, moving: Tensor) -> Tensor:  # (sub,) -> (node,)
    """Return the mask of a layer's nodes that vary, given those of its sums that do (`moving`)."""
    nodes, layer = model.nodes[index], model.layers[index]
    if nodes.additive:
        return moving
    zero = ((layer.bias == 0) & ~(layer.mask != 0).any(1)).cpu()  # (sub,)
    zero[: nodes.grouping.sums] = False  # only factors make their node zero
    linked = nodes.linked.cpu()
    return (linked & moving).any(1) & ~(linked & zero).any(1)


def compact(model: Model) -> KAN:
    """Return a network of the same function, without nodes and features that have no edges.

    Parameters
    ----------
    model : KAN or fitted estimator
        Left unchanged.

    Returns
    -------
    KAN
        With the names, units, scaling and statistics of the remaining features and nodes. Constant
        factors of a product are folded into its scale; hidden products of one factor become sums,
        last among the sums.

    Raises
    ------
    DTypeError
        If `model` is not a KAN.
    MethodError
        If a layer has no edge left.

    Examples
    --------
    >>> model = KAN([2, 1])
    >>> _ = model.layers[0].mask[0, 0].zero_()
    >>> compact(model).feature_names
    ('x2',)
    """
    model = check_model("compact", model)
    read = [(layer.mask != 0).any(0).nonzero()[:, 0].tolist() for layer in model.layers]
    hidden = zip(list(model.nodes)[:-1], read[1:], strict=True)
    inputs = [read[0], *(n.together(used) if n.normalized else used for n, used in hidden)]
    if not all(inputs):
        got = f"none in layer {inputs.index([])}"
        advice = "The model is constant; there is nothing to compact"
        raise MethodError("compact", "a nonzero edge in every layer", got, advice)
    layers, nodes, in_ = [], [], inputs[0]
    for index, layer in enumerate(model.layers):
        order, subnodes, new = _cut_nodes(model, index, [*inputs[1:], None][index])
        layers.append(layer.select(subnodes, in_))
        nodes.append(new)
        in_ = order
    small, columns = copy.copy(model), torch.tensor(inputs[0])
    nn.Module.__init__(small)  # so far without tensors, layers and hooks
    small.add_module("layers", nn.ModuleList(layers))
    small.add_module("nodes", nn.ModuleList(nodes))
    for name, tensor in model.named_buffers(recurse=False):
        part = tensor[columns] if name.startswith("input") else tensor.clone()
        small.register_buffer(name, part)
    small.schema = model.schema.select(inputs[0])
    small.background = None if model.background is None else model.background[:, columns]
    return small.train(model.training)


def _cut_nodes(
    model: KAN, index: int, hidden: list[int] | None
) -> tuple[list[int], list[int], Nodes]:
    """Return the indices of a layer's kept nodes (`hidden`, or all) and sums, and its new nodes."""
    old, layer = model.nodes[index], model.layers[index]
    indices = list(range(old.grouping.nodes)) if hidden is None else hidden
    if old.normalized:
        return indices, indices, old.select(indices)
    varies, bias = (layer.mask != 0).any(1).tolist(), layer.bias.detach()
    members, factors = dict[int, list[int]](), dict[int, float]()
    for node in indices:
        subnodes = list(old.grouping.members(node))
        moving = [k for k in subnodes if varies[k]]
        whole = len(moving) < 2 and (hidden is None or not moving)
        members[node] = subnodes if whole else moving
        factors[node] = math.prod(bias[k].item() for k in subnodes if k not in members[node])
    sums = [node for node in members if len(members[node]) == 1]
    order = sums + [node for node in members if len(members[node]) > 1]
    arities = tuple(len(members[node]) for node in order[len(sums) :])
    scaled = old.scaled or any(factor != 1 for factor in factors.values())
    new = Nodes(Grouping(len(sums), arities), scaled=scaled).to(bias)
    if scaled:
        scale = torch.tensor([factors[node] for node in order], dtype=torch.float64).to(bias.device)
        if old.scaled:
            scale, new.shift = scale * old.scale[order], old.shift[order]
        new.scale = scale.to(bias)
    return order, [k for node in order for k in members[node]], new
