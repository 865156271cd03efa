"""Networks with a random choice of every part, for attacks on what is said of networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes, read_widths

SHAPES = (
    [2, 1],
    [3, 3, 1],
    [2, 4, 2],
    [5, 4, 1],
    [3, (2, 1), 1],
    [2, (1, 2), (0, 2)],
    [3, (0, [3]), 2],
    [2, 3, 3, 1],
    [2, 3, 2, 2, 1],
)
FUNCTIONS = (
    "x", "x^2", "x^3", "abs", "relu", "sign", "sin", "exp", "tanh", "gaussian", "1/(1+x^2)",
    "sqrt(1+x^2)", "arctan", "sinh", "log", "sqrt", "1/x",
)  # fmt: skip


def random_model(seed: int) -> tuple[KAN, Tensor]:
    """Return a network with a random choice of every part, and a domain (in, 2) for it."""
    generator = torch.Generator().manual_seed(seed)

    def pick(options: tuple[Any, ...]) -> Any:
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    model = _network(pick, generator)
    if pick((False, False, True)):
        model = with_functions(model, generator)
    if pick((False, True)):
        scale_nodes(model, generator)
    _fill(model, generator)
    share = torch.rand(model.widths[0], 2, generator=generator, dtype=torch.float64).sort(1).values
    if pick((False, False, True)):
        model = model.float()
    reach = pick((0.3, 2.0, 4.0))
    domain = model.input_shift[:, None].double() + model.input_scale[:, None].double() * (
        reach * (2 * share - 1)
    )
    if pick((False, False, True)):
        domain[0, 1] = domain[0, 0]
    return model, domain


def _network(pick: Callable[[tuple[Any, ...]], Any], generator: torch.Generator) -> KAN:
    shape = pick(SHAPES)
    return KAN(
        shape,
        spline_order=pick((1, 2, 3, 4, 5)),
        grid_size=pick((2, 4, 7)),
        scale_noise=pick((0.1, 2.0, 8.0)),
        base_activation=pick(("silu", "tanh", "gelu", "identity", "zero")),
        extrapolation=pick(("linear", "zero")),
        generator=generator,
    ).double()


@torch.no_grad()
def _fill(model: KAN, generator: torch.Generator) -> None:
    """Give the network biases, masks, and scales of its inputs and outputs."""
    for layer in model.layers:
        layer.bias.copy_(torch.randn(layer.out_features, generator=generator))
        layer.mask.mul_((torch.rand(layer.mask.shape, generator=generator) > 0.15).double())
    n_in, n_out = model.widths[0], model.widths[-1]
    model.input_shift.copy_(torch.randn(n_in, generator=generator))
    model.input_scale.copy_(0.5 + torch.rand(n_in, generator=generator))
    model.output_shift.copy_(torch.randn(n_out, generator=generator))
    model.output_scale.copy_(1 + torch.rand(n_out, generator=generator))


def with_functions(model: KAN, generator: torch.Generator) -> KAN:
    """Return the network with elementary functions on a third of its edges."""
    layers = []
    for layer in model.layers:
        new = copy.deepcopy(layer)
        for out in range(layer.out_features):
            for in_ in range(layer.in_features):
                if torch.rand(1, generator=generator) < 0.35:
                    name = FUNCTIONS[int(torch.randint(len(FUNCTIONS), (1,), generator=generator))]
                    numbers = torch.randn(4, generator=generator) * torch.tensor([1, 1, 0.5, 0.5])
                    if name in ("log", "sqrt", "1/x"):
                        narrow = torch.rand(1, generator=generator) < 0.3
                        numbers[:2] = torch.tensor([0.2, 0.4 if narrow else 3.0])
                    new.assign(out, in_, name, numbers.tolist())
        layers.append(new)
    return KAN.from_layers(layers, model.schema, nodes=list(model.nodes))


def scale_nodes(model: KAN, generator: torch.Generator) -> None:
    """Give the nodes fixed scales and shifts."""
    _, groups = read_widths(model.shape)
    nodes = [Nodes(group, scaled=True).double() for group in groups]
    for one in nodes:
        one.scale.copy_(torch.randn(one.grouping.nodes, generator=generator))
        one.shift.copy_(torch.randn(one.grouping.nodes, generator=generator))
    model.nodes = cast("Any", torch.nn.ModuleList(nodes))
