"""Which nodes still lead anywhere, and a network without those that do not.

A factor of a product that lost its last edge is a constant, its bias. A product whose factors are
all constant, or one of them zero, is a constant itself. Of any other product the constant factors
go into the node's scale; one factor that is left alone makes the product of a hidden layer a sum.
Outputs keep their order, in which sums come first, so an output stays the product it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kanlens.checks import message
from kanlens.errors import MethodError
from kanlens.model.acceptance import Model, check_model
from kanlens.model.network import KAN
from kanlens.model.products import Grouping, Nodes

__all__ = ["compact", "connected", "reached"]


def reached(model: KAN, masks: Sequence[Tensor] | None = None) -> Tensor:  # (out,)
    """Tell which outputs live edges lead to from some feature.

    Parameters
    ----------
    model : KAN
        Its biases are asked, for a product with a factor that is constantly zero is constant.
    masks : sequence of Tensor, each of shape (out, in), optional
        Edges that would be alive; those of the model when None.

    Examples
    --------
    >>> model = KAN([1, 2, 2])
    >>> model.layers[0].mask[1] = 0
    >>> model.layers[1].mask[0, 0] = 0
    >>> reached(model)
    tensor([False,  True])
    """
    found = torch.ones(model.widths[0], dtype=torch.bool)
    for index, layer in enumerate(model.layers):
        mask = layer.mask if masks is None else masks[index]
        moving = ((mask != 0).cpu() & found).any(1)  # (sub,)
        found = varying(model, index, moving)
    return found


def varying(model: KAN, index: int, moving: Tensor) -> Tensor:
    """Tell which nodes of a layer vary when these of its sums (sub,) do, shape (node,).

    Examples
    --------
    >>> varying(KAN([1, (0, 1)]), 0, torch.tensor([False, True]))
    tensor([True])
    """
    nodes, layer = model.nodes[index], model.layers[index]
    if not nodes.grouping.arities:
        return moving
    owner, count = nodes.owner.cpu(), nodes.grouping.nodes
    zero = ((layer.bias == 0) & ~(layer.mask != 0).any(1)).cpu()  # (sub,)
    zero[: nodes.grouping.sums] = False  # which only a factor hands on to its node
    some, none = (
        torch.zeros(count).index_add_(0, owner, which.float()) > 0 for which in (moving, zero)
    )
    return some & ~none


def connected(model: KAN, masks: Sequence[Tensor] | None = None) -> bool:
    """Tell whether live edges lead from some feature to some output.

    Examples
    --------
    >>> model = KAN([1, 2, 1])
    >>> connected(model)
    True
    >>> connected(model, [torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0, 1.0]])])
    False
    """
    return bool(reached(model, masks).any())


def compact(model: Model) -> KAN:
    """Return the same function without the nodes and features that no live edge leaves.

    Parameters
    ----------
    model : KAN or fitted estimator
        Left as it is.

    Returns
    -------
    KAN
        With the names, units, scaling and statistics of what is left. Constant factors are gone
        from products, and hidden products of one factor have become sums, last among the sums.

    Raises
    ------
    DTypeError
        If `model` is no KAN.
    MethodError
        If a layer has no live edge.

    Examples
    --------
    >>> model = KAN([2, 1])
    >>> _ = model.layers[0].mask[0, 0].zero_()
    >>> compact(model).feature_names
    ('x2',)
    """
    model = check_model("compact", model)
    kept = kept_inputs(model)
    if not all(kept):
        got = f"none in layer {kept.index([])}"
        advice = "The model is constant; there is nothing to compact"
        raise MethodError(message("compact", "a live edge in every layer", got, advice))
    layers, nodes, in_ = [], [], kept[0]
    for index, layer in enumerate(model.layers):
        wanted = kept[index + 1] if index + 1 < len(kept) else None
        plan = _NodePlan(model, index, wanted)
        layers.append(layer.select(plan.subnodes, in_))
        nodes.append(plan.build())
        in_ = plan.order
    small = KAN.from_layers(layers, model.schema.select(kept[0]), nodes=nodes)
    columns = torch.tensor(kept[0])
    for name in ("input_shift", "input_scale", "input_low", "input_high"):
        getattr(small, name).copy_(getattr(model, name)[columns])
    small.output_shift.copy_(model.output_shift)
    small.output_scale.copy_(model.output_scale)
    small.scaled, small.holds_inputs = model.scaled, model.holds_inputs
    small.background = None if model.background is None else model.background[:, columns]
    return small.train(model.training)


def kept_inputs(model: KAN) -> list[list[int]]:
    """Return for each layer the inputs that a live edge leaves.

    Examples
    --------
    >>> kept_inputs(KAN([2, 1]))
    [[0, 1]]
    """
    return [(layer.mask != 0).any(0).nonzero()[:, 0].tolist() for layer in model.layers]


class _NodePlan:
    """What becomes of the nodes of one layer: which stay, in which order, and of what.

    Attributes
    ----------
    order : list of int
        The nodes that stay, by their old index, in their new order.
    members : list of list of int
        Their subnodes, constant factors left out.
    factors : list of float
        What the constant factors amount to.
    """

    def __init__(self, model: KAN, index: int, wanted: list[int] | None) -> None:
        self.nodes, layer = model.nodes[index], model.layers[index]
        self.weight = layer.bias.detach()  # whose dtype and device all have
        grouping = self.nodes.grouping
        self.order = list(range(grouping.nodes)) if wanted is None else list(wanted)
        alive = (layer.mask != 0).any(1).tolist()
        bias = layer.bias.detach().tolist()
        found = {}
        for node in self.order:
            every = list(grouping.members(node))
            moving = [subnode for subnode in every if alive[subnode]]
            keep = every if len(moving) < 2 and (wanted is None or not moving) else moving
            rest = (bias[subnode] for subnode in every if subnode not in keep)
            found[node] = keep, math.prod(rest)
        self.order.sort(key=lambda node: len(found[node][0]) > 1)  # stable: sums come first
        self.members = [found[node][0] for node in self.order]
        self.factors = [found[node][1] for node in self.order]

    @property
    def subnodes(self) -> list[int]:
        """The subnodes that stay, by their old index, in their new order."""
        return [subnode for members in self.members for subnode in members]

    def build(self) -> Nodes:
        """Return the nodes, with the scales and shifts that they need."""
        sizes = [len(members) for members in self.members]
        arities = tuple(size for size in sizes if size > 1)
        old = self.nodes
        scaled = old.scaled or any(factor != 1 for factor in self.factors)
        new = Nodes(Grouping(sizes.count(1), arities), scaled=scaled).to(self.weight)
        if scaled:
            factors = torch.tensor(self.factors, dtype=torch.float64, device=self.weight.device)
            if old.scaled:
                factors, new.shift = factors * old.scale[self.order], old.shift[self.order]
            new.scale = factors.to(self.weight)
        return new
