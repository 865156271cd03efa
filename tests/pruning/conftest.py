"""Networks whose every part is in use, and one thread, as such sizes want."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import kanlens

Build = Callable[..., kanlens.KAN]
Draw = Callable[..., Tensor]


def prune(model: kanlens.KAN, x: Any, y: Any = None, **options: Any) -> kanlens.PruneResult:
    return kanlens.prune(model, x, y, progress=False, **options)


def noisy(model: kanlens.KAN, x: Tensor, size: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        y = model(x)
    return y + size * y.std(0) * torch.randn(y.shape, generator=generator, dtype=y.dtype)


def columns_of(small: kanlens.KAN, model: kanlens.KAN) -> list[int]:
    return [model.feature_names.index(name) for name in small.feature_names]


@pytest.fixture
def network() -> Callable[..., kanlens.KAN]:
    """Float64 networks whose scaling, bias and splines are all away from their defaults."""

    def build(widths: Sequence[int] = (3, 4, 1), seed: int = 0, **options: object) -> kanlens.KAN:
        generator = torch.Generator().manual_seed(seed)
        model = kanlens.KAN(widths, scale_noise=3.0, generator=generator, **options).double()
        with torch.no_grad():
            for layer in model.layers:
                layer.bias.copy_(torch.randn(layer.out_features, generator=generator))
        n_in, n_out = model.widths[0], model.widths[-1]
        model.input_shift.copy_(torch.randn(n_in, generator=generator))
        model.input_scale.copy_(1 + torch.rand(n_in, generator=generator))
        model.output_shift.copy_(torch.randn(n_out, generator=generator))
        model.output_scale.copy_(1 + torch.rand(n_out, generator=generator))
        return model

    return build


@pytest.fixture
def with_functions(network: Callable[..., kanlens.KAN]) -> Callable[[], kanlens.KAN]:
    """A (3, 4, 1) network in which some edges are elementary functions."""

    def build() -> kanlens.KAN:
        model = network()
        layers = [copy.deepcopy(layer) for layer in model.layers]
        layers[0].assign(1, 2, "sin", (1.2, 0.3, 0.8, 0.4))
        layers[0].assign(3, 0, "x^2", (0.7, 0.1, -0.5, 0.2))
        layers[1].assign(0, 3, "tanh", (1.0, 0.0, 1.5, 0.3))
        return kanlens.KAN.from_layers(layers, model.schema)

    return build


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    def draw(rows: int = 50, width: int = 3, seed: int = 1) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(rows, width, generator=generator, dtype=torch.float64)

    return draw
