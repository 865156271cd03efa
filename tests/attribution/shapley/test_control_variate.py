"""Polynomials that follow a game along its orders."""

import copy
import dataclasses
import itertools
import math

import pytest
import torch

from kanlens.attribution.shapley import _permutation_paths as permutations
from kanlens.attribution.shapley._enumeration import enumerated, value_weights
from kanlens.attribution.shapley._games import games
from kanlens.attribution.shapley._permutation_paths import (
    PermutationPaths,
    Surrogate,
    count,
    fitted,
    places,
)
from kanlens.model._network import KAN
from tests.attribution.conftest import problem_of
from tests.attribution.shapley.definition import network


def any_polynomial(draw, batch, rows, sub, *, form=True):
    mixed = draw(batch, rows, sub, sub, sub, seed=4)
    symmetric = sum(mixed.permute(0, 1, *order) for order in itertools.permutations((2, 3, 4)))
    return Surrogate(
        scale=1 + draw(batch, rows, sub).square(),
        cubes=draw(batch, rows, sub, seed=2),
        fifths=draw(batch, rows, sub, seed=3),
        form=symmetric.flatten(2, 3) if form else None,
    )


@pytest.mark.parametrize("form", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_shares_are_shapley_values(n, form, draw):
    steps = draw(2, 3, n, 4, seed=5)
    polynomial = any_polynomial(draw, 2, 3, 4, form=form)
    inside = ((torch.arange(2**n)[:, None] >> torch.arange(n)) & 1).double()
    worths = polynomial.values(inside @ steps - steps.sum(2, keepdim=True) / 2)
    exact = worths @ value_weights(n)
    torch.testing.assert_close(polynomial.shares(steps), exact, rtol=1e-11, atol=1e-11)
    wrong = dataclasses.replace(polynomial, fifths=1.01 * polynomial.fifths).shares(steps)
    assert float((wrong - exact).abs().max()) > 1e-4


def game_of(model, draw, *, target=0, batch=2, rows=2):
    d = model.widths[0]
    problem = problem_of(model, draw(batch, d), draw(rows, d, seed=2), target)
    return games(problem, torch.eye(d, dtype=torch.float64))[0]


def walked(game, orders):
    """Walk in some orders from every row."""
    walks = PermutationPaths(game, game.x)
    who, rows = torch.arange(len(game.x)), torch.arange(len(game.rows))
    return walks, walks.walk(who, rows, orders.expand(len(rows), -1, -1))


def all_orders(n):
    return torch.tensor(list(itertools.permutations(range(n))))


@pytest.mark.parametrize("kind", ["three layers", "deep products", "products"])
def test_corrections_cancel_over_all_orders_and_over_players(kind, draw):
    game = game_of(network(kind)[0], draw, target=network(kind)[1])
    walks, found = walked(game, all_orders(game.size))
    change = fitted(walks, torch.arange(2)).correction(found)
    assert float(change.abs().max()) > 1e-6
    assert float(change.mean(2).abs().max()) < 1e-13
    assert float(change.sum(3).abs().max()) < 1e-13
    exact = enumerated(game).values
    torch.testing.assert_close(found.gains.mean((1, 2)), exact, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close((found.gains + change).mean((1, 2)), exact, rtol=1e-11, atol=1e-13)


def powers(draw, function, sub=3):
    """A network of six features whose hidden sums all go through a function."""
    first = KAN([6, sub, 1], scale_noise=1.0, generator=torch.Generator().manual_seed(0)).double()
    outer = copy.deepcopy(first.layers[1])
    for k in range(sub):
        outer.assign(0, k, function, [1.0, 0.3 * k, 0.5 + k, 0.1])
    return game_of(KAN.from_layers([first.layers[0], outer], first.schema), draw)


@pytest.mark.parametrize("function", ["x", "x^2"])
def test_pairs_of_orders_take_additive_and_quadratic_games_as_they_are(function, draw):
    game = powers(draw, function)
    gains = walked(game, torch.tensor([[0, 1, 2, 3, 4, 5], [3, 1, 5, 0, 4, 2]]))[1].gains
    assert float(gains.std(2).max()) < 1e-13
    torch.testing.assert_close(gains[:, :, 0].mean(1), enumerated(game).values)


@pytest.mark.parametrize("function", ["x^3", "x^4", "x^5"])
@pytest.mark.parametrize("most", [10, 0])
def test_one_order_is_enough_for_a_polynomial(function, most, draw, monkeypatch):
    monkeypatch.setattr(permutations, "MAX_SUMS", most)
    game = powers(draw, function)
    walks, found = walked(game, torch.tensor([[3, 1, 5, 0, 4, 2], [0, 1, 2, 3, 4, 5]]))
    change = fitted(walks, torch.arange(2)).correction(found)
    assert float(found.gains.std(2).max()) > 1e-5
    assert float((found.gains + change).std(2).max()) < 1e-12
    exact = enumerated(game).values
    torch.testing.assert_close((found.gains + change)[:, :, 0].mean(1), exact)


@pytest.mark.parametrize("sub", [1, 2, 3, 6, 10, 11])
def test_there_are_as_many_places_as_coefficients(sub):
    at = places(sub)
    pairs, triples = sub * (sub - 1), math.comb(sub, 3)
    assert len(at) == count(sub) == 3 * sub + (pairs + triples) * (sub <= 10)
    columns = permutations._powers(at)
    assert columns.shape == (len(at), len(at))
    assert float(torch.linalg.cond(columns)) < 1e5


def test_a_place_without_a_finite_output_leaves_the_polynomial_out(draw):
    game = powers(draw, "log")
    walks = PermutationPaths(game, game.x)
    found = fitted(walks, torch.arange(2))
    assert all(bool(part.isfinite().all()) for part in (found.cubes, found.fifths, found.form))
