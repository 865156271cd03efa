"""Tests of what slopes show: few monomials, or a sum of functions; and that others have none."""

import numpy as np
import pytest
import sympy

from kanlens.discovery.additive import functions_of_sum
from kanlens.discovery.ansatz import offer_all
from kanlens.discovery.front import Front
from kanlens.discovery.invariance import (
    Slopes,
    error_of_y,
    few_monomials,
    inverted,
    sum_of_splines,
)
from kanlens.discovery.problems import SearchProblem, best_loo_error
from kanlens.discovery.search import search
from kanlens.discovery.settings import EXACT
from kanlens.long_work import Deadline

NAMES = sympy.symbols("a b c d f g", real=True)
A, B, C, D, F, G = NAMES


def problem(function, width, *, low=0.5, high=2.0, count=900):
    x = np.random.default_rng(0).uniform(low, high, (count, width))
    held_out = np.arange(count) % 3 == 0
    return SearchProblem(x, NAMES[:width], function(*x.T), held_out)


def fewest(given):
    """Return the columns of the reduction that smooth models tell most of."""
    made = list(few_monomials(given, Slopes.of(given)))
    return min(made, key=best_loo_error) if made else None


@pytest.mark.parametrize(
    ("function", "ratio"),
    [
        (lambda a, b: a**2 * np.sin(b), lambda a, b: 2 * np.tan(b) / a),
        (lambda a, b: np.cos(a * b), lambda a, b: b / a),
        (lambda a, b: np.exp(5 * a - 2 * b), lambda a, b: -2.5 + 0 * a),
    ],
)
def test_slopes_are_in_the_ratio_of_those_of_the_target(function, ratio):
    found = Slopes.of(problem(function, 2))
    a, b = found.columns.T
    off = found.values[:, 0] - ratio(a, b) * found.values[:, 1]
    assert np.median(np.abs(off)) < 1e-3 * np.abs(found.values).max()


@pytest.mark.parametrize(
    ("function", "width", "expected"),
    [
        (lambda a, b, c, d: np.cos(1.4 * a * b * c + d), 4, {A * B * C, D}),
        (lambda a, b, c, d: np.arctan(a / b + c * d), 4, {B / A, C * D}),
        (lambda a, b, c, d: np.exp(np.sin(a) - b) + c * d, 4, {A, B, C * D}),
    ],
)
def test_a_function_of_few_monomials_has_slopes_in_their_span(function, width, expected):
    found = fewest(problem(function, width))
    if expected is None:
        assert found is None or best_loo_error(found) > 1e-5 or found.width == 3
    else:
        assert set(found.names) == expected


def test_a_quotient_of_sums_is_a_monomial_times_a_function_of_two():
    def quotient(a, b, c, d, f, g):
        return (a * b * c + d * f) / (a * g + f**2)

    given = problem(quotient, 6, count=1000)
    found = fewest(given)
    assert found.width == 2
    assert best_loo_error(found) < best_loo_error(given)


def test_a_column_of_both_signs_is_not_divided_by_nor_has_a_root():
    given = problem(lambda a, b, c: np.sin(a * b + c), 3, low=-1.0)
    for each in few_monomials(given, Slopes.of(given)):
        powers = [p for name in each.names for p in name.as_powers_dict().values()]
        assert all(p == int(p) and p > 0 for p in powers)


@pytest.mark.parametrize(
    ("function", "width", "left"),
    [
        (lambda a, b, c, d: a * b / d / (1 + c * d), 4, 1),
        (lambda a, b, c, d: a**2 * np.exp(-b) * np.sin(c * d), 4, 2),
        (lambda a, b, c, d: (a * b + c) / (2 * c * d + b), 4, 2),
        (lambda a, b, c: np.exp(-a * b) * np.sqrt(b + a * b * c), 3, 2),
    ],
)
def test_a_monomial_times_a_function_of_few_others_is_divided_by_it(function, width, left):
    given = problem(function, width)
    found = fewest(given)
    assert found.width == left
    assert best_loo_error(found) < 1e-4
    factor = sympy.lambdify(NAMES[:width], found.rebuild(sympy.Integer(1)), "numpy")
    np.testing.assert_allclose(found.target * factor(*given.columns.T), given.target, rtol=1e-12)


def test_a_reduction_is_judged_by_its_error_in_units_of_y_and_not_by_rows_in_corners():
    x = np.random.default_rng(0).uniform((1, 3, 1, 1), (5, 10, 2, 5), (600, 4))
    a, b, c, d = x.T
    given = SearchProblem(
        x, NAMES[:4], (d - a * c / b**2) / np.sqrt(1 - (c / b) ** 2), np.arange(600) % 3 == 0
    )
    less = min(few_monomials(given, Slopes.of(given)), key=error_of_y)
    assert less.width == 2
    assert error_of_y(less) < 0.01 * error_of_y(given)
    front = Front(given, Deadline.after(600.0))
    front.start()
    search(given, front)
    assert front.best_error <= EXACT


def test_the_error_of_y_does_not_change_with_the_unit_of_the_target():
    given = problem(lambda a, b: a * np.sin(3 * b) + 4, 2)
    other = given.over(np.full(900, 7.0), sympy.Integer(7))
    assert error_of_y(other) == pytest.approx(error_of_y(given), rel=1e-6)


def test_the_only_column_is_turned_over_where_it_is_clear_of_zero():
    (turned,) = inverted(problem(lambda a: a, 1))
    assert turned.names == (1 / A,)
    assert not list(inverted(problem(lambda a: a, 1, low=-1.0)))
    assert not list(inverted(problem(lambda a, b: a, 2)))


@pytest.mark.parametrize(
    ("function", "width"),
    [
        (lambda a, b: np.cos(3 * a - 2 * b), 2),
        (lambda a, b: 1 / (1 + 1 / a + 0.5 * np.sqrt(b)), 2),
        (lambda a, b: np.sin(4 * np.log(a) - 2 * np.cos(2 * b)), 2),
        (lambda a, b, c: (np.cos(2 * a) - np.log(b + 1) + np.cos(1 / c)) ** 2, 3),
        (lambda a, b, c: np.exp(np.sin(2 * a) + b) / c, 3),
    ],
)
def test_a_function_of_a_sum_of_functions_is_followed_though_it_turns(function, width):
    given = problem(function, width)
    found = sum_of_splines(given, Slopes.of(given))
    assert found.error < 1e-7
    assert len(found.coefficients) == width


@pytest.mark.parametrize(
    "function",
    [lambda a, b: np.tanh(a / 3 + np.log(b)), lambda a, b: np.sin(3 * np.cos(2 * a) - b**2)],
)
def test_a_function_of_a_sum_of_functions_is_written(function):
    given = problem(function, 2, count=300)
    front = Front(given, Deadline.after(600.0))
    front.start()
    found = sum_of_splines(given, Slopes.of(given))
    offer_all(functions_of_sum(given, found, front), front)
    assert front.best_error <= EXACT


def test_what_is_no_function_of_a_sum_of_functions_is_not_followed():
    given = problem(lambda a, b: np.sin(a * b) + a, 2)
    assert sum_of_splines(given, Slopes.of(given)).error > 1e-5


@pytest.mark.parametrize("count", [2, 4, 7])
def test_a_few_rows_tell_nothing_and_do_no_harm(count):
    given = problem(lambda *x: np.sin(x[0] * x[1]) + x[2] * x[3], 6, count=count)
    slopes = Slopes.of(given)
    assert all(each.width < 6 for each in few_monomials(given, slopes))


def test_slopes_that_are_not_finite_show_nothing():
    given = problem(lambda a, b: a * b, 2, count=50)
    lost = Slopes(given.columns, np.full((50, 2), np.nan), np.ones(50))
    assert not list(few_monomials(given, lost))
