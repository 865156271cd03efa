"""Compaction of a network to the nodes on a path from a feature to an output."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from kanlens.errors import MethodError
from kanlens.model._analysis import Model, check_model
from kanlens.model._network import KAN
from kanlens.model._nodes import Grouping, Nodes


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
    """Return the same function without nodes and features without edges.

    Parameters
    ----------
    model : KAN or fitted estimator
        Left unchanged.

    Returns
    -------
    KAN
        With the names, units, scaling and statistics of the features and nodes left. Constant
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
    """Return which nodes (`hidden`, or all outputs) and sums of a layer stay, and the new nodes."""
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
