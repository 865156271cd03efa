"""Games of cosines: the kernel against all coalitions, and the rules it uses."""

import itertools
import math

import numpy as np
import pytest
import torch

from kanlens.attribution.shapley.product_games import cosine_interactions, cosine_values, half_rules
from kanlens.attribution.shapley.product_games_loops import LANES
from kanlens.model import kernels


@pytest.fixture(autouse=True)
def kernels_compiled():
    with kernels.use("sparse"):
        yield


def worth(steps, start, cosines, members):
    s = float(start) + sum(float(steps[j]) for j in members)
    return sum(c * math.cos(m * math.pi * s) for m, c in enumerate(cosines, start=1))


def by_orders(steps, start, cosines):
    """Mean marginal worth over all orders."""
    n = len(steps)
    found = np.zeros(n)
    for order in itertools.permutations(range(n)):
        for place, i in enumerate(order):
            before = order[:place]
            gain = worth(steps, start, cosines, (*before, i))
            found[i] += gain - worth(steps, start, cosines, before)
    return found / math.factorial(n)


@pytest.mark.parametrize("players", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("terms", [1, LANES - 1, LANES, LANES + 1, 2 * LANES + 3])
def test_values_are_mean_gains_over_all_orders(players, terms):
    draw = np.random.default_rng(players)
    steps, starts = torch.tensor(draw.normal(size=(3, players))), torch.tensor(draw.random(3))
    steps[1, 0] = 0.0
    cosines = draw.normal(size=terms)
    found = cosine_values(steps, starts, cosines)
    for p in range(3):
        expected = by_orders(steps[p], starts[p], cosines)
        np.testing.assert_allclose(found[p].numpy(), expected, atol=1e-11, rtol=0)


def test_interactions_are_mean_mixed_gains():
    steps = torch.tensor([[0.3, -0.4, 0.25]], dtype=torch.float64)
    start, cosines = torch.tensor([0.1], dtype=torch.float64), np.array([1.0, -0.5, 2.0])
    found = cosine_interactions(steps, start, cosines)[0]
    for i, k, other in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
        mixed = 0.0
        for rest in ((), (other,)):
            at = [worth(steps[0], 0.1, cosines, (*rest, *more)) for more in ((i, k), (i,), (k,))]
            mixed += (at[0] - at[1] - at[2] + worth(steps[0], 0.1, cosines, rest)) / 2
        assert float(found[i, k]) == pytest.approx(mixed, abs=1e-13)
        assert found[i, k] == found[k, i]


def test_threads_share_games():
    draw = np.random.default_rng(0)
    steps, starts = torch.tensor(draw.normal(size=(50, 6)) / 6), torch.tensor(draw.random(50))
    cosines = draw.normal(size=300)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = cosine_values(steps, starts, cosines), cosine_interactions(steps, starts, cosines)
        torch.set_num_threads(2)
        two = cosine_values(steps, starts, cosines), cosine_interactions(steps, starts, cosines)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_it_declines_where_torch_is_asked_for_or_the_numbers_are_short():
    steps, starts = torch.ones(1, 2).double(), torch.zeros(1).double()
    with kernels.use("torch"):
        assert cosine_values(steps, starts, np.ones(1)) is None
        assert cosine_interactions(steps, starts, np.ones(1)) is None
    assert cosine_values(steps.float(), starts.float(), np.ones(1)) is None


@pytest.mark.parametrize("count", [1, 2, 3, 8, 51])
def test_half_rules_integrate_what_whole_rules_do(count):
    nodes, weights = half_rules(count)
    for power in range(2 * count):  # of t, and of 1 - t, its mirror image
        both = nodes[count] ** power + (1 - nodes[count]) ** power
        assert float(weights[count] @ both) == pytest.approx(2 / (power + 1) / 2, rel=1e-13)
    assert float(weights[count].sum()) == pytest.approx(0.5)
