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


def secant(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    """Sum over all paths of the product of slopes, one edge function at a time."""
    values = torch.zeros_like(x)
    for b, sample in enumerate(x):
        for row in rows:
            for path in itertools.product(*(range(width) for width in model.widths[:-1])):
                nodes = (*path, target)
                share = float(model.scale_inputs(sample)[path[0]])
                share -= float(model.scale_inputs(row)[path[0]])
                ours, theirs = model.scale_inputs(sample), model.scale_inputs(row)
                for index, layer in enumerate(model.layers):
                    i, o = nodes[index], nodes[index + 1]
                    u, v = float(ours[i]), float(theirs[i])
                    phi = layer.edge(o, i)
                    share *= float((phi(u) - phi(v)) / (u - v))
                    ours, theirs = layer(ours), layer(theirs)
                values[b, path[0]] += share * float(model.output_scale[target]) / len(rows)
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


def weight_l1(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    norms = model.layers[0].weight_l1()
    return torch.stack([norms[:, i].sum() for i in range(x.shape[1])])


def edge_std(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    layer, scaled = model.layers[0], model.scale_inputs(x)
    values = torch.zeros_like(x[0])
    for i in range(layer.in_features):
        for o in range(layer.out_features):
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
