"""Short sums out of very many products, and curves that are products."""

import itertools

import numpy as np
import pytest
import sympy

from kanlens.discovery._curve_fitting import U
from kanlens.discovery._regression import grown_sums
from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._settings import EXACT
from kanlens.discovery._sparse import Products, SparseSum
from kanlens.discovery._univariate import CURVE, multipliers
from tests.discovery.conftest import NAMES, problem, solved


def test_products_are_what_their_names_say():
    given = problem("a", 3, high=3.0, count=20)
    every = Products(given)
    draw = np.random.default_rng(1)
    for k in draw.integers(0, len(every.waves), 40):
        values = sympy.lambdify(given.names, every.name(int(k), given.names), "numpy")
        expected = np.broadcast_to(values(*given.columns.T), (20,))
        np.testing.assert_allclose(every.values[:, k], expected, rtol=1e-12)


def test_columns_with_zeros_are_no_divisors():
    given = problem("a", 3, low=-1.0, high=1.0, count=20)
    assert Products(given).exponents.min() >= 0


def test_the_best_pair_and_triple_are_found():
    draw = np.random.default_rng(0)
    matrix, target = draw.normal(size=(60, 9)), draw.normal(size=60)

    def error(columns):
        part = np.column_stack((np.ones(60), matrix[:, columns]))
        rest = np.linalg.lstsq(part, target, rcond=None)[1][0]
        return float(rest / np.square(target - target.mean()).sum())

    for found, columns in grown_sums(matrix, target)[:3]:
        best = min(itertools.combinations(range(9), len(columns)), key=error)
        assert columns == best
        assert found == pytest.approx(error(best), rel=1e-9)


def test_exchange_mends_a_sum_that_grew_from_a_false_start():
    draw = np.random.default_rng(0)
    t = draw.uniform(1, 3, 200)
    powers = np.stack([t**p for p in np.linspace(0.25, 4, 60)], axis=1)
    matrix = np.column_stack((powers, np.cos(t), draw.normal(size=200)))
    error, columns = grown_sums(matrix, 2 * np.cos(t) - matrix[:, 61])[-1]
    assert columns == (60, 61)
    assert error < 1e-20


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("sqrt(7*a*b/3 + c**2/d**2)", 4),
        ("b*sin(c)**2/a - a*b", 3),
        ("a*c/(c + a*(1 - cos(b)))", 3),
    ],
)
def test_sparse_sums_are_found_exactly(text, width):
    assert solved(SparseSum(), problem(text, width, high=3.0, count=120)).error <= EXACT


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
