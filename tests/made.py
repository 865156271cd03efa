"""Networks in which nothing has its default: products, scales, normalizations, functions."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kanlens.model._kan_linear import KANLinear
from kanlens.model._network import KAN
from kanlens.model._nodes import Nodes
from kanlens.model._trace import store_statistics
from kanlens.training._calibration import calibrate
from kanlens.training._options import choose_loss

_MADE: dict[tuple[Any, ...], KAN] = {}
CALM = [  # functions that are defined everywhere
    ("sin", (1.3, 0.2, 0.8, 0.1)),
    ("x", (0.9, 0.3, 1.1, 0.2)),
    ("x^2", (0.6, 0.1, 0.7, -0.3)),
    ("tanh", (1.1, -0.2, 1.3, 0.4)),
]


def draw(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def made(
    widths: Sequence[Any],
    *,
    seed: int = 0,
    scaled_nodes: bool = False,
    functions: bool = False,
    series: Sequence[str] = (),
    normalized: Sequence[int] = (),
) -> KAN:
    """Return a float64 network whose scaling, bias and edges are all away from their defaults.

    `normalized` are for each layer the number of last sums that are normalized over a row. It is a
    copy of one made once.
    """
    asked = (repr(widths), seed, scaled_nodes, functions, tuple(series), tuple(normalized))
    if asked not in _MADE:
        _MADE[asked] = _make(widths, seed, scaled_nodes, functions, series, normalized)
    return copy.deepcopy(_MADE[asked])


def _make(
    widths: Sequence[Any],
    seed: int,
    scaled_nodes: bool,
    functions: bool,
    series: Sequence[str],
    normalized: Sequence[int],
) -> KAN:
    generator = torch.Generator().manual_seed(seed)
    model = KAN(widths, scale_noise=2.0, generator=generator).double()
    layers: list[Any] = list(model.layers)
    if series:
        layers = [with_series(layer, series, generator) for layer in layers]
    if functions:
        layers = [copy.deepcopy(layer) for layer in layers]
        for layer in layers:
            for k in range(layer.in_features * layer.out_features):
                out, in_ = divmod(k, layer.in_features)
                layer.assign(out, in_, *CALM[(3 * out + in_) % len(CALM)])
    counts = normalized or [0] * len(layers)
    nodes = [
        Nodes(one.grouping, scaled=scaled_nodes, normalized=count, eps=0.03)
        for one, count in zip(model.nodes, counts, strict=True)
    ]
    model = KAN.from_layers(layers, model.schema, nodes=nodes)
    with torch.no_grad():
        for layer in model.layers:
            layer.bias.copy_(torch.randn(layer.out_features, generator=generator))
    buffers = [model.input_scale, model.output_scale, *(n.scale for n in nodes if n.scaled)]
    for scale in buffers:
        scale.copy_(1 + torch.rand(scale.shape, generator=generator))
    for shift in (model.input_shift, model.output_shift, *(n.shift for n in nodes if n.scaled)):
        shift.copy_(torch.randn(shift.shape, generator=generator))
    model.scaled = True
    store_statistics(model, draw(40, model.widths[0], seed=seed + 5), background=4)
    return model


def with_series(layer: KANLinear, series: Sequence[str], generator: torch.Generator) -> KANLinear:
    """Return a layer with a drawn series beside what `layer` has."""
    new = KANLinear(
        layer.in_features, layer.out_features, series=series, generator=generator
    ).double()
    new.load_state_dict({**new.state_dict(), **layer.state_dict()})
    with torch.no_grad():
        new.series_weight.normal_(generator=generator)
        new.series_affine.normal_(generator=generator)
    return new


def levels(model: KAN, x: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Inputs and sums of every layer, and the output, one edge function after the other."""
    inputs, sums = [(x - model.input_shift) / model.input_scale], []
    for layer, nodes in zip(model.layers, model.nodes, strict=True):
        columns = []
        for out in range(layer.out_features):
            total = torch.full((len(x),), float(layer.bias[out].detach()), dtype=torch.float64)
            for in_ in range(layer.in_features):
                if layer.mask[out, in_] != 0:
                    values = layer.edge(out, in_)(inputs[-1][:, in_].double().numpy())
                    total += torch.as_tensor(values)
            columns.append(total)
        sums.append(torch.stack(columns, 1))
        group, made_nodes = nodes.grouping, []
        if nodes.normalized:
            block = torch.stack(columns[nodes.apart :])
            root = torch.sqrt(block.var(0, correction=0) + nodes.eps)
            columns[nodes.apart :] = ((block - block.mean(0)) / root).unbind()
        for node in range(group.nodes):
            factors = [columns[member] for member in group.members(node)]
            value = math.prod(factors[1:], start=factors[0])
            if nodes.scaled:
                value = value * float(nodes.scale[node]) + float(nodes.shift[node])
            made_nodes.append(value)
        inputs.append(torch.stack(made_nodes, 1))
    return inputs[:-1], sums, inputs[-1] * model.output_scale + model.output_shift


LOSSES = {"squared_error": None, "poisson": None, "quantile": (0.05, 0.5, 0.95)}


def calibrated(loss: str) -> tuple[KAN, Tensor]:
    """Return a network of a loss, rows, and rows held out; its quantiles cross."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(60, 2, generator=generator, dtype=torch.float64)
    widths = [2, 3 if loss == "quantile" else 2]
    model = KAN(widths, grid_size=2, generator=generator).double()
    torch.nn.init.normal_(model.layers[0].spline_weight, generator=generator)
    model.schema = choose_loss(model.schema, loss, LOSSES[loss], None, call="fit")
    with torch.no_grad():
        y = model.loss.response(model(x)) + torch.arange(1, 61)[:, None] / 40
    y = y.mean(1, keepdim=True).expand(-1, 3) if loss == "quantile" else y
    return calibrate(model, (x, y.round() if loss == "poisson" else y)), x
