"""Shapley values by cosines: against enumeration and closed forms, and inside their bounds."""

import dataclasses
import math
import time
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

import kanlens
from kanlens.attribution.shapley._cosines import CosineSeries, fit
from kanlens.attribution.shapley._enumeration import compile_worths
from kanlens.attribution.shapley._fourier import (
    compile_games,
    product_games,
)
from kanlens.attribution.shapley._game_loops import LANES
from kanlens.model import kernels
from kanlens.model._edge import Edge
from kanlens.model.kernels import _compiling as compiling
from tests.attribution.shapley.curves import (
    drawn,
    enumerated,
    enumerated_pairs,
    of_a_product,
    of_two_groups,
    reached,
    spline,
    summed,
)

ROUNDING = 1e-12


def fitted(edge: Edge, steps: Tensor, offsets: Tensor, tolerance: float) -> CosineSeries:
    return fit(edge, *reached(steps, offsets), tolerance=tolerance)


def made_up(terms: int, seed: int = 0) -> CosineSeries:
    """A series with every part in use."""
    draw = np.random.default_rng(seed)
    cosines = draw.normal(size=terms) / np.arange(1, terms + 1)
    return CosineSeries(
        low=-1.5, high=2.0, polynomial=draw.normal(size=5), cosines=cosines, error=0.0
    )


def inside(games: int, players: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Games that stay in the interval of `made_up`."""
    steps, offsets = drawn(games, players, spread=1.2, seed=seed)
    return steps, offsets.clamp(-0.3, 0.8)


@pytest.mark.slow  # every method on many layers
@pytest.mark.parametrize("players", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("terms", [1, LANES, LANES + 13])
@pytest.mark.parametrize("path", ["sparse", "torch"])
def test_values_and_interactions_are_exact_for_a_series(players, terms, path):
    series, (steps, offsets) = made_up(terms), inside(3, players)
    steps[1, players // 2] = 0.0
    with kernels.use(path):
        values = product_games(steps, offsets, series)
        pairs = product_games(steps, offsets, series, interactions=True)
    for p in range(3):
        expected = enumerated(steps[p], float(offsets[p]), partial(summed, series))
        np.testing.assert_allclose(values[p].numpy(), expected, atol=ROUNDING, rtol=0)
        if players > 1:
            expected = enumerated_pairs(steps[p], float(offsets[p]), partial(summed, series))
            np.testing.assert_allclose(pairs[p].numpy(), expected, atol=ROUNDING, rtol=0)


@pytest.mark.slow  # takes a while
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_no_value_is_outside_its_bound(data):
    degree, seed = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 10**6))
    players, spread = data.draw(st.integers(1, 7)), data.draw(st.floats(0.1, 5.0))
    extrapolation = data.draw(st.sampled_from(["linear", "zero"]))
    edge = spline(seed, degree=degree, extrapolation=extrapolation)
    steps, offsets = drawn(2, players, spread=spread, seed=seed)
    tolerance = 10.0 ** data.draw(st.integers(-6, -1))
    series = fit(edge, *reached(steps, offsets), tolerance=tolerance, most=300)
    values = product_games(steps, offsets, series)
    for p in range(2):
        expected = enumerated(steps[p], float(offsets[p]), edge)
        assert np.abs(values[p].numpy() - expected).max() <= 2 * series.error + ROUNDING


def test_the_bound_is_reached_and_a_smaller_one_would_be_wrong():
    edge = spline(6)
    series = fit(edge, -1.0, 1.0, tolerance=1e-3)
    points = np.linspace(-1, 1, 20001)
    off = summed(series, points) - edge(points)
    start, end = points[off.argmin()], points[off.argmax()]
    steps, offsets = torch.tensor([[end - start]]), torch.tensor([start])
    value = float(product_games(steps, offsets, series)[0, 0])
    error = abs(value - float(edge(end) - edge(start)))
    assert series.error < error <= 2 * series.error
    half = dataclasses.replace(series, cosines=series.cosines[: len(series.cosines) // 2])
    value = float(product_games(steps, offsets, half)[0, 0])
    assert abs(value - float(edge(end) - edge(start))) > 2 * half.error


@pytest.mark.parametrize("name", ["sin", "exp"])
def test_many_players_of_a_cosine_or_an_exponential(name):
    edge = Edge.of(name, a=1.7, b=0.4, c=0.8)
    steps, offsets = drawn(1, 100, spread=4.0)
    rate = 1.7j if name == "sin" else 1.7
    start = 0.8 * np.exp(rate * float(offsets[0]) + (0.4j if name == "sin" else 0.4))
    products = of_a_product(np.exp(rate * steps[0].numpy()), start)
    expected = products.imag if name == "sin" else products.real
    for tolerance in (1e-3, 1e-6, 1e-9):
        series = fitted(edge, steps, offsets, tolerance)
        found = product_games(steps, offsets, series)[0].numpy()
        assert series.error <= tolerance
        assert np.abs(found - expected).max() <= 2 * series.error


def test_many_players_of_a_quadratic():
    edge = Edge.of("x^2", a=1.5, b=-0.2, c=0.5, d=3.0)
    steps, offsets = drawn(3, 100, spread=6.0)
    series = fitted(edge, steps, offsets, 1e-9)
    inner, start = 1.5 * steps, 1.5 * offsets[:, None] - 0.2
    total = inner.sum(1, keepdim=True)
    assert_close(
        product_games(steps, offsets, series),
        0.5 * inner * (2 * start + total),
        rtol=0,
        atol=1e-11,
    )
    pairs = inner[:, :, None] * inner[:, None, :]
    pairs.diagonal(dim1=1, dim2=2).zero_()
    found = product_games(steps, offsets, series, interactions=True)
    assert_close(found, pairs, rtol=0, atol=1e-11)


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("degree", [1, 3])
def test_many_players_of_a_spline(degree):
    counts, (one, other) = (33, 67), (0.08, -0.03)
    edge = spline(7, degree=degree)
    steps = torch.tensor([[one] * counts[0] + [other] * counts[1]], dtype=torch.float64)
    offsets = torch.tensor([-0.4], dtype=torch.float64)
    series = fit(edge, *reached(steps, offsets), tolerance=1e-6, most=2000)
    found = product_games(steps, offsets, series)[0]
    expected = of_two_groups(counts, (one, other), -0.4, edge)
    for value, player in zip(expected, (0, -1), strict=True):
        assert abs(float(found[player]) - value) <= 2 * series.error
    assert series.error <= 1e-6 or degree == 1
    assert_close(found[: counts[0]], found[:1].expand(counts[0]), rtol=0, atol=ROUNDING)


def test_players_without_a_step_get_nothing():
    edge, (steps, offsets) = spline(9), drawn(3, 12, spread=2.0)
    steps[:, 3], steps[1, 5:], steps[2] = 0.0, 0.0, 0.0
    series = fitted(edge, steps, offsets, 1e-4)
    values = product_games(steps, offsets, series)
    pairs = product_games(steps, offsets, series, interactions=True)
    dead = steps == 0
    assert bool((values[dead] == 0).all()) and bool((pairs[dead] == 0).all())
    assert bool((values[~dead] != 0).all())
    without = product_games(steps[:1, steps[0] != 0], offsets[:1], series)
    assert_close(values[:1, steps[0] != 0], without, rtol=0, atol=ROUNDING)


def test_empty_games_and_points():
    point = fit(spline(0), 0.3, 0.3, tolerance=1e-6)
    nothing = torch.zeros(2, 3, dtype=torch.float64)
    there = torch.full((2,), 0.3, dtype=torch.float64)
    assert bool((product_games(nothing, there, point) == 0).all())
    assert bool((product_games(nothing, there, point, interactions=True) == 0).all())
    series = fit(spline(0), -1.0, 1.0, tolerance=1e-3)
    assert product_games(nothing[:0], there[:0], series).shape == (0, 3)
    assert product_games(nothing[:, :0], there, series).shape == (2, 0)
    assert product_games(nothing[:, :1], there, series, interactions=True).tolist() == [[[0.0]]] * 2


@pytest.mark.slow  # many networks and methods
def test_time_does_not_grow_with_the_number_of_coalitions():
    def seconds(players: int) -> float:
        games = [drawn(1, players, spread=2.0, seed=seed) for seed in range(8)]
        start = time.process_time()
        for seed, (steps, offsets) in enumerate(games):
            product_games(steps, offsets, fitted(spline(seed), steps, offsets, 6e-8))
        return time.process_time() - start

    seconds(14)  # what is loaded the first time
    few, many = ([seconds(players) for _ in range(3)] for players in (10, 14))
    assert min(many) < 4 * min(few)  # there are 16 times as many coalitions


def test_the_rule_of_two_groups_and_products_agree_with_enumeration():
    def wave(u):
        return np.cos(2.0 * u)

    steps = torch.tensor([0.3, 0.3, 0.3, -0.2, -0.2], dtype=torch.float64)
    expected = enumerated(steps, 0.1, wave)
    groups = of_two_groups((3, 2), (0.3, -0.2), 0.1, wave)
    products = of_a_product(np.exp(2j * steps.numpy()), np.exp(0.2j)).real
    assert math.isclose(groups[0], expected[0], abs_tol=1e-14)
    assert math.isclose(groups[1], expected[4], abs_tol=1e-14)
    np.testing.assert_allclose(products, expected, atol=1e-14)


def test_threads_share_games(many_threads):
    series, games = made_up(300), inside(50, 6)
    shared = [product_games(*games, series, interactions=both) for both in (False, True)]
    torch.set_num_threads(1)
    alone = [product_games(*games, series, interactions=both) for both in (False, True)]
    assert all(torch.equal(one, other) for one, other in zip(shared, alone, strict=True))


@pytest.mark.slow
def test_kernels_are_compiled_for_the_types_of_attributions():
    compile_games()
    compile_worths(3)
    before = set(compiling._compilations)
    for widths in ([4, 5, 1], [2, (2, 1), 1]):
        model, x = kanlens.KAN(widths).double(), torch.rand(9, widths[0]).double()
        kanlens.attribute(model, x, method="interactions", background=x)
        if widths == [4, 5, 1]:
            kanlens.attribute(model, x, method="interactions", background=x, algorithm="fourier")
    assert set(compiling._compilations) == before
