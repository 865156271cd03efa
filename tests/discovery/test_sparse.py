"""Short sums of blocks, and curves that are products."""

import numpy as np
import pytest
import sympy

from kanlens.discovery._ansatz import CURVE, multipliers
from kanlens.discovery._blocks import SumOfBlocks
from kanlens.discovery._curve_fitting import U
from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._settings import EXACT
from tests.discovery.conftest import NAMES, problem, solved


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("sqrt(7*a*b/3 + c**2/d**2)", 4),
        ("b*sin(c)**2/a - a*b", 3),
        ("a*c/(c + a*(1 - cos(b)))", 3),
    ],
)
def test_short_sums_are_found_exactly(text, width):
    assert solved(SumOfBlocks(), problem(text, width, high=3.0, count=120)).error <= EXACT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "low"),
    [("exp(-a/4)*cos(5*a/2 + 1)", 0.0), ("1/(1 + cos(a)/3)**2", -6.0)],
)
def test_products_of_two_functions_of_one_column_are_found(text, low):
    assert solved(CURVE, problem(text, 1, low=low, high=6.0, count=120)).error <= 1e-20


@pytest.mark.slow  # searches formulas
def test_a_factor_is_found_where_long_sums_of_powers_follow_the_curve_as_well():
    x = np.random.default_rng(3).uniform(1.0, 5.0, (200, 4))
    a = x[:, 0] * x[:, 1] / (x[:, 2] * x[:, 3])
    given = SearchProblem(a[:, None], NAMES[:1], a / np.expm1(a / 6), np.arange(200) % 3 == 0)
    assert solved(CURVE, given).error <= EXACT


def test_multipliers_are_what_their_expressions_say():
    x = np.linspace(0.5, 6.0, 50)
    for factor, expression in multipliers(x):
        values = sympy.lambdify(U, expression, "numpy")(x)
        np.testing.assert_allclose(values, factor, rtol=1e-12)
