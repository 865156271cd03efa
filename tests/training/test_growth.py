"""Gains are those of the likelihood; terms that are there are found, and no others."""

import numpy as np
import pytest

from kanlens.model._losses import LogLoss
from kanlens.training import _growth, _small_network
from kanlens.training._curve_design import ColumnCurves, CurveDesign, make_curve
from kanlens.training._growth import GrowthPath, Interactions, ScoreTest
from kanlens.training._small_network import SQUARED, SmallNetwork


def columns_of(x):
    count = x.shape[1]
    return [
        ColumnCurves(index, CurveDesign([make_curve(index, x[:, index], index, count)], x))
        for index in range(count)
    ]


def drawn(rows, columns, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (rows, columns))


FREE = Interactions()


def grown(x, y, max_edges=30, interactions=FREE, loss=SQUARED):
    """Return the last network and the words of all steps."""
    network = SmallNetwork(columns_of(x), y, np.ones(len(y)), loss)
    names = [f"x{index}" for index in range(x.shape[1])]
    path = GrowthPath(network, max_edges, interactions, names)
    while not path.ended:
        path.grow()
    return path.steps[-1].network, [step.added for step in path.steps]


def pairs_of(network):
    """Return the pairs of columns that are in a product."""
    return {
        frozenset((network.columns[a.column].index, network.columns[b.column].index))
        for product in network.products
        for a in product.factors[0]
        for b in product.factors[1]
    }


def test_a_gain_is_that_of_the_marginal_likelihood():
    x = drawn(70, 3)
    y = x[:, 0] * x[:, 1] + 0.3 * np.random.default_rng(1).normal(size=70)
    network = SmallNetwork(columns_of(x), y - y.mean(), np.ones(70))
    test = ScoreTest(network)
    left, right = (network.columns[column].probe_values for column in (0, 1))
    block = (left[:, :, None] * right[:, None, :]).reshape(70, -1)
    gain, _ = test(block)
    design, owners, _, variances = network.linear()
    center = np.eye(70) - 1 / 70
    own = variances[owners]
    own = np.where(own > 1e-6, own, 0.0)
    matrix, block = center @ design.matrix, center @ block
    basis = np.linalg.svd(center)[0][:, :69]  # without the mean
    response = basis.T @ network.targets

    def likelihood(variance):
        prior = matrix * own @ matrix.T + variance * block @ block.T
        covariance = basis.T @ (prior + network.noise * np.eye(70)) @ basis
        size = np.linalg.slogdet(covariance)[1]
        return -(size + response @ np.linalg.solve(covariance, response)) / 2

    gains = [likelihood(variance) - likelihood(0.0) for variance in _growth.VARIANCES]
    assert gain == pytest.approx(max(gains), abs=1e-8)
    assert abs(gain - sorted(gains)[-4]) > 1e-3  # another variance is another gain


@pytest.mark.slow  # trains networks
@pytest.mark.parametrize("seed", range(3))
def test_pairs_that_are_there_are_found_and_no_others(seed, monkeypatch):
    monkeypatch.setattr(_growth, "MIN_GAIN", 6.0)  # cross-validation is as strict
    x = drawn(600, 6, seed)
    noise = np.random.default_rng(seed + 10).normal(size=600)
    smooth = np.sin(2 * x[:, 0]) + x[:, 4] ** 2
    alone, _ = grown(x, smooth + 0.3 * noise)
    assert pairs_of(alone) == set()
    y = smooth + x[:, 1] * np.abs(x[:, 2]) + 2 * x[:, 0] * (x[:, 3] > 0) + 0.3 * noise
    network, words = grown(x, y)
    assert pairs_of(network) == {frozenset((1, 2)), frozenset((0, 3))}
    assert {"x1 * x2", "x0 * x3"} <= set(words)


def test_a_column_joins_a_factor():
    x = drawn(500, 4)
    y = x[:, 0] * (x[:, 1] + np.sin(3 * x[:, 2]))
    y += 0.1 * np.random.default_rng(1).normal(size=500)
    network, words = grown(x, y, max_edges=12, interactions=Interactions(most=1))
    assert len(network.products) == 1
    assert sorted(map(len, network.products[0].factors)) == [1, 2]
    assert words[-1] in ("x1 * x0", "x2 * x0")


def test_a_link_is_one_edge_where_products_would_be_many():
    x = drawn(500, 5)
    y = np.exp(x.sum(1) + 0.05 * np.random.default_rng(1).normal(size=500))
    network, words = grown(x, y / y.std(), max_edges=6)
    assert words == ["curves alone", "link"]
    error = network.targets - network.outputs()
    assert error.var() < 0.01 * network.targets.var()


def test_a_link_goes_when_products_make_it_needless():
    x = drawn(300, 3) + 1
    y = 5 * x[:, 0] * x[:, 1] + x[:, 2] ** 2
    network, words = grown((x - 1), (y - y.mean()) / y.std(), max_edges=9)
    assert "x0 * x1" in words
    assert network.link is None


@pytest.mark.slow  # trains networks
def test_interactions_are_those_allowed():
    x = drawn(400, 4)
    y = x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] + 0.1 * np.random.default_rng(0).normal(size=400)
    for interactions, expected in (
        (FREE, [{0, 1}, {2, 3}]),
        (Interactions(most=0), []),
        (Interactions(pairs=frozenset([frozenset((2, 3))])), [{2, 3}]),
    ):
        network, _ = grown(x, y, interactions=interactions)
        assert pairs_of(network) == set(map(frozenset, expected))
        if interactions.most == 0:
            assert network.link is None
    one, _ = grown(x, y, interactions=Interactions(most=1))
    assert len(one.products) == 1


def test_classes_have_no_link_and_their_products():
    x = drawn(800, 4)
    logits = 4 * x[:, 0] * x[:, 1] + x[:, 2]
    y = (np.random.default_rng(0).uniform(size=800) < 1 / (1 + np.exp(-logits))).astype(float)
    network, _ = grown(x, y, loss=LogLoss())
    assert pairs_of(network) == {frozenset((0, 1))}
    assert network.link is None
    assert np.corrcoef(network.outputs(), logits)[0, 1] > 0.95


def test_growth_stays_within_its_edges():
    x = drawn(400, 4)
    y = x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3]
    for most in (4, 7, 9):
        network, _ = grown(x, y, max_edges=most)
        assert network.curves() <= most


def test_growth_ends_where_no_increasing_link_fits(monkeypatch):
    monkeypatch.setattr(_small_network, "fit_link", lambda *data: (None, -1.0))
    x = drawn(200, 2)
    _, words = grown(x, np.exp(2 * x.sum(1)))
    assert "link" not in words
