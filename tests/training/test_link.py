"""Links increase, and are what they are fitted to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kanlens.training._link import Link, bends, fit_link


@given(seed=st.integers(0, 200), noise=st.sampled_from([0.0, 0.3, 5.0]))
def test_a_link_increases_whatever_it_is_fitted_to(seed, noise):
    draws = np.random.default_rng(seed)
    sums = draws.normal(size=80)
    targets = sums + np.sin(3 * sums) + noise * draws.normal(size=80)
    link, slope = fit_link(sums, targets, draws.uniform(0.1, 1.0, 80))
    points = np.linspace(sums.min() - 3, sums.max() + 3, 500)
    if slope > 0:
        assert (np.diff(link(points)) > 0).all()


def test_the_exponential_is_found():
    sums = np.linspace(-2, 2, 400)
    link, _ = fit_link(sums, np.exp(sums), np.ones(400))
    assert np.abs(link(sums) - np.exp(sums)).max() < 0.05
    assert np.abs(link(sums) - sums).max() > 1


def test_rows_of_weight_zero_do_not_count():
    sums = np.linspace(-2, 2, 100)
    weights = np.ones(100)
    weights[::2] = 0.0
    targets = np.where(weights > 0, sums**3 + 3 * sums, 1e6)
    link, _ = fit_link(sums, targets, weights)
    other, _ = fit_link(sums[1::2], targets[1::2], np.ones(50))
    np.testing.assert_allclose(link(sums), other(sums), atol=1e-8)


def test_lines_slopes_and_stretching_are_exact():
    sums = np.random.default_rng(0).normal(size=50)
    line = Link.line(sums)
    np.testing.assert_allclose(line(sums), sums, atol=1e-13)
    assert line(np.array([100.0])) == pytest.approx(100.0)
    link, _ = fit_link(sums, np.exp(sums), np.ones(50))
    np.testing.assert_allclose(link.stretched(2.5)(2.5 * sums), link(sums), atol=1e-12)
    step = 1e-6
    slopes = (link(sums + step) - link(sums - step)) / (2 * step)
    np.testing.assert_allclose(link.slope(sums), slopes, atol=1e-6)
    assert bends(sums).shape == (50, 8)
