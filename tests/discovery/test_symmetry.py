"""Tests of symmetry and separability on written-down functions that pass and that fail them."""

import numpy as np
import pytest
import sympy

from kanlens.discovery._search_problem import SearchProblem
from kanlens.discovery._symmetry import (
    disjoint,
    effects,
    factors,
    needless,
    unions,
)

A, B, C = sympy.symbols("a b c", real=True)
ERROR = 1e-4


def columns(width=3, *, low=1.0, high=3.0, count=400, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (count, width))


def slopes(function, x, step=1e-6):
    """Return central differences of a function of the columns."""
    found = []
    for i in range(x.shape[1]):
        move = np.zeros(x.shape[1])
        move[i] = step
        found.append((function(x + move) - function(x - move)) / (2 * step))
    return np.stack(found, axis=1)


def problem(function, x):
    return SearchProblem(x, (A, B, C)[: x.shape[1]], function(x), np.arange(len(x)) % 3 == 0)


def surest(function, x, error=ERROR):
    found = unions(problem(function, x), slopes(function, x), error)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: np.sin(x[:, 0] - x[:, 1]) * x[:, 2], A - B),
        (lambda x: np.sin(x[:, 1] * x[:, 2]) + x[:, 0] ** 2, B * C),
        (lambda x: np.sqrt(x[:, 0] ** 2 + x[:, 1] ** 2) / x[:, 2], A**2 + B**2),
        (lambda x: np.log(x[:, 0] ** 2 + x[:, 1]) * x[:, 2], A**2 + B),
        (lambda x: np.cos(x[:, 0] / np.sqrt(x[:, 1])) + x[:, 2], A**-2 * B),
    ],
)
def test_columns_that_are_needed_only_together_are_found(function, name):
    x = columns()
    found = surest(function, x)
    assert found.gap < 1e-9
    assert found.name == name
    values = sympy.lambdify((A, B, C), name, "numpy")(*x.T)
    reduced = found.reduced(problem(function, x))
    assert reduced.width == 2
    np.testing.assert_allclose(reduced.columns[:, -1], values, rtol=1e-12)


def test_a_weighted_sum_gets_its_weight():
    found = surest(lambda x: np.sin(0.3 * x[:, 0] + x[:, 1]) * x[:, 2] ** 2, columns())
    assert float(found.name.coeff(A)) == pytest.approx(0.3, rel=1e-6)
    assert found.name.coeff(B) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: np.sin(x[:, 0] * x[:, 1]) + x[:, 2] ** x[:, 0],
        lambda x: (
            x[:, 0] * np.sin(3 * x[:, 1]) + x[:, 1] * x[:, 2] ** 2 + np.cos(x[:, 0] * x[:, 2])
        ),
    ],
)
def test_functions_without_symmetry_show_none(function):
    assert surest(function, columns()) is None


def test_what_counts_as_equal_depends_on_the_error():
    def nearly(x):
        return np.sin(x[:, 0] - x[:, 1]) + 0.05 * x[:, 0]

    x = columns(2)
    assert surest(nearly, x, error=1e-7) is None
    assert A - B in [u.name for u in unions(problem(nearly, x), slopes(nearly, x), 1e-2)]


def test_unions_that_share_no_column_can_be_made_at_once():
    x = columns(3)
    every = unions(
        problem(lambda x: x[:, 0] * x[:, 1] * x[:, 2], x),
        slopes(lambda x: x[:, 0] * x[:, 1] * x[:, 2], x),
        ERROR,
    )
    assert len(every) >= 3
    assert len(disjoint(every)) == 1


def test_powers_in_front_are_found():
    def function(x):
        return x[:, 0] ** 2 / np.sqrt(x[:, 1]) * np.sin(x[:, 2])

    x = columns(low=0.5, high=1.2)
    assert factors(x, slopes(function, x), function(x), ERROR).tolist() == [2.0, -0.5, 0.0]
    log = slopes(lambda x: np.log(function(x)), x)
    assert factors(x, log, np.ones(len(x)), ERROR).tolist() == [2.0, -0.5, 0.0]


def test_a_sum_has_no_powers_in_front():
    def function(x):
        return x[:, 0] + x[:, 1] * x[:, 2]

    x = columns()
    assert not factors(x, slopes(function, x), function(x), ERROR).any()


def test_columns_that_change_nothing_are_needless():
    def function(x):
        return x[:, 0] ** 2 + 1e-3 * x[:, 2]

    x = columns()
    assert needless(function, x, 1e-3) == {1, 2}
    assert needless(function, x, 1e-9) == {1}
    assert needless(function, x, 1.0) == {1, 2}
    assert effects(function, x)[1] == 0
