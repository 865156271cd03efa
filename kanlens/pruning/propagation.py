"""What reaches every layer, kept up to date while edges are removed one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from kanlens.core.layers import KANLinear
from kanlens.core.network import KAN

__all__ = ["Edge", "Propagation"]

Edge = tuple[int, int, int]  # layer, out, in
REFRESH = 200  # removals after which everything is computed anew, so that rounding stays small
MOST_VALUES = 2**25  # of edges over rows, up to which they are remembered


class Propagation:
    """The values of all nodes of a network over some rows, under the removal of edges.

    `values` are the nodes of each level (batch, node), from the scaled inputs on, and `sums` what
    each layer returns (batch, out).

    A removed edge changes one sum and its node, so the node's own edges are all that the next layer
    needs to evaluate; only the layers behind that are run in full.

    Parameters
    ----------
    model : KAN
        Its masks and biases change with each removal.
    rows : Tensor, shape (batch, in)
        In the units of the data.

    Examples
    --------
    >>> model, rows = KAN([2, 1]), torch.rand(5, 2)
    >>> state = Propagation(model, rows)
    >>> state.remove((0, 0, 1))
    >>> torch.allclose(state.output, model(rows))
    True
    """

    @torch.no_grad()
    def __init__(self, model: KAN, rows: Tensor) -> None:
        self.model, self.rows = model, rows
        self.last: tuple[Edge, Tensor, Tensor, tuple[list[Tensor], list[Tensor]]] | None = None
        self._columns: dict[tuple[int, int], KANLinear] = {}
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        edges = sum(layer.mask.numel() for layer in model.layers)
        self._remembers = edges * len(rows) <= MOST_VALUES
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Compute all values anew."""
        self.values = [self.model.scale_inputs(self.rows)]
        self.sums: list[Tensor] = []
        for layer, nodes in zip(self.model.layers, self.model.nodes, strict=True):
            self.sums.append(layer(self.values[-1]))
            self.values.append(nodes(self.sums[-1]))
        self.age = 0

    @property
    def output(self) -> Tensor:
        """Output of the network, shape (batch, out), in the units of the data."""
        return self.model.scale_outputs(self.values[-1])

    @torch.no_grad()
    def remove(self, edge: Edge) -> None:
        """Mask an edge and leave its mean over the rows in the bias of its sum."""
        if self.age >= REFRESH:
            self.refresh()
        index, out, in_ = edge
        layer = self.model.layers[index]
        state = (self.values, self.sums)
        self.last = (edge, layer.mask[out, in_].clone(), layer.bias[out].clone(), state)
        phi = self._edges_from(index, in_, self.values[index])[:, out]  # (batch,)
        mean = phi.double().mean().to(phi)
        layer.bias[out] += mean
        layer.mask[out, in_] = 0
        self.age += 1
        self._push(index, out, mean - phi)

    @torch.no_grad()
    def undo(self) -> None:
        """Put the edge that was removed last back, bit for bit."""
        if self.last is None:
            return
        (index, out, in_), mask, bias, (self.values, self.sums) = self.last
        self.model.layers[index].mask[out, in_] = mask
        self.model.layers[index].bias[out] = bias
        self.age -= 1
        self.last = None

    def _push(self, index: int, out: int, change: Tensor) -> None:
        """Add `change` (batch,) to one sum of a layer, and follow it to the end."""
        old, values, sums = self.values, list(self.values), list(self.sums)
        sums[index] = sums[index].clone()
        sums[index][:, out] += change
        values[index + 1] = self.model.nodes[index](sums[index])
        if index + 1 < len(self.model.layers):
            node = int(self.model.nodes[index].owner[out])
            before = self._edges_from(index + 1, node, old[index + 1])  # (batch, out)
            after = self._edges_from(index + 1, node, values[index + 1])
            alive = self.model.layers[index + 1].mask[:, node] != 0
            sums[index + 1] = sums[index + 1] + torch.where(alive, after - before, 0.0)
            values[index + 2] = self.model.nodes[index + 1](sums[index + 1])
        for later in range(index + 2, len(self.model.layers)):
            sums[later] = self.model.layers[later](values[later])
            values[later + 1] = self.model.nodes[later](sums[later])
        self.values, self.sums = values, sums

    def _edges_from(self, index: int, in_: int, x: Tensor) -> Tensor:  # (batch, in) -> (batch, out)
        """Return all edges that leave one node, the removed ones among them."""
        key, node = (index, in_), x[:, [in_]]
        known = self._known.get(key)
        if known is not None and torch.equal(known[0], node):
            return known[1]
        if key not in self._columns:
            layer = self.model.layers[index]
            self._columns[key] = layer.select(range(layer.out_features), [in_])
        edges = self._columns[key].edge_values(node)[..., 0]
        if self._remembers:
            self._known[key] = (node, edges)
        return edges
