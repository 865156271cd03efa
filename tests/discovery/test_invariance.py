"""Tests of what slopes show: few monomials, or a sum of functions; and that others have none."""

import numpy as np
import pytest
import sympy

from kanlens.discovery._additive import functions_of_sum
from kanlens.discovery._ansatz import submit_all
from kanlens.discovery._monomial_invariance import (
    Slopes,
    error_of_y,
    few_monomials,
    sum_of_splines,
)
from kanlens.discovery._search import search
from kanlens.discovery._search_problem import SearchProblem, best_loo_error
from kanlens.discovery._settings import EXACT
from tests.discovery.conftest import NAMES, front_of
from tests.discovery.conftest import problem as uniform

A, B, C, D, *_ = NAMES


def problem(text, width, *, low=0.5, count=900):
    return uniform(text, width, low=low, high=2.0, count=count)


def fewest(given):
    """Return the columns of the reduction that smooth models tell most of."""
    made = list(few_monomials(given, Slopes.of(given)))
    return min(made, key=best_loo_error) if made else None


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("a**2*sin(b)", lambda a, b: 2 * np.tan(b) / a),
        ("cos(a*b)", lambda a, b: b / a),
        ("exp(5*a - 2*b)", lambda a, b: -2.5 + 0 * a),
    ],
)
def test_slopes_are_in_the_ratio_of_those_of_the_target(text, ratio):
    slopes = Slopes.of(problem(text, 2))
    a, b = slopes.columns.T
    off = slopes.values[:, 0] - ratio(a, b) * slopes.values[:, 1]
    assert np.median(np.abs(off)) < 1e-3 * np.abs(slopes.values).max()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cos(7*a*b*c/5 + d)", {A * B * C, D}),
        ("atan(a/b + c*d)", {B / A, C * D}),
        ("exp(sin(a) - b) + c*d", {A, B, C * D}),
    ],
)
def test_a_function_of_few_monomials_has_slopes_in_their_span(text, expected):
    assert set(fewest(problem(text, 4)).names) == expected


def test_a_column_of_both_signs_is_not_divided_by_nor_has_a_root():
    given = problem("sin(a*b + c)", 3, low=-1.0)
    for each in few_monomials(given, Slopes.of(given)):
        powers = [p for name in each.names for p in name.as_powers_dict().values()]
        assert all(p == int(p) and p > 0 for p in powers)


@pytest.mark.parametrize(
    ("text", "width", "left"),
    [
        ("a*b/d/(1 + c*d)", 4, 1),
        ("a**2*exp(-b)*sin(c*d)", 4, 2),
        ("exp(-a*b)*sqrt(b + a*b*c)", 3, 2),
        ("(a*b*c + d*f)/(a*g + f**2)", 6, 2),
    ],
)
@pytest.mark.slow  # many cases
def test_a_monomial_times_a_function_of_few_others_is_divided_by_it(text, width, left):
    given = problem(text, width)
    less = fewest(given)
    assert less.width == left
    assert best_loo_error(less) < max(1e-4, best_loo_error(given))
    factor = sympy.lambdify(NAMES[:width], less.rebuild(sympy.Integer(1)), "numpy")
    np.testing.assert_allclose(less.target * factor(*given.columns.T), given.target, rtol=1e-12)


@pytest.mark.slow  # searches formulas
def test_a_reduction_is_judged_by_its_error_in_units_of_y_and_not_by_rows_in_corners():
    x = np.random.default_rng(0).uniform((1, 3, 1, 1), (5, 10, 2, 5), (600, 4))
    a, b, c, d = x.T
    given = SearchProblem(
        x, NAMES[:4], (d - a * c / b**2) / np.sqrt(1 - (c / b) ** 2), np.arange(600) % 3 == 0
    )
    less = min(few_monomials(given, Slopes.of(given)), key=error_of_y)
    assert less.width == 2
    assert error_of_y(less) < 0.01 * error_of_y(given)
    front = front_of(given)
    search(given, front)
    front.refit()
    assert front.best_error <= EXACT


def test_the_error_of_y_does_not_change_with_the_unit_of_the_target():
    given = problem("a*sin(3*b) + 4", 2)
    other = given.over(np.full(900, 7.0), sympy.Integer(7))
    assert error_of_y(other) == pytest.approx(error_of_y(given), rel=1e-6)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("1/(1 + 1/a + sqrt(b)/2)", 2),
        ("sin(4*log(a) - 2*cos(2*b))", 2),
        ("(cos(2*a) - log(b + 1) + cos(1/c))**2", 3),
    ],
)
def test_a_function_of_a_sum_of_functions_is_followed_though_it_turns(text, width):
    given = problem(text, width)
    splines = sum_of_splines(given, Slopes.of(given))
    assert splines.error < 1e-7
    assert len(splines.coefficients) == width


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("text", ["tanh(a/3 + log(b))", "sin(3*cos(2*a) - b**2)"])
def test_a_function_of_a_sum_of_functions_is_written(text):
    given = problem(text, 2, count=300)
    front = front_of(given)
    splines = sum_of_splines(given, Slopes.of(given))
    submit_all(functions_of_sum(given, splines, front), front)
    front.refit()
    assert front.best_error <= EXACT


def test_what_is_no_function_of_a_sum_of_functions_is_not_followed():
    given = problem("sin(a*b) + a", 2)
    assert sum_of_splines(given, Slopes.of(given)).error > 1e-5


@pytest.mark.parametrize("count", [2, 7])
def test_a_few_rows_show_nothing_and_do_no_harm(count):
    given = problem("sin(a*b) + c*d", 6, count=count)
    assert all(each.width < 6 for each in few_monomials(given, Slopes.of(given)))


def test_slopes_that_are_not_finite_show_nothing():
    given = problem("a*b", 2, count=50)
    lost = Slopes(given.columns, np.full((50, 2), np.nan), np.ones(50))
    assert not list(few_monomials(given, lost))
