"""Every metric against a slow version written from its definition."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch.testing import assert_close

from kanlens.attribution.metrics import (
    METRICS,
    area_over,
    infidelity,
    max_sensitivity,
    parameter_randomization,
    prediction_gap,
    removal_curve,
    spearman,
    subset_correlation,
)
from kanlens.attribution.metrics._evaluation import subsets, without
from kanlens.attribution.metrics._quality import cleaned, over_counts, ratio, removal_masks, top
from tests.attribution.metrics import cases

X, ROWS, A = cases.draw(4, 5), cases.draw(3, 5, seed=2), cases.draw(4, 5, seed=3)
MASKS = torch.tensor(list(itertools.product([False, True], repeat=5)))[1:]


def curved(x):
    return x[:, 0] * x[:, 1] + x[:, 2].sin() + x[:, 3] ** 2 - x[:, 4]


def removed(b, members):
    """Mean output over the rows with some features of a sample replaced."""
    total = 0.0
    for row in ROWS:
        mixed = X[b].clone()
        for i in members:
            mixed[i] = row[i]
        total += float(curved(mixed[None])[0]) / len(ROWS)
    return total


def members(mask):
    return [i for i in range(5) if mask[i]]


def changes(b):
    return [float(curved(X[b][None])[0]) - removed(b, members(mask)) for mask in MASKS]


def sums(b):
    return [sum(float(A[b, i]) for i in members(mask)) for mask in MASKS]


def close(found, expected):
    expected = torch.tensor(expected, dtype=found.dtype)
    assert_close(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_removal():
    expected = [[removed(b, members(mask)) for mask in MASKS] for b in range(4)]
    close(without(curved, X, MASKS, ROWS), expected)


def test_removal_in_parts(monkeypatch):
    whole = without(curved, X, MASKS, ROWS)
    for budget in (1, 16 * 5 * 31, 16 * 5 * 31 * 2, 16 * 5 * 31 * 7):
        monkeypatch.setattr("kanlens.attribution.metrics._evaluation.BUDGET", budget)
        assert_close(without(curved, X, MASKS, ROWS), whole, rtol=1e-13, atol=1e-13)


def test_subset_correlation():
    expected = [pearsonr(sums(b), changes(b)).statistic for b in range(4)]
    close(subset_correlation(curved, X, A, MASKS, ROWS), expected)


def test_infidelity():
    expected = [((np.array(sums(b)) - np.array(changes(b))) ** 2).mean() for b in range(4)]
    close(infidelity(curved, X, A, MASKS, ROWS), expected)


@pytest.mark.parametrize("important", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_prediction_gap(important, share):
    moved = X + 0.3 * cases.draw(7, 4, 5, seed=4)

    def gap(b, k):
        chosen = sorted(range(5), key=lambda i: -abs(float(A[b, i])))[:k]
        if not important:
            chosen = [i for i in range(5) if i not in chosen]
        total = 0.0
        for point in moved[:, b]:
            mixed = X[b].clone()
            mixed[chosen] = point[chosen]
            total += abs(float(curved(mixed[None])[0] - curved(X[b][None])[0])) / 7
        return total

    expected = []
    for b in range(4):
        curve = [gap(b, k) for k in (1, 2, 3)]
        expected.append(np.trapezoid(curve, [0, 0.5, 1]) if share == 0.6 else curve[0])
    close(prediction_gap(curved, X, A, moved, share=share, important=important), expected)


@pytest.mark.parametrize("insert", [False, True])
def test_curves(insert):
    order = A.argsort(1)
    expected = []
    for b in range(4):
        first = [order[b, :k].tolist() for k in range(6)]
        gone = [[i for i in range(5) if i not in part] for part in first] if insert else first
        expected.append([removed(b, part) for part in gone])
    curve = removal_curve(curved, X, order, ROWS, insert=insert)
    close(curve, expected)
    place = np.linspace(0, 1, 6)
    lines = [row[0] + (row[-1] - row[0]) * place for row in expected]
    areas = [np.trapezoid(row - line, place) for row, line in zip(expected, lines, strict=True)]
    close(area_over(curve), areas)


def test_max_sensitivity():
    def method(x):
        return torch.stack([x[:, 0] ** 2, x[:, 1] * x[:, 2], x[:, 1]], 1)

    x = X[:, :3]
    moved = x + 0.1 * cases.draw(6, 4, 3, seed=5)
    expected = []
    for b in range(4):
        here = method(x[b : b + 1])[0]
        far = max(math.dist(here, method(point[b : b + 1])[0]) for point in moved)
        expected.append(far / math.hypot(*here))
    close(max_sensitivity(method, x, method(x), moved), expected)


def test_randomization_starts_with_the_last_layer(network):
    model = network([3, 4, 2, 1])
    seen = []

    def method_on(other, x):
        seen.append(
            [
                bool((ours.spline_weight == theirs.spline_weight).all())
                for ours, theirs in zip(model.layers, other.layers, strict=True)
            ]
        )
        return x

    x = cases.draw(2, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = parameter_randomization(method_on, model, x, x, torch.Generator().manual_seed(0))
    assert seen == [[True, True, False], [True, False, False], [False, False, False]]
    assert found.shape == (3, 2)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_subsets_are_all_or_random():
    assert len(subsets(5, 2, 10, torch.Generator()).unique(dim=0)) == 10
    found = subsets(9, 4, 50, torch.Generator())
    assert found.shape == (50, 9)
    assert bool((found.sum(1) == 4).all())
    assert len(found.unique(dim=0)) > 25


def test_faithfulness_correlation_meets_its_definition():
    judged = cases.case(A, X, ROWS, output=curved)
    masks = MASKS[MASKS.sum(1) == 2]  # half of five
    expected = subset_correlation(curved, X, A, masks, ROWS)
    assert_close(METRICS["faithfulness_correlation"].function(judged).rows, expected)


def test_exact_values_are_compared_sample_by_sample():
    judged = cases.case(A, X, ROWS, exact=cases.attribution(X))
    others = dataclasses.replace(judged.exact, features=("a", "b", "c", "d", "e"))
    expected = {
        "shapley_rank": spearman(A, X),
        "shapley_error": (A - X).abs().sum(1) / X.abs().sum(1),
    }
    for name, rows in expected.items():
        assert_close(METRICS[name].function(judged).rows, rows)
        of_others = dataclasses.replace(judged, exact=others)
        assert math.isnan(METRICS[name].function(of_others).value)


def test_moves_are_in_units_of_the_data():
    x = 7.0 * cases.draw(100, 1)
    width, deviation = float(x.max() - x.min()), float(x.std(correction=0))

    def output(points):
        seen.append(points)
        return points[:, 0]

    judged, seen = cases.case(x, x, output=output, method=lambda points: points), []
    mean = 0.1 * width * math.sqrt(2 / math.pi)  # of |a normal number|
    assert METRICS["pgi"].function(judged).value == pytest.approx(mean, rel=0.02)
    furthest = METRICS["max_sensitivity"].function(judged).rows * x[:, 0].abs()
    assert 0.095 * deviation < float(furthest.max()) <= 0.1 * deviation + 1e-12
    moves = seen[-1].reshape(-1, *x.shape) - x
    assert float(moves.std()) == pytest.approx(0.1 * deviation / math.sqrt(3), rel=0.05)


def test_random_subsets_hold_something():
    x = cases.draw(2, 6)
    masks = removal_masks(cases.case(x, x), x)
    assert masks.shape == (50, 6)
    assert bool(masks.any(1).all())
    assert 0.4 < float(masks.double().mean()) < 0.6
    few = removal_masks(cases.case(x[:, :3], x[:, :3]), x[:, :3])
    assert len(few.unique(dim=0)) == len(few) == 7


def test_rounding_next_to_the_largest_value_counts_as_zero():
    found = cleaned(torch.tensor([[1.0, 1e-17], [1e-17, 1e-18]], dtype=torch.float64))
    assert found.tolist() == [[1.0, 0.0], [1e-17, 1e-18]]


def test_of_equal_sizes_the_first_is_on_top():
    values = torch.tensor([[1.0, -3.0, 1.0, 2.0]])
    assert top(values, 3).tolist() == [[True, True, False, True]]


def test_nothing_of_nothing_is_zero_and_something_infinite():
    found = ratio(torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 2.0]))
    assert found.tolist() == [0.0, float("inf"), 0.5]


def test_the_area_is_that_under_straight_lines_between_counts():
    one, two, three = (torch.tensor([number]) for number in (0.0, 1.0, 4.0))
    assert_close(over_counts([one, two, three]), torch.tensor([1.5]))
    assert_close(over_counts([two]), two)
