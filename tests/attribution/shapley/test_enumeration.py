"""Games solved by going through all coalitions."""

import itertools
import math

import pytest
import torch

from kanlens.attribution.shapley import _enumeration as enumeration
from kanlens.attribution.shapley._enumeration import enumerated, pair_weights, value_weights
from kanlens.attribution.shapley._games import Game, games
from kanlens.model import kernels
from tests.attribution.conftest import problem_of
from tests.attribution.shapley.definition import network


def game_of(kind, draw, *, batch=3, rows=4):
    model, target = network(kind)
    d = model.widths[0]
    problem = problem_of(model, draw(batch, d), draw(rows, d, seed=2), target)
    return games(problem, torch.eye(d, dtype=torch.float64))[0]


def values_by_orders(worth, n):
    """The mean gain of every player over all orders; worth by the code of a coalition."""
    values = torch.zeros(n, dtype=torch.float64)
    for order in itertools.permutations(range(n)):
        code = 0
        for p in order:
            values[p] += (worth[code | 1 << p] - worth[code]) / math.factorial(n)
            code |= 1 << p
    return values


def pairs_by_orders(worth, n):
    """The mean joint gain of two players who come together, over all orders of the others."""
    found = torch.zeros(n, n, dtype=torch.float64)
    for i, k in itertools.permutations(range(n), 2):
        couple = 1 << i | 1 << k
        others = [p for p in range(n) if p not in (i, k)]
        for order in itertools.permutations([*others, "couple"]):
            code = sum(1 << p for p in order[: order.index("couple")])
            gain = worth[code | couple] - worth[code | 1 << i] - worth[code | 1 << k] + worth[code]
            found[i, k] += gain / math.factorial(n - 1)
    return found


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_weights_are_those_of_all_orders(n, draw):
    worth = draw(2**n)
    values = worth @ value_weights(n)
    torch.testing.assert_close(values, values_by_orders(worth, n), rtol=1e-13, atol=1e-14)
    pairs = (worth @ pair_weights(n)).reshape(n, n)
    torch.testing.assert_close(pairs, pairs_by_orders(worth, n), rtol=1e-13, atol=1e-14)
    assert float(values_by_orders(worth.flip(0), n).add(values).abs().max()) < 1e-12
    if n > 1:
        wrong = values_by_orders(worth.roll(1), n)
        assert float((wrong - values).abs().max()) > 1e-3
        assert float((pairs_by_orders(worth.roll(1), n) - pairs).abs().max()) > 1e-3


KERNEL = ["two layers", "order 5", "run out", "masked", "products", "scaled"]


@pytest.mark.slow  # every method on many layers
@pytest.mark.parametrize("kind", [*KERNEL, "tanh", "functions"])
def test_kernel_and_torch_give_the_same(kind, draw):
    game = game_of(kind, draw)
    with kernels.use("sparse"):
        found = enumerated(game, interactions=True)
    with kernels.use("torch"):
        expected = enumerated(game, interactions=True)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.pairs, expected.pairs, rtol=1e-11, atol=1e-13)
    assert found.evaluations == 2**game.size * 4


@pytest.mark.parametrize("kind", ["two layers", "products"])
def test_the_kernel_is_used(kind, draw, monkeypatch):
    monkeypatch.setattr(Game, "outputs", None)
    with kernels.use("sparse"):
        assert len(enumerated(game_of(kind, draw)).values) == 3
    with kernels.use("torch"), pytest.raises(TypeError):
        enumerated(game_of(kind, draw))


@pytest.mark.parametrize("path", ["auto", "torch"])
@pytest.mark.parametrize("budget", [1, 100])
@pytest.mark.parametrize("kind", ["two layers", "product at the end"])
@pytest.mark.slow  # many cases
def test_chunks_change_nothing(kind, budget, path, draw, monkeypatch):
    game = game_of(kind, draw)
    expected = enumerated(game, interactions=True)
    monkeypatch.setattr(enumeration, "BUDGET", budget)
    monkeypatch.setattr(enumeration, "STEP", budget)
    done = []
    with kernels.use(path):
        found = enumerated(game, interactions=True, advance=done.append)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(found.pairs, expected.pairs, rtol=1e-11, atol=1e-13)
    assert sum(done) == 3
    assert len(done) > 1
