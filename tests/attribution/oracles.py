"""Slow, obvious versions of the exact methods, written from their definitions."""

import functools
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from kanlens.model._network import KAN
from kanlens.model._trace import trace
from tests.attribution.integration import brute_force


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


def _secants(model: KAN, x: Tensor, rows: Tensor, target: int, level: int) -> Tensor:
    """Sum over all paths of the product of slopes, one edge and one factor at a time."""
    values = torch.zeros(len(x), model.widths[level], dtype=x.dtype)
    widths = [range(layer.out_features) for layer in model.layers][level:]
    edge = functools.cache(lambda index, o, i: model.layers[index].edge(o, i))
    for b, sample in enumerate(x):
        for row in rows:
            (ours, our_sums), (theirs, their_sums) = _levels(model, sample), _levels(model, row)
            starts = range(model.widths[level])
            for start, path in itertools.product(starts, itertools.product(*widths)):
                share, i = float(ours[level][start] - theirs[level][start]), start
                for index, o in enumerate(path, level):
                    u, v = float(ours[index][i]), float(theirs[index][i])
                    phi, nodes = edge(index, o, i), model.nodes[index]
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


def secant(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    return _secants(model, x, rows, target, 0)


def node_secant(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    return _secants(model, x, rows, target, 1)


def _nodes(model: KAN, x: Tensor) -> Tensor:
    """The values of the first level of nodes, in the units of the data where it is the last."""
    found = torch.stack([_levels(model, row)[0][1] for row in x])
    return found * model.output_scale + model.output_shift if len(model.layers) == 1 else found


def node_activation(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    found = _nodes(model, x)
    if len(model.layers) == 1:
        found[:, [o for o in range(found.shape[1]) if o != target]] = 0
    return found


def node_gradient_x_activation(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    free = _nodes(model, x).requires_grad_()
    with torch.enable_grad():
        hidden = free
        for layer, nodes in list(zip(model.layers, model.nodes, strict=True))[1:]:
            hidden = nodes(layer(hidden))
        units = model.output_scale if len(model.layers) > 1 else torch.ones_like(hidden)
        return free.detach() * torch.autograd.grad((hidden * units)[:, target].sum(), free)[0]


def _gradient(model: KAN, x: Tensor, target: int) -> Tensor:
    free = x.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(model(free)[:, target].sum(), free)[0]


def shapley_of_the_mean(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    return shapley(model, x, rows.mean(0, keepdim=True), target)


def gradient(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    return _gradient(model, x, target)


def gradient_x_input(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    return _gradient(model, x, target) * (x - rows.mean(0))


def saliency(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    return _gradient(model, x, target).abs()


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


def pykan(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    """Shares of standard deviations, edge by edge from the output back."""
    record = trace(model, x)
    score = [float(o == target) for o in range(model.widths[-1])]
    for index in reversed(range(len(model.layers))):
        below = [0.0] * model.layers[index].in_features
        values, sums = record.edge_values(index), record.pre_activations[index]
        for o in range(sums.shape[1]):
            node, _ = model.nodes[index].grouping.place(o)
            for i in range(len(below)):
                share = values[:, o, i].std(correction=0) / sums[:, o].std(correction=0)
                below[i] += score[node] * float(share)
        score = below
    return torch.tensor(score, dtype=torch.float64)


Oracle = Callable[[KAN, Tensor, Tensor, int], Tensor]
ORACLES: dict[str, Oracle] = {
    "shapley": shapley,
    "interactions": shapley,
    "additive": shapley,
    "integrated_gradients": brute_force.integrated_gradients,
    "gradient": gradient,
    "pykan": pykan,
    "secant": secant,
    "captum_deep_lift": secant,
    "gradient_x_input": gradient_x_input,
    "captum_input_x_gradient": input_x_gradient,
    "captum_feature_ablation": ablation,
    "captum_occlusion": ablation,
    "captum_saliency": saliency,
    "captum_deep_lift_shap": secant,
    "captum_shapley_values": shapley_of_the_mean,
    "captum_layer_activation": node_activation,
    "captum_layer_gradient_x_activation": node_gradient_x_activation,
    "captum_layer_deep_lift": node_secant,
    "weight_l1": weight_l1,
    "edge_std": edge_std,
}
