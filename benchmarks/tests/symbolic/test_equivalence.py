"""Which formulas count as an equation, which only when rounded, and why others do not."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from benchmarks.data import beside_checkout
from benchmarks.equations import (
    BUILT_IN,
    is_recovered,
    read_equations,
    sample,
    written,
)
from benchmarks.symbolic.equivalence import (
    REASONS,
    VERDICT,
    judge,
    reason,
    rounded,
    same_but_rounded,
)
from benchmarks.symbolic.known import EQUATIONS


def equation(text, variables, limits):
    return written("t", "t", text, variables, *limits)


def accepted(text, truth):
    return is_recovered(sympy.sympify(text), truth, np.random.default_rng(0))


def every_equation():
    """Return built-in equations, and those of the suites where their files are there."""
    folder = beside_checkout()
    found = [*BUILT_IN, *EQUATIONS.values()]
    if folder is not None:
        for name in ("feynman", "univariate"):
            found += read_equations(folder / f"{name}.csv", name)
    return found


@pytest.mark.slow  # searches formulas
def test_no_constant_may_be_wrong_by_a_ten_thousandth():
    """Unless it is a factor of the whole or a term of its own, which are free."""
    refused = 0
    for truth in every_equation():
        formula = truth.expression
        assert is_recovered(formula, truth, np.random.default_rng(0)), truth.name
        for number in formula.atoms(sympy.Number) - {sympy.Integer(0)}:
            wrong = formula.xreplace({number: number * sympy.Float(1.0001)})
            free = not (wrong / formula).free_symbols or not (wrong - formula).free_symbols
            took = is_recovered(wrong, truth, np.random.default_rng(0))
            assert took == free or not sympy.simplify(wrong / formula).free_symbols, truth.name
            refused += not took
    assert refused > 10  # so many without the files of the suites


POSITIVE = equation("a*b", "a b", (1.0, 2.0))


ACROSS = equation("a*b", "a b", (1.0, 5.0))  # the wider range begins at -1
INVERSE = equation("1/a", "a", (1.0, 1.8))


@pytest.mark.parametrize(
    ("truth", "text"),
    [
        *(
            (POSITIVE, text)
            for text in (
                "7*a*b",
                "a*b - 3",
                "-a*b",
                "a*b*(sin(a)**2 + cos(a)**2)",
                "sqrt(a**2)*b",
                "exp(log(a) + log(b))",
                "((a + b)**2 - (a - b)**2)/4",
                "Abs(a)*b",
                "a*sqrt(b)*sqrt(b)",
            )
        ),
        (INVERSE, "2/a"),
    ],
)
def test_other_forms_are_accepted(truth, text):
    assert accepted(text, truth)


@pytest.mark.parametrize(
    ("truth", "text"),
    [
        *(
            (POSITIVE, text)
            for text in (
                "2",
                "pi",
                "a*b + 2*a",
                "2*a*b + 1",  # a factor and a term: SRBench takes one of them
                "a*b*(1 + Heaviside(a - 2.3))",  # right inside, wrong on the wider range
                "a*b + Max(0, a - 2)",
                "a*b + sqrt(2 - a) - sqrt(2 - a)*1.0001",  # not real outside
                "a*b + 1e-4*a",
                "a*b/(1 + 1e-4*b)",
                "a**1.0001*b",
            )
        ),
        (ACROSS, "sqrt(a**2)*b"),
        (ACROSS, "exp(log(a**3)/3)*b"),  # not real where the equation is finite
        (INVERSE, "1/a + 1e-3/(a - 2)"),  # a pole beyond the range
    ],
)
def test_wrong_formulas_are_refused(truth, text):
    assert not accepted(text, truth)


@pytest.mark.parametrize(
    ("text", "exact", "near"),
    [
        ("a + 2*b", True, True),
        ("1.0002*a + 1.9998*b", False, True),
        ("1.0002*a + 1.9998*b + 0.00003*a*b", False, True),
        ("1.002*a + 2*b", False, False),
        ("a + 2*b + 0.0003*a*b", False, True),  # below a half of the last decimal
        ("a + 2*b + 0.002*a*b", False, False),
        ("a + b", False, False),
        ("1.0002*a", False, False),
        ("3.0001", False, False),
    ],
)
def test_rounding_is_that_of_srbench(text, exact, near):
    truth = equation("a + 2*b", "a b", (1.0, 2.0))
    formula = sympy.sympify(text)
    assert accepted(text, truth) is exact
    assert same_but_rounded(formula, truth, np.random.default_rng(0)) is near


def test_the_numbers_of_the_truth_may_be_rounded_too():
    truth = equation("sin(pi*a) + b/sqrt(2)", "a b", (0.2, 0.8))
    generator = np.random.default_rng(0)
    assert same_but_rounded(sympy.sympify("sin(3.1417*a) + 0.7073*b"), truth, generator)
    assert same_but_rounded(sympy.sympify("sin(pi*a) + sqrt(2)*b/2"), truth, generator)
    assert not same_but_rounded(sympy.sympify("sin(3.147*a) + 0.7073*b"), truth, generator)
    large = equation("sin(100*a)", "a", (0.2, 0.8))  # large numbers keep thirteen bits
    assert same_but_rounded(sympy.sympify("sin(100.004*a)"), large, generator)
    assert not same_but_rounded(sympy.sympify("sin(100.02*a)"), large, generator)


def test_rounding_leaves_fractions_and_symbols_alone():
    found = rounded(sympy.sympify("Rational(1, 3)*a + 0.33333*b + pi*a*b + 0.00002"))
    a, b = sympy.symbols("a b")
    assert found.coeff(a, 1).coeff(b, 0) == sympy.Rational(1, 3)
    assert found.coeff(a, 1).coeff(b, 1) == sympy.pi
    assert float(found.coeff(b, 1).coeff(a, 0)) == pytest.approx(0.333, abs=2e-5)
    assert found.subs({a: 0, b: 0}) == 0


def test_a_verdict_has_its_columns_and_no_noise():
    truth = equation("a + 2*b", "a b", (1.0, 2.0))
    found = judge(sympy.sympify("1.0002*a + 1.9999*b"), truth, "every way was tried", 0)
    assert set(found) == set(VERDICT)
    assert (found["recovered"], found["rounded"], found["accurate"]) == (0, 1, 1)
    assert found["reason"] == "constants"
    assert judge(truth.expression, truth, "", 0)["reason"] == ""
    broken = judge(sympy.sympify("log(a - 1.5)"), truth, "", 0)
    assert (broken["r2"], broken["accurate"], broken["reason"]) == (None, 0, "structure")


WAVES = equation("a*sin(b) + c**2", "a b c", (1.0, 2.0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.01*a*sin(b) + c**2", "constants"),
        ("2*a*sin(1.1*b + 0.1) + 3*c**2 + 4", "constants"),
        ("a*cos(b - 1.5707) + c**2", "constants"),  # a sine but for a phase
        ("a*sin(b) + c**2.04", "constants"),
        ("(a*sin(b) + 1.1*c**2)*2", "constants"),  # the same when multiplied out
        ("a*sin(b) + c**3", "edge family"),
        ("a*sin(b) + 1/c", "edge family"),
        ("a*sin(b) + 2**c", "edge family"),
        ("a*tanh(b) + exp(c)", "edge family"),
        ("a*b + c", "edge family"),
        ("exp(a*b + c)", "edge family"),
        ("a + sin(b) + c**2", "structure"),
        ("a*sin(b)*c**2", "structure"),
        ("a*sin(b)", "structure"),
        ("a*(sin(b) + c**2)", "structure"),
        ("2", "structure"),
    ],
)
def test_reasons_of_made_up_cases(text, expected):
    formula = sympy.sympify(text)
    assert reason(formula, WAVES, 0.9, "every way was tried") == expected
    assert expected in REASONS
    late = reason(formula, WAVES, 0.9, "the time was over")
    assert late == ("constants" if expected == "constants" else "time")
    assert reason(formula, WAVES, 0.9999, "the time was over") == expected


def test_powers_of_a_number_are_no_powers_of_a_variable():
    square = equation("a**2", "a", (1.0, 2.0))
    assert reason(sympy.sympify("2**a"), square, 0.9, "") == "edge family"
    assert reason(sympy.sympify("1.1*(a + 0.1)**2"), square, 0.9, "") == "constants"


def test_shapes_tell_differences_apart():
    near = equation("sqrt((a - b)**2 + c**2)", "a b c", (1.0, 2.0))
    assert "zoo" not in near.shape
    assert near.shape == equation("3*pi*sqrt((y - x)**2 + z**2)", "x y z", (1.0, 2.0)).shape
    assert near.shape != equation("sqrt((a + b)**2 + c**2)", "a b c", (1.0, 2.0)).shape


def test_noise_is_a_share_of_the_root_mean_square():
    line = equation("3*a", "a", (-1.0, 1.0))
    (x, clean), (_, noisy) = sample(line, 0.0, 4), sample(line, 0.01, 4)
    np.testing.assert_allclose(clean, 3 * x[:, 0])
    share = np.std(noisy - clean) / np.sqrt(np.mean(clean**2))
    assert abs(share - 0.01) < 0.001
