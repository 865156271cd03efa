"""Tests of products of a function of one column and a function of a combination."""

import numpy as np
import pytest
import sympy

from kanlens.discovery.bilinear import NullVector, ProductWithCombination
from kanlens.discovery.blocks import arguments
from kanlens.discovery.front import Front
from kanlens.discovery.problems import SearchProblem
from kanlens.discovery.settings import EXACT, PRODUCTS
from kanlens.long_work import Deadline

A, B = NAMES = sympy.symbols("a b", real=True)


def problem(formula, *, count=600):
    x = np.random.default_rng(0).uniform(1.0, 4.0, (count, 2))
    y = sympy.lambdify(NAMES, formula, "numpy")(*x.T)
    return SearchProblem(x, NAMES, y, np.arange(count) % 3 == 0)


def best_error(given):
    front = Front(given, Deadline.after(600.0))
    front.start()
    ProductWithCombination().offer(given, front)
    return front.best_error


@pytest.mark.parametrize(
    "formula",
    [
        sympy.sin(A * B / 2) ** 2 / sympy.sin(A / 2) ** 2,
        sympy.exp(-A) * sympy.cos(2 * A * B),
        sympy.log(A / B + 1) * (1 + B**2),
    ],
)
def test_a_product_is_found(formula):
    assert best_error(problem(formula)) <= EXACT


def test_the_null_vector_has_the_function_of_the_column():
    given = problem(sympy.exp(-A) * sympy.cos(2 * A * B))
    product = next(each for each in arguments(given) if each.name == A * B)
    found = NullVector.of(given, product, 0)
    a = given.columns[:, 0]
    ratio = found.curve / np.exp(np.linspace(a.min(), a.max(), len(found.curve)))
    assert found.size < PRODUCTS.error
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, atol=0.05)  # the ends are known least
    assert NullVector.of(given, product, 1).size > 10 * found.size


def test_what_is_no_product_is_not_taken_for_one():
    assert best_error(problem(sympy.sin(3 * A * B + sympy.exp(B)) + A)) > 1e-3


@pytest.mark.parametrize("count", [3, 5, 12])
def test_few_rows_do_no_harm(count):
    assert np.isfinite(best_error(problem(A * sympy.sin(B), count=count)))
