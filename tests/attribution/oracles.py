"""Slow, obvious versions of the exact methods, written from their definitions."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.core.network import KAN


def shapley(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    """Mean marginal contribution over all orders of the features."""
    d = x.shape[1]

    @functools.cache
    def worth(b: int, members: frozenset[int]) -> float:
        mixed = rows.clone()
        mixed[:, list(members)] = x[b, list(members)]
        return float(model(mixed)[:, target].mean())

    values = torch.zeros_like(x)
    for b in range(len(x)):
        for order in itertools.permutations(range(d)):
            for place, i in enumerate(order):
                gain = worth(b, frozenset(order[: place + 1])) - worth(b, frozenset(order[:place]))
                values[b, i] += gain / math.factorial(d)
    return values


def _levels(model: KAN, row: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What each layer receives and what it returns, for one row."""
    inputs, sums = [model.scale_inputs(row)], []
    for layer, nodes in zip(model.layers, model.nodes, strict=True):
        sums.append(layer(inputs[-1]))
        inputs.append(nodes(sums[-1]))
    return inputs, sums


def _share_of_a_factor(ours: list[float], theirs: list[float], j: int) -> float:
    """Slope of a product in its factor j: the mean over all orders in which factors move."""
    total = 0.0
    for order in itertools.permutations(range(len(ours))):
        moved = order[: order.index(j)]
        others = [k for k in range(len(ours)) if k != j]
        total += math.prod(ours[k] if k in moved else theirs[k] for k in others)
    return total / math.factorial(len(ours))


def secant(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    """Sum over all paths of the product of slopes, one edge and one factor at a time."""
    values = torch.zeros_like(x)
    widths = [range(layer.out_features) for layer in model.layers]
    for b, sample in enumerate(x):
        for row in rows:
            (ours, our_sums), (theirs, their_sums) = _levels(model, sample), _levels(model, row)
            for start, path in itertools.product(range(x.shape[1]), itertools.product(*widths)):
                share, i = float(ours[0][start] - theirs[0][start]), start
                for index, o in enumerate(path):
                    u, v = float(ours[index][i]), float(theirs[index][i])
                    phi, nodes = model.layers[index].edge(o, i), model.nodes[index]
                    share *= float((phi(u) - phi(v)) / (u - v))
                    i, factor = nodes.grouping.place(o)
                    if factor is not None:
                        members = list(nodes.grouping.members(i))
                        left, right = our_sums[index][members], their_sums[index][members]
                        share *= _share_of_a_factor(left.tolist(), right.tolist(), factor)
                    share *= float(nodes.scale[i]) if nodes.scaled else 1.0
                if i == target:
                    values[b, start] += share * float(model.output_scale[target]) / len(rows)
    return values


def _gradient(model: KAN, x: Tensor, target: int) -> Tensor:
    free = x.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(model(free)[:, target].sum(), free)[0]


def gradient_x_input(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    return _gradient(model, x, target) * (x - rows.mean(0))


def input_x_gradient(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    return _gradient(model, x, target) * x


def ablation(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    values = torch.zeros_like(x)
    for i in range(x.shape[1]):
        without = x.clone()
        without[:, i] = rows[:, i].mean()
        values[:, i] = (model(x) - model(without))[:, target]
    return values


def _ending(model: KAN, target: int) -> list[int]:
    """The first-layer sums that lead to an output of a network whose edges are all alive."""
    if len(model.layers) == 1:
        return list(model.nodes[0].grouping.members(target))
    return list(range(model.layers[0].out_features))


def weight_l1(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    norms = model.layers[0].weight_l1()[_ending(model, target)]
    return torch.stack([norms[:, i].sum() for i in range(x.shape[1])])


def edge_std(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    layer, scaled = model.layers[0], model.scale_inputs(x)
    values = torch.zeros_like(x[0])
    for i in range(layer.in_features):
        for o in _ending(model, target):
            values[i] += layer.edge(o, i)(scaled[:, i].numpy()).std()
    return values


Oracle = Callable[[KAN, Tensor, Tensor, int], Tensor]
ORACLES: dict[str, Oracle] = {
    "shapley": shapley,
    "secant": secant,
    "captum_deep_lift": secant,
    "gradient_x_input": gradient_x_input,
    "captum_input_x_gradient": input_x_gradient,
    "captum_feature_ablation": ablation,
    "weight_l1": weight_l1,
    "edge_std": edge_std,
}
