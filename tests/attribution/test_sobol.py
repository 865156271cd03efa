"""Sobol indices against closed forms."""

import itertools

import numpy as np
import pytest
import torch

from kanlens.attribution._direct_methods import sobol_first, sobol_total
from kanlens.model._network import KAN
from tests.attribution.conftest import problem_of


def problem(model, rows, seed=0):
    return problem_of(model, rows[:1], rows, seed=seed)


def exact(model, rows):
    """First-order and total indices by the full grid of the background's values."""
    n, d = rows.shape
    grid = torch.stack(torch.meshgrid(*rows.mT, indexing="ij"), -1)
    values = model(grid.reshape(-1, d))[:, 0].detach().reshape([n] * d)
    whole = values.var(correction=0)
    first, total = [], []
    for i in range(d):
        rest = [k for k in range(d) if k != i]
        first.append(values.mean(rest).var(correction=0) / whole)
        total.append(values.var(i, correction=0).mean() / whole)
    return torch.stack(first), torch.stack(total)


def test_a_sum_is_exact(network, draw):
    model, rows = network([3, 1]), draw(6, 3)
    first, total = exact(model, rows)
    torch.testing.assert_close(sobol_first(problem(model, rows)).values, first)
    torch.testing.assert_close(sobol_total(problem(model, rows)).values, total)
    assert sobol_first(problem(model, rows)).low is None


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("widths", [[3, 4, 1], [3, (0, 1)], [3, 3, 2, 1]])
def test_intervals_hold_the_truth(network, draw, widths):
    model, rows = network(widths), draw(5, 3)
    inside = count = 0
    for seed, (share, truth) in itertools.product(
        range(4), zip((sobol_first, sobol_total), exact(model, rows), strict=True)
    ):
        found = share(problem(model, rows, seed), n_samples=500)
        torch.testing.assert_close(found.values, truth, rtol=0, atol=0.03)
        inside += int(((found.low <= truth) & (truth <= found.high)).sum())
        count += len(truth)
    assert inside >= 0.8 * count  # 95% intervals of 24 numbers


def test_a_product_of_independent_signs_has_no_first_order(draw):
    model = KAN([2, (0, 1)]).double()
    with torch.no_grad():  # the product of x1 and x2
        for layer in model.layers:
            layer.spline_weight.zero_()
            layer.base_weight.zero_()
            line = layer.grid[0, 1:-1].unfold(0, 3, 1).mean(1)  # Greville points
            layer.spline_weight[0, 0] = line / layer.spline_scaler[0, 0]
            layer.spline_weight[1, 1] = line / layer.spline_scaler[1, 1]
    rows = torch.tensor([[-0.5, 0.5], [0.5, -0.5]]).double()
    assert float(sobol_first(problem(model, rows)).values.max()) < 0.01
    torch.testing.assert_close(
        sobol_total(problem(model, rows)).values,
        torch.ones(2).double(),
        rtol=0,
        atol=0.01,
    )


def test_a_constant_output_has_no_shares(network):
    model, rows = network([2, 2, 1]), torch.zeros(3, 2).double()
    for share in (sobol_first, sobol_total):
        assert share(problem(model, rows)).values.tolist() == [0.0, 0.0]


def test_dead_features_have_exactly_nothing(network, draw):
    model, rows = network([3, 2, 1]), draw(5, 3)
    with torch.no_grad():
        model.layers[0].mask[:, 1] = 0
    found = sobol_total(problem(model, rows), n_samples=64)
    assert [float(found.values[1]), float(found.low[1]), float(found.high[1])] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("index", [sobol_first, sobol_total])
def test_a_single_feature_explains_whatever_varies(network, draw, index):
    model = network([1, 2, 1])
    assert index(problem(model, draw(6, 1))).values.tolist() == [1.0]
    assert index(problem(model, torch.zeros(3, 1).double())).values.tolist() == [0.0]


def test_any_whole_number_of_samples_will_do(network, draw):
    model, rows = network([2, 2, 1]), draw(6, 2)
    found = sobol_first(problem(model, rows), n_samples=np.int64(6)).values
    torch.testing.assert_close(found, sobol_first(problem(model, rows), n_samples=6).values)
