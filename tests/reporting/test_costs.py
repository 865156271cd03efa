from __future__ import annotations

import math

import pytest
import torch

from kanlens.model.network import KAN
from kanlens.reporting.planning import shapley_evaluations
from tests.reporting.conftest import network, seeded


def rows(width: int) -> torch.Tensor:
    return torch.rand(6, width, generator=seeded(), dtype=torch.float64)


def cost(model: KAN, x: torch.Tensor) -> float:
    return shapley_evaluations(model, x, x, 0)


def test_a_feature_doubles_the_coalitions() -> None:
    one, two = (cost(network([n, 4, 1]), rows(n)) for n in (8, 9))
    assert two == pytest.approx(2 * one, rel=1e-2)


def test_features_that_never_change_are_no_players() -> None:
    x = rows(9)
    x[:, 3] = 0.25
    assert cost(network([9, 4, 1]), x) == pytest.approx(cost(network([8, 4, 1]), rows(8)))


def test_games_of_few_features_each_are_cheap_however_many_there_are() -> None:
    model = network([16, 8, 1])
    for node in range(8):
        model.layers[0].mask[node] = 0
        model.layers[0].mask[node, 2 * node : 2 * node + 2] = 1
    assert cost(model, rows(16)) < cost(network([8, 8, 1]), rows(8))


def test_deep_games_of_many_features_would_be_sampled() -> None:
    assert cost(network([16, 2, 2, 1]), rows(16)) == math.inf


def test_the_model_is_left_alone() -> None:
    model = network([4, 2, 1]).float()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cost(model, rows(4))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
