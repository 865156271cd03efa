"""`discover` on columns and targets far from zero, of any size, and nearly constant."""

import numpy as np
import pytest
import sympy

import kanlens
from kanlens.discovery._scaling import Scale

X1, X2 = sympy.symbols("x1 x2")


def found_in(x, y, *, time_limit=10.0):
    return kanlens.discover(x, y, time_limit=time_limit, progress=False)


def uniform(count=200, width=2, low=1.0, high=4.0, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (count, width))


def test_an_offset_with_decimals_keeps_them():
    x = uniform()
    found = found_in(x, 1e9 + 0.125 + x[:, 0] * x[:, 1]).sympy()
    assert found - X1 * X2 == sympy.Float(1e9 + 0.125)


@pytest.mark.slow  # searches formulas
def test_a_target_that_varies_by_a_few_hundred_steps_of_rounding_is_no_constant():
    x = uniform()
    found = found_in(x, 1 + 1e-13 * x[:, 0], time_limit=1.0)
    assert found.receipt.r2 > 0.9999


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_units_of_any_size_go_with_an_offset(scale):
    x = uniform()
    found = found_in(x, scale * (5000 + x[:, 0] * x[:, 1])).sympy()
    values = sympy.lambdify((X1, X2), found)(*x.T)
    np.testing.assert_allclose(values / scale - 5000, x[:, 0] * x[:, 1], atol=1e-10)


@pytest.mark.parametrize("value", [0.1, 1e15 + 1, -1e100])
def test_a_constant_up_to_its_rounding_is_that_constant(value):
    y = np.full(40, float(value))
    y[::3] = np.nextafter(y[0], np.inf)
    found = found_in(uniform(40), y)
    assert abs(float(found.sympy()) - value) <= np.spacing(abs(value))
    assert float(found_in(uniform(40), np.full(40, value)).sympy()) == value


def test_a_constant_over_columns_that_say_nothing_is_the_mean():
    y = 1e15 + np.arange(20.0)
    assert float(found_in(np.ones((20, 1)), y).sympy()) == pytest.approx(1e15 + 9.5, abs=0.5)


@pytest.mark.slow  # searches formulas
def test_timestamps_are_moved_to_a_round_number():
    start = 1.7e9 + np.random.default_rng(0).uniform(0, 3 * 86400, 300)
    wave = np.sin(2 * np.pi * (start - 1.7e9) / 86400)
    found = found_in(start, wave)
    np.testing.assert_allclose(found.predict(start[:, None])[:, 0], wave, atol=1e-8)


def test_scales_are_round_numbers():
    values = 1234567.0 + np.linspace(-3, 3, 50)
    assert Scale.of(values).shift == 1234570
    assert Scale.of(values * 1e-20).shift == sympy.Rational(123457, 10**19)
    assert not Scale.of(np.linspace(0.0, 4.0, 9)).moved
    with_outlier = np.append(values, 1e12)
    assert Scale.of(with_outlier).shift == 1234570
