"""Rational functions: values, derivatives, limits and extremes, by their definition and by rows."""

from dataclasses import replace

import numpy as np
import pytest
import sympy
import torch

from kanlens.errors import InvalidValueError
from kanlens.functions._catalog import find_function
from kanlens.functions._families import rational_name


def drawn(even, seed=0):
    draw = np.random.default_rng(seed)
    top, bottom = draw.normal(size=6), draw.normal(size=5)
    return top, np.abs(bottom) * (np.arange(5) > 0) if even else bottom


@pytest.mark.slow  # takes a while
@pytest.mark.parametrize("even", [True, False])
def test_it_is_what_its_name_says(even):
    top, bottom = drawn(even)
    name = rational_name(top, bottom, even=even)
    found = find_function(name)
    assert found.name == name
    u = torch.linspace(-3, 3, 601, dtype=torch.float64) + 1e-4
    v = u.abs() if even else u
    below = 1 + sum(c * v**k for k, c in enumerate(bottom)).abs()
    expected = sum(c * u**k for k, c in enumerate(top)) / below
    torch.testing.assert_close(found.value(u), expected, rtol=1e-12, atol=1e-12)
    x = sympy.Symbol("x", real=True)
    written = sympy.lambdify(x, found.expression(x))(u.numpy())
    np.testing.assert_allclose(written, expected, rtol=1e-12, atol=1e-12)
    for n in range(5):
        slopes = replace(found, closed_form=None).nth(u.numpy(), n)
        np.testing.assert_allclose(
            found.nth(u.numpy(), n), slopes, atol=1e-12 * np.abs(slopes).max()
        )
    near, far = found.nth([-1e7, 1e7], 1), found.nth([-np.inf, np.inf], 1)
    np.testing.assert_allclose(near, far, rtol=1e-5)
    assert np.isinf(found.nth(np.inf, 0))


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.slow  # many cases
def test_extremes_hold_all_values_and_are_close(even, n):
    for seed in range(5):
        top, bottom = drawn(even, seed)
        found = find_function(rational_name(top, bottom, even=even))
        ends = np.sort(np.random.default_rng(seed).uniform(-3, 3, (4, 2)), 1)
        for low, high in torch.tensor(ends):
            values = found.nth(np.linspace(low.item(), high.item(), 4001), n)
            size = np.abs(values).max()
            least, most = found.extremes(low, high, n)
            assert least <= values.min() + 1e-9 * size
            assert most >= values.max() - 1e-9 * size
            assert (most - least) - np.ptp(values) < 0.2 * size


@pytest.mark.parametrize("name", ["rational(1;x)", "rational(1)", f"rational({'1,' * 20}1;1)"])
def test_other_names_are_refused(name):
    with pytest.raises(InvalidValueError, match=r"^find_function: expected function to be one of"):
        find_function(name)
