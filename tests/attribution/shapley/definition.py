"""Interactions written from their definition, and problems and networks to try things on."""

import copy

import torch
from torch import Tensor

from kanlens.data._schema import Feature, Schema, default_schema
from kanlens.model._network import KAN
from tests.attribution.conftest import build
from tests.attribution.shapley.curves import pairs_of


def interactions(model: KAN, x: Tensor, rows: Tensor, target: int) -> Tensor:
    """The Shapley interaction index of every pair; zero on the diagonal."""
    inside = ((torch.arange(2 ** x.shape[1])[:, None] >> torch.arange(x.shape[1])) & 1).bool()
    pairs = []
    for sample in x:
        mixed = torch.where(inside[:, None], sample, rows)  # (coalition, row, in)
        worths = model(mixed.flatten(0, 1))[:, target].reshape(mixed.shape[:2]).mean(1)
        pairs.append(torch.from_numpy(pairs_of(worths.detach().numpy())))
    return torch.stack(pairs)


def masked(model: KAN, seed: int, share: float = 0.6) -> KAN:
    """Switch off edges at random."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.layers:
        kept = torch.rand(layer.mask.shape, generator=generator) < share
        layer.mask.copy_(kept.to(layer.mask))
    return model


def scaled(model: KAN, seed: int = 3) -> KAN:
    """The same network with nodes that are scaled and shifted."""
    from kanlens.model._nodes import Nodes

    generator = torch.Generator().manual_seed(seed)
    nodes = [Nodes(each.grouping, scaled=True).double() for each in model.nodes]
    for each in nodes:
        each.scale.copy_(torch.randn(each.scale.shape, generator=generator))
        each.shift.copy_(torch.randn(each.shift.shape, generator=generator))
    new = KAN.from_layers(list(model.layers), model.schema, nodes=nodes)
    for name in ("input_shift", "input_scale", "output_shift", "output_scale"):
        getattr(new, name).copy_(getattr(model, name))
    return new


def symbolic(widths: list[object], seed: int = 0) -> KAN:
    """A network whose layers hold kinks, a step and a logarithm beside splines."""

    model = build(widths, seed=seed)
    layers = [copy.deepcopy(layer) for layer in model.layers]
    layers[0].assign(0, 0, "abs", [1.0, -0.1, 0.7, 0.2])
    layers[0].assign(1, 1, "relu", [2.0, 0.1, 1.0, 0.0])
    layers[-1].assign(0, 1, "sign", [1.0, 0.3, 0.5, 0.0])
    layers[-1].assign(0, 0, "sin", [2.0, 0.3, 0.5, 0.1])
    new = KAN.from_layers(layers, model.schema, nodes=list(model.nodes))
    for name in ("input_shift", "input_scale", "output_shift", "output_scale"):
        getattr(new, name).copy_(getattr(model, name))
    return new


def one_hot(model):
    """Features: color=red, size, color=blue, color=green; the first, third and fourth are one."""
    kinds = ("red", None, "blue", "green")
    categories = ("blue", "green", "red")
    model.schema = Schema(
        features=tuple(
            Feature(name="size", column="size")
            if kind is None
            else Feature(
                name=f"color={kind}",
                column="color",
                kind="categorical",
                category=kind,
                categories=categories,
            )
            for kind in kinds
        ),
        outputs=default_schema(4, 1).outputs,
    )
    return model


MADE = {  # networks of every kind by a seed, and the output that is asked for
    "one layer": lambda seed: (build([3, 2], seed=seed), 1),
    "one product": lambda seed: (build([4, (1, 1)], seed=seed), 1),
    "two layers": lambda seed: (build([4, 3, 1], seed=seed), 0),
    "order 1": lambda seed: (build([3, 3, 1], seed=seed, spline_order=1), 0),
    "order 5": lambda seed: (build([3, 3, 1], seed=seed, spline_order=5), 0),
    "run out": lambda seed: (build([4, 3, 2], seed=seed, extrapolation="zero"), 1),
    "tanh": lambda seed: (build([4, 3, 1], seed=seed, base_activation=torch.nn.Tanh), 0),
    "masked": lambda seed: (masked(build([4, 3, 2], seed=seed), seed), 1),
    "products": lambda seed: (build([4, (1, [2, 3]), 1], seed=seed), 0),
    "scaled": lambda seed: (scaled(build([4, (2, 1), 2], seed=seed)), 1),
    "product at the end": lambda seed: (build([3, 2, (1, 1)], seed=seed), 1),
    "scaled product at the end": lambda seed: (scaled(build([3, 2, (1, 1)], seed=seed)), 1),
    "three layers": lambda seed: (build([4, 3, 2, 1], seed=seed), 0),
    "masked three layers": lambda seed: (masked(build([4, 4, 3, 1], seed=seed), seed, 0.7), 0),
    "deep products": lambda seed: (scaled(build([4, (2, 1), (1, 1), 2], seed=seed)), 1),
    "functions": lambda seed: (symbolic([4, 3, 1], seed=seed), 0),
    "deep functions": lambda seed: (symbolic([3, 2, 2, 1], seed=seed), 0),
}
KINDS = tuple(MADE)


def network(kind: str, seed: int = 0) -> tuple[KAN, int]:
    return MADE[kind](seed)
