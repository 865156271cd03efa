"""Nodes: sums of a layer, products of its last sums [1]_, and layer normalization [3]_.

The share of a factor in the change of a product between two points is its Shapley value [2]_: its
change times the mean of the product of the other factors on the line between the points.

References
----------
.. [1] Z. Liu et al., KAN 2.0: Kolmogorov-Arnold Networks Meet Science, 2024, section 2.
.. [2] G. Owen, Multilinear extensions of games, 1972.
.. [3] J. Ba, J. Kiros and G. Hinton, Layer normalization, 2016.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kanlens.errors import InvalidValueError

Width: TypeAlias = int | tuple[int, int | Sequence[int]] | Sequence[int]


def multiply(factors: Tensor) -> Tensor:  # (..., factor) -> (...)
    """Return the product over the last axis; derivatives of any order exist."""
    return functools.reduce(torch.mul, factors.unbind(-1))


def others(factors: Tensor) -> Tensor:  # (..., factor)
    """Return for each factor the product of all others, without a division."""
    before, after = [torch.ones_like(factors[..., 0])], [torch.ones_like(factors[..., 0])]
    columns = factors.unbind(-1)
    for left, right in zip(columns[:-1], columns[:0:-1], strict=True):
        before.append(before[-1] * left)
        after.append(after[-1] * right)
    return torch.stack(before, -1) * torch.stack(after[::-1], -1)


def split(ours: Tensor, theirs: Tensor) -> Tensor:  # (..., factor)
    """Return the slopes that share the change of a product exactly among its factors.

    ``sum(split(u, v) * (u - v))`` is ``prod(u) - prod(v)``, and each term the factor's Shapley
    value [2]_. Gauss-Legendre quadrature is exact here: the integrand is a polynomial.
    """
    places, weights = np.polynomial.legendre.leggauss((ours.shape[-1] + 1) // 2)
    shares = [
        float(weight) / 2 * others((1 - place) / 2 * theirs + (1 + place) / 2 * ours)
        for place, weight in zip(places.tolist(), weights, strict=True)
    ]
    return functools.reduce(torch.add, shares)


def pull_normalized(slopes: Tensor, eps: float, ours: Tensor, theirs: Tensor) -> Tensor:
    """Backpropagate slopes from normalized sums (..., node) to sums (..., node).

    Between two points, the change is shared exactly, by a product and the secant of the inverse
    root. At equal points, this is the derivative.
    """
    (d, r), (d0, r0) = (_distances(sums, eps) for sums in (ours, theirs))
    middle = (d + d0) / 2
    secant = -((r * r0) ** 2) / (r + r0)  # of the inverse root of a variance
    spread = (slopes * middle).sum(-1, keepdim=True) * secant * 2 * middle / ours.shape[-1]
    pulled = slopes * (r + r0) / 2 + spread
    return pulled - pulled.mean(-1, keepdim=True)


def _distances(sums: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return deviations of sums from their mean, and the inverse root of variance plus eps."""
    distances = sums - sums.mean(-1, keepdim=True)
    return distances, (distances.square().mean(-1, keepdim=True) + eps).rsqrt()


@dataclass(frozen=True)
class Grouping:
    """Grouping of subnodes into nodes: sums first, then products."""

    sums: int
    arities: tuple[int, ...] = ()  # number of factors of each product

    @property
    def subnodes(self) -> int:
        """Number of subnodes: outputs of the layer."""
        return self.sums + sum(self.arities)

    @property
    def nodes(self) -> int:
        """Number of nodes: inputs of the next layer."""
        return self.sums + len(self.arities)

    @property
    def form(self) -> Any:
        """The layer as an entry of `widths`: 3, (3, 2) or (3, [2, 3])."""
        if not self.arities:
            return self.sums
        return self.sums, len(self.arities) if set(self.arities) == {2} else list(self.arities)

    def members(self, node: int) -> range:
        """Return the subnodes of a node."""
        if node < self.sums:
            return range(node, node + 1)
        start = self.sums + sum(self.arities[: node - self.sums])
        return range(start, start + self.arities[node - self.sums])

    def place(self, subnode: int) -> tuple[int, int | None]:
        """Return the node of a subnode, and its index among the factors; None for a sum."""
        for node in range(self.nodes):
            if subnode in (members := self.members(node)):
                return node, None if node < self.sums else subnode - members.start
        raise IndexError(f"subnode {subnode} of {self.subnodes}")


class Nodes(nn.Module):
    """The nodes of a layer: sums, then products.

    If `scaled`, a fixed scale and shift are buffers (node,), at first ones and zeros. Without
    products the last sums may be `normalized` over a row, with `eps` added to their variance.
    """

    scale: Tensor
    shift: Tensor
    owner: Tensor  # (sub,): node of each subnode
    columns: Tensor  # (product, factor): subnodes; `subnodes`, past the last, as padding

    def __init__(
        self, grouping: Grouping, *, scaled: bool = False, normalized: int = 0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.grouping, self.scaled, self.normalized, self.eps = grouping, scaled, normalized, eps
        self.apart = grouping.sums - normalized  # sums that are not normalized
        self.additive = not (grouping.arities or normalized)  # a node is a sum, maybe scaled
        self.plain = self.additive and not scaled  # nodes are just the subnodes
        if scaled:
            self.register_buffer("scale", torch.ones(grouping.nodes))
            self.register_buffer("shift", torch.zeros(grouping.nodes))
        counts = torch.tensor([*[1] * grouping.sums, *grouping.arities], dtype=torch.long)
        owner = torch.arange(grouping.nodes).repeat_interleave(counts)
        most = max(grouping.arities, default=0)
        table = [list(grouping.members(grouping.sums + k)) for k in range(len(grouping.arities))]
        padded = [row + [grouping.subnodes] * (most - len(row)) for row in table]
        columns = torch.tensor(padded, dtype=torch.long).reshape(len(table), most)
        self.register_buffer("owner", owner, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def extra_repr(self) -> str:
        """Describe the nodes in one line."""
        arities = ", ".join(str(arity) for arity in self.grouping.arities)
        products = f", products of {arities}" if arities else ""
        normalized = f", the last {self.normalized} normalized" if self.normalized else ""
        return f"{self.grouping.sums} sums{products}{normalized}" + ", scaled" * self.scaled

    def together(self, nodes: Iterable[int]) -> list[int]:
        """Return some nodes and all that are normalized together with any of them, in order."""
        block = set(range(self.apart, self.grouping.sums))  # empty where none is normalized
        chosen = set(nodes)
        return sorted(chosen | block if chosen & block else chosen)

    def select(self, places: Sequence[int]) -> Nodes:
        """Return the nodes with some indices, in order; all or none of the normalized ones."""
        sums = self.grouping.sums
        arities = tuple(self.grouping.arities[k - sums] for k in places if k >= sums)
        few = Grouping(sum(k < sums for k in places), arities)
        normalized = sum(self.apart <= k < sums for k in places)
        small = Nodes(few, scaled=self.scaled, normalized=normalized, eps=self.eps)
        if self.scaled:
            small.to(self.scale)
            small.scale.copy_(self.scale[list(places)])
            small.shift.copy_(self.shift[list(places)])
        return small

    def forward(self, subnodes: Tensor) -> Tensor:
        """Map subnodes (..., sub) to nodes (..., node)."""
        nodes = subnodes
        if self.grouping.arities:
            sums = subnodes[..., : self.grouping.sums]
            nodes = torch.cat([sums, multiply(self._factors(subnodes))], dim=-1)
        elif self.normalized:
            mixed = F.layer_norm(subnodes[..., self.apart :], (self.normalized,), eps=self.eps)
            nodes = torch.cat([subnodes[..., : self.apart], mixed], dim=-1)
        return nodes * self.scale + self.shift if self.scaled else nodes

    def _factors(self, subnodes: Tensor) -> Tensor:  # (..., sub) -> (..., product, factor)
        """Return the factors of every product, padded by ones."""
        products, most = len(self.grouping.arities), self.columns.shape[1]
        if sum(self.grouping.arities) == products * most:
            part = subnodes[..., self.grouping.sums :]
            return part.reshape(*part.shape[:-1], products, most)
        padded: Tensor = F.pad(subnodes, (0, 1), value=1.0)
        return padded[..., self.columns]

    @property
    def linked(self) -> Tensor:  # (node, sub)
        """Mask (node, sub) of the subnodes that each node depends on."""
        mask = self.owner == torch.arange(self.grouping.nodes, device=self.owner.device)[:, None]
        if self.normalized:
            mask[self.apart :, self.apart :] = True
        return mask

    def rates(self, ours: Tensor, theirs: Tensor | None = None) -> Tensor:  # (..., sub)
        """Return slopes (..., sub) of nodes by their subnodes `ours`, or secants to `theirs`."""
        if theirs is not None:
            ours, theirs = torch.broadcast_tensors(ours, theirs)
        rates = torch.ones_like(ours)
        if self.grouping.arities:
            factors = self._factors(ours)
            shares = others(factors) if theirs is None else split(factors, self._factors(theirs))
            real = self.columns < self.grouping.subnodes  # (product, factor)
            rates = torch.cat([rates[..., : self.grouping.sums], shares[..., real]], dim=-1)
        return rates * self.scale[self.owner] if self.scaled else rates

    def pull(self, slopes: Tensor, ours: Tensor, theirs: Tensor | None = None) -> Tensor:
        """Backpropagate slopes from nodes (..., node) to subnodes (..., sub), by `rates`."""
        if self.plain:
            return slopes
        pulled = slopes[..., self.owner] * self.rates(ours, theirs)
        if self.normalized:
            ends = (sums[..., self.apart :] for sums in (ours, ours if theirs is None else theirs))
            mixed = pull_normalized(pulled[..., self.apart :], self.eps, *ends)
            apart = pulled[..., : self.apart].expand(*mixed.shape[:-1], -1)
            pulled = torch.cat([apart, mixed], dim=-1)
        return pulled

    def errors(self, sums: Tensor, error: Tensor) -> Tensor:  # (..., sub) twice -> (..., node)
        """Propagate small errors of the sums to the nodes."""
        if self.normalized:
            distances, root = _distances(sums[..., self.apart :], self.eps)
            own, size = error[..., self.apart :], distances.abs() * root
            own = root * (own + own.mean(-1, keepdim=True))
            own = own + size * (size * own).mean(-1, keepdim=True)
            error = torch.cat([error[..., : self.apart], own], dim=-1)
        error = self.rates(sums).abs() * error
        return torch.zeros_like(error[..., : self.grouping.nodes]).index_add(-1, self.owner, error)


def read_widths(widths: object) -> tuple[int, tuple[Grouping, ...]]:
    """Return the number of features, and the grouping of every layer's outputs, in `widths`."""
    entries = list(widths) if isinstance(widths, Iterable) else []
    groups = [group for group in map(_grouping, entries) if group is not None]
    if len(entries) < 2 or len(groups) < len(entries) or not _is_count(entries[0]):
        expected = "widths of at least two whole numbers of at least 1"
        raise InvalidValueError("KAN", expected, repr(widths), "For example [4, 5, 1]")
    return groups[0].sums, tuple(groups[1:])


def _grouping(entry: Any) -> Grouping | None:
    """Return the grouping of a layer; None if `entry` is no positive integer, tuple or list."""
    if not isinstance(entry, (tuple, list)):
        return Grouping(int(entry)) if _is_count(entry) else None
    pair: Any = entry if len(entry) == 2 else (None, None)
    sums, products = pair
    if _is_count(products, least=0):
        products = [2] * int(products)
    listed = isinstance(products, (tuple, list)) and all(_is_count(arity, 0) for arity in products)
    if not _is_count(sums, least=0) or not listed:
        expected = "a layer that multiplies as a pair of its sums and products"
        advice = "Write (3, 2) for 3 sums and 2 products of two, (3, [2, 3]) for other arities"
        raise InvalidValueError("KAN", expected, repr(entry), advice)
    if any(arity < 2 for arity in products):
        expected = "products of at least two factors"
        advice = "Count a single factor among the sums"
        raise InvalidValueError("KAN", expected, repr(entry), advice)
    grouping = Grouping(int(sums), tuple(int(arity) for arity in products))
    if not grouping.nodes:
        advice = "Give the layer a sum or a product"
        raise InvalidValueError("KAN", "at least one node in a layer", repr(entry), advice)
    return grouping


def _is_count(value: Any, least: int = 1) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and value >= least


def check_nodes(
    layers: Sequence[Any], nodes: Sequence[Nodes] | None, n_outputs: int
) -> Sequence[Nodes]:
    """Return the nodes of layers, plain sums for None; refuse nodes that do not fit."""
    if nodes is None:
        return [Nodes(Grouping(layer.out_features)) for layer in layers]
    inputs = [layer.in_features for layer in layers][1:]
    expected = list(zip((lay.out_features for lay in layers), [*inputs, n_outputs], strict=True))
    got = [(level.grouping.subnodes, level.grouping.nodes) for level in nodes]
    if nodes and nodes[-1].normalized:
        text, advice = "outputs that are not normalized", "Add a layer of linear edges"
        raise InvalidValueError("KAN.from_layers", text, "normalized ones", advice)
    if got != expected:
        text = f"nodes with (subnodes, nodes) {_pairs(expected)}"
        advice = (
            "Pass one Nodes per layer, with as many subnodes as its outputs and as many nodes as "
            "the next layer's inputs (for the last layer, as the model's outputs)"
        )
        raise InvalidValueError("KAN.from_layers", text, _pairs(got) or "none", advice)
    return nodes


def _pairs(numbers: Sequence[tuple[int, int]]) -> str:
    return ", ".join(str(pair) for pair in numbers)
