import time

import numpy as np
import pytest
import sympy

from kanlens.symbolic import rewriting, simplification
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
    monkeypatch.setattr(simplification, "RULES", (lambda e: sympy.Integer(1),))
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


@pytest.mark.parametrize(
    ("long", "short"),
    [
        (sympy.tanh(sympy.atanh(x / 3) + sympy.atanh(y / 3)), 3 * (x + y) / (x * y + 9)),
        (sympy.tanh(2 * sympy.atanh(x / 3)), 6 * x / (x**2 + 9)),
        (
            sympy.cos(sympy.asin(x / 3) - sympy.asin(y / 3))
            - sympy.cos(sympy.asin(x / 3) + sympy.asin(y / 3)),
            2 * x * y / 9,
        ),
        (sympy.sin(2 * sympy.atan(x)), 2 * x / (x**2 + 1)),
        (0.4 * sympy.sqrt(5) * x * sympy.pi, sympy.Float(0.4 * 5**0.5 * np.pi) * x),
        (2 * sympy.log(x) + sympy.log(y), sympy.log(x**2 * y)),
        (1.3 * sympy.log(x) + 1.3 * sympy.log(y), 1.3 * sympy.log(x * y)),
        (sympy.log(x * y) - sympy.log(y), sympy.log(x)),
        (sympy.log(y * sympy.exp(x)), x + sympy.log(y)),
        (sympy.sqrt(x) * sympy.sqrt(y), sympy.sqrt(x * y)),
        (x**2.0 * y**-0.5, x**2 / sympy.sqrt(y)),
        (sympy.sqrt(x**2), x),
        (sympy.exp(x) * sympy.exp(y), sympy.exp(x + y)),
        (
            sympy.exp(2 * (sympy.log(x) - 3 * sympy.log(y)), evaluate=False),
            x**2 / y**6,
        ),
    ],
    ids=str,
)
def test_forms_that_a_network_writes_become_short(long, short):
    found = shorten(long, (x, y), POINTS)
    assert agree(found, short, (x, y), POINTS)
    assert sympy.count_ops(found) <= sympy.count_ops(short)
    assert agree(found, long, (x, y), POINTS)


def test_squares_that_do_not_cancel_become_a_product():
    found = shorten(0.25 * (x + y + 0.3) ** 2 - 0.25 * (x - y + 0.1) ** 2, (x, y), POINTS)
    assert count_numbers(found) <= 4
    assert found.is_Mul
    assert agree(found, (x + 0.2) * (y + 0.1), (x, y), POINTS)


def test_a_rule_that_holds_for_positive_numbers_only_is_not_kept_elsewhere():
    both = np.random.default_rng(0).uniform(-2.0, 2.0, (60, 2))
    assert shorten(sympy.sqrt(x**2), (x, y), both) == sympy.Abs(x)


def test_numbers_in_exponents_do_not_keep_sympy_busy_for_hours():
    inner = (2 * sympy.pi * sympy.tanh(8 * x / 3 - 1) + sympy.Rational(19, 2)) ** 2 / 25
    expression = 16 * sympy.exp(sympy.Rational(-25, 49)) / 3 - 4 * sympy.exp(-inner)
    points = np.linspace(-1, 1, 20)[:, None]
    started = time.process_time()
    assert agree(shorten(expression, (x,), points), expression, (x,), points)
    assert time.process_time() - started < 5


def test_sums_of_many_angles_are_left_alone():
    """Taken apart, each further angle would double the number of terms."""
    angles = [sympy.asin(x / (3 + k)) for k in range(12)]
    many = sympy.sin(sympy.Add(*angles)) + sympy.cos(50 * sympy.acos(y / 3))
    start = time.process_time()
    assert rewriting.angle_sums(many) == many
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("most", "short"), [(1.5, 3 * sympy.sin(2 * x)), (4.5, 3 * sympy.Abs(sympy.sin(2 * x)))]
)
def test_a_root_of_one_minus_a_cosine_is_a_sine(most, short):
    long = 3 * sympy.sqrt(1 - sympy.cos(4 * x)) / sympy.sqrt(2)
    points = np.linspace(0.1, most, 50)[:, None]
    assert shorten(long, (x,), points) == short


def test_roots_of_negative_numbers_are_left_alone():
    long = 2.5 * sympy.root(-2, 3) * x**2
    assert shorten(long, (x,), np.linspace(0.1, 1.5, 50)[:, None]) == long


def test_a_root_of_another_sum_with_a_cosine_stays():
    long = sympy.sqrt(2 - sympy.cos(4 * x))
    assert shorten(long, (x,), np.linspace(0.1, 1.5, 50)[:, None]) == long


def test_a_symbol_times_a_logarithm_is_not_made_an_exponent():
    entropy = (x + 2) * sympy.log(x + 2)
    assert shorten(entropy, (x,), np.linspace(0.1, 1.5, 50)[:, None]) == entropy
