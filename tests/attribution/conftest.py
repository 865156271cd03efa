"""Small networks with every part in use: bias, scaling, curved edges."""

import copy
from collections.abc import Callable, Sequence

import pytest
import torch

from kanlens.attribution._problem import Problem
from kanlens.model._analysis import float64_copy
from kanlens.model._network import KAN
from tests.made import with_series


def build(widths: Sequence[int], seed: int = 0, **options: object) -> KAN:
    """A float64 network whose scaling, bias and edges are all away from their defaults."""
    generator = torch.Generator().manual_seed(seed)
    model = KAN(widths, scale_noise=2.0, generator=generator, **options).double()
    with torch.no_grad():
        for layer in model.layers:
            layer.bias.copy_(torch.randn(layer.out_features, generator=generator))
    n_in, n_out = model.widths[0], model.widths[-1]
    model.input_shift.copy_(torch.randn(n_in, generator=generator))
    model.input_scale.copy_(1 + torch.rand(n_in, generator=generator))
    model.output_shift.copy_(torch.randn(n_out, generator=generator))
    model.output_scale.copy_(1 + torch.rand(n_out, generator=generator))
    return model


def with_functions(model: KAN) -> KAN:
    """The same with edges that are functions: in the first layer a smooth one and a kink."""
    layers = [copy.deepcopy(layer) for layer in model.layers]
    layers[0].assign(0, 1, "sin", (1.3, 0.2, 0.8, 0.1))
    layers[0].assign(1, 2, "abs", (1.1, 0.1, 0.7, 0.0))
    layers[-1].assign(1, 0, "x^2", (0.5, 0.3, 1.0, -2.0))
    return KAN.from_layers(layers, model.schema)


def of_series(model: KAN) -> KAN:
    """The same with bumps, a wave and a polynomial of tanh on every edge."""
    generator = torch.Generator().manual_seed(3)
    names = ("gaussian", "gaussian", "sin", "T3(tanh)")
    layers = [with_series(layer, names, generator) for layer in model.layers]
    for layer in layers:
        layer.series_weight.data *= 0.5
    return KAN.from_layers(layers, model.schema)


# from a spline network to each layer kind
MADE_OF = {"spline": lambda model: model, "function": with_functions, "series": of_series}


def problem_of(
    model: KAN, x: torch.Tensor, rows: torch.Tensor | None = None, target: int = 0, seed: int = 3
) -> Problem:
    """A problem as `attribute` would pose it."""
    generator = torch.Generator().manual_seed(seed)
    return Problem(model=float64_copy(model), x=x, rows=rows, target=target, generator=generator)


@pytest.fixture
def network() -> Callable[..., KAN]:
    return build


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the same without a generator whatever ran before: 5 standard errors are no rarity."""
    torch.manual_seed(20)


@pytest.fixture
def draw() -> Callable[..., torch.Tensor]:
    def draw(*shape: int, seed: int = 1) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw
