"""What the search does when y is noisy: it tells noise from structure, stops, and stays short."""

import numpy as np
import pytest
import sympy

from kanlens.discovery._monomials import MonomialSum
from kanlens.discovery._search_problem import SearchProblem, transformed
from kanlens.discovery._smoothness import is_noise
from kanlens.symbolic._rewriting import thinner
from tests.discovery.conftest import NAMES, front_of, problem

A, B, C, *_ = NAMES


def noisy(text, width=2, *, noise=0.01, count=600, **options):
    return problem(text, width, noise=noise, count=count, **options)


def test_noise_is_told_from_structure():
    draw = np.random.default_rng(0)
    x = draw.uniform(-3, 3, (600, 2))
    made, noise = 10 * x[:, 0], draw.normal(size=600)
    assert is_noise(x, made, made + noise)
    assert not is_noise(x, made, made + noise + x[:, 0] * x[:, 1])
    assert not is_noise(x, made, made + 2 * np.sin(x[:, 0]) * np.cos(x[:, 1]))
    assert not is_noise(x, made, made + np.sin(7 * x[:, 0]))


def test_what_cannot_be_told_is_not_called_noise():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(20, 2))
    assert not is_noise(x, x[:, 0], x[:, 0] + 0.01 * draw.normal(size=20))
    x = draw.normal(size=(600, 2))
    assert not is_noise(x, np.zeros(600), draw.normal(size=600))  # a formula that says nothing


@pytest.mark.parametrize("count, line_is_chosen", [(6, True), (20, False), (200, False)])
def test_a_line_is_no_candidate_where_a_curve_leaves_far_less(count, line_is_chosen):
    given = noisy("log((1 + a)*(1 + a**2))", 1, noise=0.002, count=count, low=0.0, high=2.0)
    front = front_of(given)
    for formula in (1.4 * A, 3.6 - 144 / (sympy.exp(A) + 5.3) ** 2):
        front.submit(formula)
    _, line, curve = sorted(front.entries, key=lambda e: e.complexity)
    assert (front._cost(line) < front._cost(curve)) == (count < 40)
    assert front.chosen() is (line if line_is_chosen else curve)


def test_thinner_formulas_leave_out_one_part():
    found = thinner(2.5 * sympy.sqrt(1 - A**2 / B**2) + abs(C))
    assert sympy.sqrt(1 - A**2 / B**2) + abs(C) in found
    assert 2.5 * sympy.sqrt(1 - A**2 / B**2) + C in found
    assert abs(C) in found
    assert all(e.free_symbols for e in found)


def test_a_formula_under_noise_loses_what_it_does_not_need():
    given = noisy("a/(a + b)")
    front = front_of(given)
    front.submit(1.001 * A / (A + B + 0.01) - 0.002)
    assert front.chosen().expression == A / (A + B)


def test_the_search_ends_when_only_noise_is_left():
    given = noisy("a*b**2")
    front = front_of(given)
    front.submit(2.0 * A * B)
    assert not front.done
    front.submit(1.01 * A * B**2)
    assert front.converged
    assert front.done


def test_numbers_make_the_search_wait_for_a_better_formula():
    front = front_of(noisy("1.2345*a*b**2 + 0.777*a", noise=0.001))
    front.submit(1.2 * A * B**2 + 0.8 * A)
    assert not front.converged
    assert np.isfinite(front._enough)


def test_fractions_found_in_noise_have_their_price():
    front = front_of(noisy("a*b"))
    entries = [front._entry(A ** sympy.Rational(*p) * B) for p in ((11, 5), (2, 1))]
    prices = [front._cost(e) - 600 * np.log(e.overall) for e in entries]
    assert prices[0] > prices[1] + 2


def test_errors_of_a_function_of_the_target_weigh_as_those_of_y():
    """1/y**2 is large where y is small and its noise counts most: fitted evenly it misleads."""
    given = noisy("1/sqrt((a**2 - b**2)**2 + (c*a)**2)", 3, low=0.5)
    front = front_of(given)
    MonomialSum().submit(given, front)
    front.refit()
    assert front.chosen().expression.has(A**2 * C**2)
    steep = dict(transformed(given, ("invsq",)))["invsq"]
    expected = np.abs(given.target) ** 3 / 2
    np.testing.assert_allclose(steep.slope, expected, rtol=1e-6)
    np.testing.assert_allclose(
        steep.weights, np.maximum(expected / expected.max(), 1e-4), rtol=1e-6
    )
    assert given.weights is None
    halved = given.over(np.full(len(given.target), 2.0), sympy.Integer(2))
    assert halved.weights is None
    twice = dict(transformed(halved, ("invsq",)))["invsq"]
    np.testing.assert_allclose(twice.slope, expected / 4, rtol=1e-6)


def test_a_function_that_hardly_varies_is_left_out():
    """cos(1/c) is 1 to seven digits where c is hundreds."""
    draw = np.random.default_rng(0)
    x = draw.uniform(1, 4, (600, 3)) * (1.0, 1.0, 100.0)
    y = x[:, 0] * (1 - np.exp(-x[:, 1])) + 0.01 * draw.normal(size=600)
    front = front_of(SearchProblem(x, (A, B, C), y, np.arange(600) % 3 == 0))
    front.submit(A * (sympy.cos(1 / C) - sympy.exp(-B)))
    assert sympy.expand(front.chosen().expression - A * (1 - sympy.exp(-B))) == 0
    assert sympy.Integer(1) + A in thinner(sympy.cos(B) + A)


def test_more_columns_than_rows_tell_nothing_and_take_no_time():
    x = np.random.default_rng(0).normal(size=(200, 400))
    assert not is_noise(x, x[:, 0], x[:, 1])  # 11 million products of three
