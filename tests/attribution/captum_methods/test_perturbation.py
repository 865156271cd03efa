"""Ablation, occlusion and permutation against loops."""

import dataclasses
import itertools

import pytest
import torch
from torch.testing import assert_close

from kanlens.attribution import METHODS, attribute
from kanlens.errors import InvalidValueError, MethodError
from kanlens.model._network import KAN

captum_feature_permutation = METHODS["captum_feature_permutation"].function
captum_occlusion = METHODS["captum_occlusion"].function


@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_a_feature_gets_the_mean_of_its_windows(window, problem):
    given = problem([5, (2, 1), 2])
    expected = torch.zeros_like(given.x)
    for i in range(5):
        lost = []
        for start in range(5 - window + 1):
            if start <= i < start + window:
                without = given.x.clone()
                without[:, start : start + window] = given.mean_row[:, start : start + window]
                lost.append(given.output(given.x) - given.output(without))
        expected[:, i] = torch.stack(lost).mean(0)
    found = captum_occlusion(given, window=window)
    torch.testing.assert_close(found.values, expected, rtol=1e-12, atol=1e-14)
    assert found.evaluations == 1 + 5 - window + 1


def test_a_window_wider_than_the_table_is_refused(problem):
    with pytest.raises(InvalidValueError, match="to be at most 3, the number of features, got 4"):
        captum_occlusion(problem([3, 1]), window=4)


@pytest.mark.slow  # takes a while
def test_permutation_is_the_mean_over_all_shuffles_that_move_something(problem):
    given = problem([3, 4, 1], batch=3)
    expected = torch.zeros_like(given.x)
    orders = [order for order in itertools.permutations(range(3)) if order != (0, 1, 2)]
    for order in orders:
        for i in range(3):
            mixed = given.x.clone()
            mixed[:, i] = given.x[list(order), i]
            expected[:, i] += (given.output(given.x) - given.output(mixed)) / len(orders)
    found = captum_feature_permutation(given, n_samples=400)
    far = (found.values - expected).abs()
    assert bool((far <= 6 * found.standard_error + 1e-12).all())
    assert 0 < float(found.standard_error.max()) < 0.1 * float(expected.abs().max())
    assert found.reference == pytest.approx(float(given.output(given.x).mean()), rel=1e-14)
    assert found.baseline == "mean output over the samples, whose values replace each other"


def test_one_sample_has_nothing_to_change_places_with(problem):
    with pytest.raises(MethodError, match="of x for method 'captum_feature_permutation', got 1"):
        captum_feature_permutation(problem([2, 1], batch=1))


def test_permutation_of_many_samples_in_parts(problem, monkeypatch):
    given = problem([3, 2, 1], batch=40)
    whole = captum_feature_permutation(given)
    monkeypatch.setattr("kanlens.model._analysis.BUDGET", 500)
    again = dataclasses.replace(given, generator=torch.Generator().manual_seed(3))
    parts = captum_feature_permutation(again)
    torch.testing.assert_close(parts.values, whole.values, rtol=1e-12, atol=1e-14)


def test_shuffles_are_averaged_in_float64():
    model = KAN([2, 1], generator=torch.Generator().manual_seed(0)).double()
    x = torch.tensor([[0.0, 0.3], [1.0, 0.3]], dtype=torch.float64).repeat(8, 1)
    step = float((model(x[1:2]) - model(x[:1])).detach())  # what the first feature can change
    found = attribute(model, x, method="captum_feature_permutation", n_samples=15)
    times = 15 * found.values[:, 0] / step
    assert_close(times, times.round(), rtol=0.0, atol=1e-10)
    assert times.abs().max() > 1
