"""Formulas as steps of NumPy: the values of sympy, each part once, what there are no steps for."""

import math

import numpy as np
import pytest
import sympy

from kanlens.symbolic._composition import Program, evaluator

A, B = sympy.symbols("a b", real=True)


@pytest.mark.parametrize(
    "expression",
    [
        A**2 / B - 3,
        sympy.sqrt(A) * sympy.exp(-B / 2) + sympy.pi,
        1 / sympy.sqrt(A * B) + A ** sympy.Rational(-5, 2),
        sympy.Max(A, B, 1) * sympy.Abs(B - 2),
        sympy.atan(A * B) ** B + sympy.asinh(A),
        sympy.Integer(3) ** A,
    ],
)
def test_values_are_those_of_sympy(expression):
    x = np.random.default_rng(0).uniform(0.5, 3.0, (20, 2))
    assert isinstance(Program([expression], [A, B]), Program)
    expected = [float(expression.subs({A: a, B: b})) for a, b in x]
    np.testing.assert_allclose(Program([expression], [A, B])(*x.T)[0], expected, rtol=1e-13)
    np.testing.assert_allclose(evaluator((expression,), (A, B))(x)[:, 0], expected, rtol=1e-13)


def test_what_stands_at_two_places_is_evaluated_once():
    calls = []

    def counted(x):
        calls.append(x)
        return 2 * x

    double = type("double", (sympy.Function,), {"_imp_": staticmethod(counted), "nargs": 1})
    assert Program([double(A) ** 2 + double(A), double(A)], [A])(3.0) == [42.0, 6.0]
    assert calls == [3.0]


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        (sympy.erf(A) * sympy.pi, [math.pi * math.erf(0.5), math.pi * math.erf(3.0)]),
        (sympy.gamma(A), [math.gamma(0.5), 2.0]),
        (sympy.Piecewise((A, A > 1), (7, True)), [7.0, 3.0]),
        (A * sympy.root(-1, 3), [math.nan, math.nan]),
    ],
)
def test_what_has_no_steps_is_left_to_sympy(expression, values):
    """Symbols called like constants and functions are symbols there too."""
    for name in ("a", "pi", "exp"):
        symbol = sympy.Symbol(name, real=True)
        renamed = expression.xreplace({A: symbol})
        with pytest.raises(NotImplementedError):
            Program([renamed], [symbol])
        found = evaluator((renamed,), (symbol,))(np.array([[0.5], [3.0]]))
        np.testing.assert_allclose(found[:, 0], values)


def test_whole_numbers_are_divided_as_numbers():
    a = sympy.Symbol("a")
    found = Program([1 / a, a**-2, a**20], [a])(np.array([2, 10]))
    np.testing.assert_allclose(found, [[0.5, 0.1], [0.25, 0.01], [2.0**20, 1e20]], rtol=1e-15)
