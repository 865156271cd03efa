"""Small models of every kind that writers meet, made once."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
import torch

from kanlens.model._network import KAN
from tests.made import draw, made
from tests.model.layers_for_tests import rich


def _products() -> KAN:
    model = made([3, (2, [2, 3]), 2], scaled_nodes=True)
    model.layers[0].mask[0, 1] = 0
    model.layers[0].mask[:, 2] = 0  # a feature that nothing reads
    return model


def _mixed() -> KAN:
    """Splines of two shapes beside functions, in one layer and between layers."""
    base = made([2, 2, 1])
    layers = [copy.deepcopy(layer) for layer in base.layers]
    layers[0].assign(0, 1, "gaussian", (1.3, 0.2, 0.7, 0.1))
    layers[0].assign(1, 0, "constant", (1.0, 0.0, 1.0, 0.4))
    layers[1].assign(0, 0, "arctan", (1.0, 0.3, 0.5, 0.0))
    return KAN.from_layers(layers, base.schema, nodes=list(base.nodes))


def _held() -> KAN:
    model = made([2, 3, 1])
    model.input_low.copy_(torch.tensor([-1.0, -0.5]))
    model.input_high.copy_(torch.tensor([1.0, 0.75]))
    return model


def _zero() -> KAN:
    return KAN(
        [2, 3, 1],
        extrapolation="zero",
        grid_size=4,
        spline_order=2,
        scale_noise=2.0,
        base_activation="tanh",
        generator=torch.Generator().manual_seed(0),
    ).double()


def _uneven() -> KAN:
    model = made([2, 3, 1])
    model.update_grid(draw(60, 2, seed=3))
    return model


def _series() -> KAN:
    """Functions beside the splines, some shifted and wider, and one edge off."""
    options = {"series": ["gaussian", "sin", "meyer", "T3(tanh)"], "spline_order": 2}
    layers = [rich(2, 3, **options), rich(3, 1, **options)]
    layers[0].mask[1, 0] = 0
    return KAN.from_layers(layers, made([2, 3, 1]).schema)


MAKERS: dict[str, Callable[[], KAN]] = {
    "splines": lambda: made([3, 4, 2]),
    "products": _products,
    "functions": lambda: made([3, (1, 1), 1], functions=True),
    "mixed": _mixed,
    "held": _held,
    "zero": _zero,
    "series": _series,
    "uneven": _uneven,
}


@functools.cache
def build(name: str) -> KAN:
    return MAKERS[name]()


@pytest.fixture(params=MAKERS)
def model(request: pytest.FixtureRequest) -> KAN:
    return build(request.param)
