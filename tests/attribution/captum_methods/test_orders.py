"""Shapley values from orders, and what keeps them from captum's float32."""

import dataclasses
from fractions import Fraction

import pytest
import torch

from kanlens.attribution import METHODS, attribute
from kanlens.attribution.captum_methods._perturbation import Unrounded
from kanlens.errors import MethodError
from tests.attribution import oracles

captum_shapley_value_sampling = METHODS["captum_shapley_value_sampling"].function
captum_shapley_values = METHODS["captum_shapley_values"].function


def test_a_total_in_float32_becomes_float64():
    values = torch.rand(720, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = float(sum((Fraction(v) for v in values.tolist()), Fraction()) / 720)
    lost, total = torch.zeros(()), torch.zeros(())
    for value in values:
        lost += value
        total += value.as_subclass(Unrounded)
    assert type(total) is torch.Tensor
    assert abs(float(lost / 720) - exact) > 1e-9
    assert abs(float(total / 720) - exact) < 1e-14


@pytest.mark.parametrize("widths", [[3, 2], [4, 3, 1], [3, (1, [2, 3]), 2], [5, 2, 2, 1]])
def test_all_orders_are_the_exact_values(widths, problem):
    given = problem(widths)
    found = captum_shapley_values(given)
    expected = oracles.shapley_of_the_mean(given.model, given.x, given.background, given.target)
    torch.testing.assert_close(found.values, expected, rtol=1e-11, atol=1e-13)
    gap = given.output(given.x) - found.reference - found.values.sum(1)
    assert float(gap.abs().max()) < 1e-13


@pytest.mark.parametrize("size", [1e9, 1e-9])
def test_units_cost_no_digits(size, problem):
    given = problem([4, 3, 1])
    plain = captum_shapley_values(given).values
    given.model.output_scale *= size
    given.model.output_shift *= size
    scaled = captum_shapley_values(given).values
    torch.testing.assert_close(scaled / size, plain, rtol=1e-8, atol=1e-13)


@pytest.mark.slow  # takes a while
def test_only_features_with_a_path_are_ordered(network, draw):
    model, x, rows = network([20, 2, 1]), draw(3, 20), draw(3, 20, seed=2)
    model.layers[0].mask[:, 6:] = 0
    found = attribute(model, x, method="captum_shapley_values", background=rows)
    exact = attribute(model, x, background=rows.mean(0, keepdim=True))
    torch.testing.assert_close(found.values, exact.values, rtol=1e-10, atol=1e-13)
    assert found.remark == "all 720 orders of the features with a path to the output"


def test_too_many_orders_are_refused(network, draw):
    with pytest.raises(MethodError, match="which evaluates all their orders, got 9"):
        attribute(
            network([9, 1]), draw(2, 9), method="captum_shapley_values", background=draw(2, 9)
        )


@pytest.mark.slow  # every method on many layers
def test_every_coalition_is_evaluated_once(network, draw, monkeypatch):
    """Captum on its own goes through the network for each of 120 orders."""
    model, x, rows, seen = network([5, 5, 1]), draw(2, 5), draw(5, 5, seed=2), []
    forward = type(model.layers[0]).forward

    def counted(layer, x):
        seen.append(len(x))
        return forward(layer, x)

    monkeypatch.setattr(type(model.layers[0]), "forward", counted)
    found = attribute(model, x, method="captum_shapley_values", background=rows)
    assert found.evaluations == 2**5
    assert 2 * 2 * 2**5 <= sum(seen) < 2 * (2 * 2**5 + 20)  # of two samples by two layers


# --- random orders ------------------------------------------------------------------------------


def test_sampling_is_as_close_to_the_exact_values_as_it_says(network, draw):
    model, x, rows = network([3, 3, 1]), draw(3, 3), draw(5, 3, seed=2)
    exact = attribute(model, x, background=rows.mean(0, keepdim=True))
    g = torch.Generator().manual_seed(0)
    found = attribute(
        model, x, method="captum_shapley_value_sampling", background=rows, generator=g
    )
    assert found.standard_error.shape == x.shape
    distance = (found.values - exact.values).abs()
    assert bool((distance <= 5 * found.standard_error + 1e-12).all())
    assert 0 < float(found.standard_error.max()) < 0.3 * float(exact.values.abs().max())
    torch.testing.assert_close(found.reference, exact.reference)


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("n_samples", [5, 100, 700])
def test_sampling_is_complete_to_rounding(n_samples, problem):
    given = problem([4, 3, 1], batch=6)
    found = captum_shapley_value_sampling(given, n_samples=n_samples)
    gap = given.output(given.x) - found.reference - found.values.sum(1)
    assert float(gap.abs().max()) < 1e-13


@pytest.mark.slow  # takes a while
def test_outputs_farther_away_than_the_samples_are_noticed(problem):
    """Between x and the mean the output may be far from both: the totals must hold that too."""
    given = problem([2, 2, 1], batch=1)
    given = dataclasses.replace(given, x=given.mean_row + 1e-7)
    far = captum_shapley_value_sampling(given, n_samples=5)
    change = float(given.output(given.x)) - far.reference
    assert float(far.values.sum()) == pytest.approx(change, rel=1e-7)
    rows = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
    crossing = problem([2, (0, [2])], batch=1)
    crossing = dataclasses.replace(crossing, rows=rows, x=-rows)
    found = captum_shapley_value_sampling(crossing, n_samples=400)
    exact = oracles.shapley_of_the_mean(crossing.model, crossing.x, rows, 0)
    close = (found.values - exact).abs() <= 5 * found.standard_error + 1e-12
    assert bool(close.all())
