"""Tests of products of a function of one column and a function of a combination."""

import numpy as np
import pytest

from kanlens.discovery._additive import ProductWithCombination, null_vector
from kanlens.discovery._blocks import arguments
from kanlens.discovery._settings import EXACT, PRODUCTS
from tests.discovery.conftest import NAMES, problem, solved

A, B, *_ = NAMES


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("text", ["exp(-a)*cos(2*a*b)", "sin(a*b/2)**2/sin(a/2)**2"])
def test_a_product_is_found(text):
    assert solved(ProductWithCombination(), problem(text, count=600)).error <= EXACT


def test_the_null_vector_has_the_function_of_the_column():
    given = problem("exp(-a)*cos(2*a*b)", count=600)
    product = next(each for each in arguments(given) if each.name == A * B)
    size, curve = null_vector(given, product, 0)
    a = given.columns[:, 0]
    ratio = curve / np.exp(np.linspace(a.min(), a.max(), len(curve)))
    assert size < PRODUCTS.error
    np.testing.assert_allclose(ratio / ratio.mean(), 1.0, atol=0.05)  # the ends are known least
    assert null_vector(given, product, 1)[0] > 10 * size
