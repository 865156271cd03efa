import numpy as np
import pytest
import sympy

from kanlens.symbolic import simplification
from kanlens.symbolic.simplification import agree, complexity, count_numbers, shorten

x, y = sympy.symbols("x y", real=True)
POINTS = np.random.default_rng(0).uniform(0.5, 2.0, (60, 2))


def test_quarter_squares_are_a_product():
    assert shorten(0.25 * (x + y) ** 2 - 0.25 * (x - y) ** 2, (x, y), POINTS) == 1.0 * x * y


def test_rounding_dust_is_dropped():
    assert shorten(2.0 * x + 1e-17 * y, (x, y), POINTS) == 2.0 * x


def test_a_short_form_stays():
    expression = 2.5 * (x + 1.5) ** 5
    assert shorten(expression, (x, y), POINTS) == expression


def test_large_powers_are_not_multiplied_out():
    expression = (x + y + 1.5) ** 40 * (x - y + 2.5) ** 40
    assert shorten(expression, (x, y), POINTS) == expression


def test_a_wrong_rule_is_rolled_back(monkeypatch):
    monkeypatch.setattr(simplification, "_RULES", (lambda e: sympy.Integer(1),))
    assert shorten(sympy.sin(x) + 2, (x, y), POINTS) == sympy.sin(x) + 2


@pytest.mark.parametrize("factor", [1 + 1e-6, 0.0, 2.0])
def test_disagreement_is_seen(factor):
    assert not agree(factor * x, x, (x, y), POINTS)
    assert agree((1 + 1e-12) * x, x, (x, y), POINTS)


def test_nothing_agrees_with_what_is_nowhere_defined():
    assert not agree(x, sympy.log(-x), (x, y), POINTS)
    assert not agree(sympy.log(-x), x, (x, y), POINTS)


def test_counts():
    assert count_numbers(1.5 * x**2.5 + sympy.pi) == 2
    assert complexity(x + y) == 3
