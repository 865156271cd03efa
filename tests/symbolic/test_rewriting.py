"""Forms of a formula with fewer numbers, with one part less, and with its roots joined."""

import sympy

from kanlens.symbolic._rewriting import (
    _expanded,
    _simplified,
    even_ratios,
    joined,
    multiplied_in,
    thinner,
    without_dust,
)

X, Y, Z = sympy.symbols("x y z", real=True)


def test_a_common_number_is_pulled_out_of_a_sum():
    assert even_ratios(sympy.sqrt(0.25 * X**2 + 0.5 * Y)) == 0.5 * sympy.sqrt(X**2 + 2 * Y)
    assert str(even_ratios(sympy.sqrt(0.25 * X**2 + 0.25 * Y**2))) == "0.5*sqrt(x**2 + y**2)"
    assert even_ratios(0.3 * X + 0.4321 * Y) == 0.3 * X + 0.4321 * Y


def test_terms_that_are_rounding_are_left_out_at_any_depth():
    total = 3 * sympy.exp(X * Y + 1e-16 * X) + 2e-15 * sympy.sin(X)
    assert without_dust(total, 1e-14) == 3 * sympy.exp(X * Y)
    assert without_dust(X + 1e-13 * Y, 1e-14) == X + 1e-13 * Y


def test_roots_and_logarithms_are_joined():
    assert joined(3 * sympy.sqrt(X) * sympy.sqrt(Y)) == 3 * sympy.sqrt(X * Y)
    assert joined(2 * X * sympy.sqrt(Y / X**2 + 1)) == 2 * sympy.sqrt(Y + X**2)
    assert joined(Z * sympy.log(X) - Z * sympy.log(Y)) == Z * sympy.log(X / Y)
    both = sympy.sqrt(X) / sympy.sqrt(Y) + sympy.log(X) - sympy.log(Y)
    assert joined(both) == sympy.sqrt(X / Y) + sympy.log(X / Y)


def test_exact_factors_of_inexact_sums_are_multiplied_in():
    made = multiplied_in(sympy.Mul(1000, Y, 0.0025 * X + 0.0005))
    assert str(made) == "y*(2.5*x + 0.5)"
    assert multiplied_in(1000 * Y * (X + 0.5)) == 1000 * Y * (X + 0.5)


def test_one_part_is_left_out_anywhere():
    assert X / Y in thinner(X / (Y + 0.01))
    assert sympy.Integer(1) + X in thinner(sympy.cos(Y) + X)
    assert X in thinner(sympy.Abs(X))
    assert X - 3 in thinner(sympy.Max(0, X - 3))
    assert all(e.free_symbols for e in thinner(X + 2))


def test_angles_of_many_terms_are_not_left_to_sympy():
    """It expands them without end."""
    few, many = X + Y, X + Y + Z
    assert _simplified(sympy.sin(few) * sympy.cos(few)) == sympy.sin(2 * few) / 2
    for angle in (
        many,
        sympy.sin(X) + Y,
        sympy.Rational(1, 2) + 600 / ((X / sympy.pi + 7) ** 2 + 2),
    ):
        product = sympy.sin(angle) * sympy.cos(angle)
        assert _simplified(product) == product


def test_powers_of_long_sums_are_not_multiplied_out():
    """Nor their reciprocals and halves, which sympy takes apart to whole powers."""
    long = sympy.Add(*sympy.symbols("t:12", real=True))
    for exponent in (9, -9, sympy.Rational(19, 2), sympy.Rational(-19, 2)):
        power = long**exponent
        assert _expanded(power) == power
    assert _expanded((X + Y) ** -2) == 1 / (X**2 + 2 * X * Y + Y**2)
