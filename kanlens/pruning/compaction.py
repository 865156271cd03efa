"""Reachability of nodes, and compaction of a network to those on a path.

Constant factors of a product go into its node's scale; a hidden product of one factor is a sum.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kanlens.errors import MethodError
from kanlens.model.analysis import Model, check_model
from kanlens.model.network import KAN
from kanlens.model.products import Grouping, Nodes


def reached(model: KAN, masks: Sequence[Tensor] | None = None) -> Tensor:  # (out,)
    """Tell which outputs some feature reaches by `masks`, or by live edges; zero factors block."""
    found = torch.ones(model.widths[0], dtype=torch.bool)
    for index, layer in enumerate(model.layers):
        mask = layer.mask if masks is None else masks[index]
        moving = ((mask != 0).cpu() & found).any(1)  # (sub,)
        found = varying(model, index, moving)
    return found


def varying(model: KAN, index: int, moving: Tensor) -> Tensor:  # (sub,) -> (node,)
    """Tell which nodes of a layer vary when these of its sums do."""
    nodes, layer = model.nodes[index], model.layers[index]
    if nodes.additive:
        return moving
    zero = ((layer.bias == 0) & ~(layer.mask != 0).any(1)).cpu()  # (sub,)
    zero[: nodes.grouping.sums] = False  # which only a factor hands on to its node
    linked = nodes.linked.cpu()
    return (linked & moving).any(1) & ~(linked & zero).any(1)


def connected(model: KAN, masks: Sequence[Tensor] | None = None) -> bool:
    """Tell whether some output is reachable from some feature."""
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
        raise MethodError("compact", "a live edge in every layer", got, advice)
    layers, nodes, in_ = [], [], kept[0]
    for index, layer in enumerate(model.layers):
        wanted = kept[index + 1] if index + 1 < len(kept) else None
        order, subnodes, new = _cut_nodes(model, index, wanted)
        layers.append(layer.select(subnodes, in_))
        nodes.append(new)
        in_ = order
    small, columns = copy.copy(model), torch.tensor(kept[0])
    nn.Module.__init__(small)  # so far without tensors, layers and hooks
    small.add_module("layers", nn.ModuleList(layers))
    small.add_module("nodes", nn.ModuleList(nodes))
    for name, tensor in model.named_buffers(recurse=False):
        part = tensor[columns] if name.startswith("input") else tensor.clone()
        small.register_buffer(name, part)
    small.schema = model.schema.select(kept[0])
    small.background = None if model.background is None else model.background[:, columns]
    return small.train(model.training)


def kept_inputs(model: KAN) -> list[list[int]]:
    """Return for each layer the inputs that a live edge leaves, and those normalized with them."""
    read = [(layer.mask != 0).any(0).nonzero()[:, 0].tolist() for layer in model.layers]
    hidden = zip(list(model.nodes)[:-1], read[1:], strict=True)
    return [read[0], *(n.together(inputs) if n.normalized else inputs for n, inputs in hidden)]


def _cut_nodes(
    model: KAN, index: int, wanted: list[int] | None
) -> tuple[list[int], list[int], Nodes]:
    """Return which nodes and subnodes stay (all if none are `wanted`), and the new nodes."""
    old, layer = model.nodes[index], model.layers[index]
    if old.normalized:
        kept = list(range(old.grouping.nodes)) if wanted is None else wanted
        return kept, kept, old.select(kept)
    alive, bias = (layer.mask != 0).any(1).tolist(), layer.bias.detach()
    members, factors = dict[int, list[int]](), dict[int, float]()
    for node in range(old.grouping.nodes) if wanted is None else wanted:
        every = list(old.grouping.members(node))
        moving = [k for k in every if alive[k]]
        members[node] = every if len(moving) < 2 and (wanted is None or not moving) else moving
        factors[node] = math.prod(bias[k].item() for k in every if k not in members[node])
    order = sorted(members, key=lambda node: len(members[node]) > 1)  # stable: sums come first
    sizes = [len(members[node]) for node in order]
    arities = tuple(size for size in sizes if size > 1)
    scaled = old.scaled or any(factor != 1 for factor in factors.values())
    new = Nodes(Grouping(sizes.count(1), arities), scaled=scaled).to(bias)
    if scaled:
        scale = torch.tensor([factors[node] for node in order], dtype=torch.float64).to(bias.device)
        if old.scaled:
            scale, new.shift = scale * old.scale[order], old.shift[order]
        new.scale = scale.to(bias)
    return order, [k for node in order for k in members[node]], new
