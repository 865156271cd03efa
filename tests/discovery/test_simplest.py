"""Of formulas with equal errors `discover` takes the one with fewer columns and simpler numbers."""

import numpy as np
import pytest
import sympy

import kanlens
from kanlens.discovery._pareto_front import Entry
from kanlens.discovery._search_problem import SearchProblem, few_powers
from kanlens.symbolic._joint_refit import minimize
from kanlens.symbolic._rewriting import reduced_phases

X1, X2, X3 = sympy.symbols("x1 x2 x3")


def found_in(x, y, time_limit=10.0):
    return kanlens.discover(x, y, time_limit=time_limit, progress=False)


def uniform(low=1.0, high=3.0, width=2, count=200, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (count, width))


DRAW = np.random.default_rng(0)
X, WAVE, NEAR = uniform(), uniform(-1, 1), DRAW.uniform(0, 1, (100, 2))
LEVELS = np.column_stack((DRAW.integers(1, 4, 300), DRAW.integers(1, 5, 300)))
FAR = np.column_stack((DRAW.uniform(5000, 5010, 200), DRAW.uniform(1, 2, 200)))
YEARS = np.column_stack((DRAW.integers(1990, 2021, 200), DRAW.uniform(0, 1, 200)))
SMALL = """0.49 1.11 0.45 1.67 -1.84 0.11 -0.16 -1.75 0.57 1.41 0.37 -0.96
    0.06 1.21 0.22 2.79 3.29 0.13 0.2 3.13 0.16 2.14 0.04 1.1"""
SQUARE = np.array(SMALL.split(), dtype=float).reshape(2, -1)  # every third target is about equal
NOISE = 0.01 * DRAW.normal(size=200)
TABLES = {
    "exact constants": (X, X[:, 0] / (4 * np.pi * X[:, 1] ** 2), "x1/(4*pi*x2**2)"),
    "noise": (X, 3 * X[:, 0] * X[:, 1] ** 2 + NOISE, "3*x1*x2**2"),
    "constant and repeated columns": (
        np.column_stack((np.ones(200), X, X[:, 0])),
        X[:, 0] * X[:, 1],
        "x2*x3",
    ),
    "tiny": (X * 1e-12, X[:, 0] * X[:, 1] ** 2 * 1e-36, "x1*x2**2"),
    "fewer rows than columns": (DRAW.normal(size=(3, 4)), None, "2*x2"),
    "single precision": (np.float32(X), np.float32(X[:, 0]) / np.float32(X[:, 1]), "x1/x2"),
    "a wave without phase": (WAVE, np.sin(3.1416 * WAVE[:, 0]), "sin(3.1416*x1)"),
    "few levels": (LEVELS, LEVELS[:, 0] * LEVELS[:, 1] + LEVELS[:, 0], "x1*x2 + x1"),
    "few rows": (X[:8], X[:8, 0] * X[:8, 1], "x1*x2"),
    "rows that judge differ": (SQUARE[0][:, None], SQUARE[1], "x1**2"),
    "large offset": (X, 1e12 + X[:, 0] * X[:, 1], "x1*x2 + 10**12"),
    "negative offset": (X, -3.5e9 + X[:, 0] * X[:, 1], "x1*x2 - 3500000000"),
    "little variation": (X, 1e13 + 3 * X[:, 0] - 2 * X[:, 1], "3*x1 - 2*x2 + 10**13"),
    "years": (YEARS, 3 * (YEARS[:, 0] - 2000) ** 2 + YEARS[:, 1], "3*(x1 - 2000)**2 + x2"),
    "products of years": (YEARS, YEARS[:, 0] * YEARS[:, 1], "x1*x2"),
    "a power far from zero": (FAR, FAR[:, 1] / FAR[:, 0], "x2/x1"),
    "a column far from zero": (NEAR + np.array([1e9, 0.0]), NEAR[:, 0] + 1e9, "x1"),
    **{
        f"a column {times} times another plus {plus}": (
            np.column_stack((X, times * X[:, 0] + plus)),
            X[:, 0] ** 3,
            "x1**3",
        )
        for times, plus in ((1.0, 0.0), (-0.3, 7.0), (1e6, 0.0))
    },
}


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("name", TABLES)
def test_the_formula_of_a_table(name):
    x, y, formula = TABLES[name]
    y = 2 * x[:, 1] if y is None else y
    assert sympy.expand(found_in(x, y).sympy() - sympy.sympify(formula)) == 0


def test_phases_lie_within_half_a_turn():
    x = sympy.Symbol("x", real=True)
    for phase in (-40.0, -3.2, 3.2, 6.283185307179586, 17, 1e3):
        for wave in (sympy.sin, sympy.cos, sympy.tan):
            found = reduced_phases(2 * wave(3 * x + phase))
            left = sympy.Wild("left", exclude=[x])
            kept = found.args[1].args[0].as_coeff_Add()[0]
            assert -np.pi < float(kept) <= np.pi, left
            at = {x: 0.3}
            assert float(found.subs(at)) == pytest.approx(float(2 * wave(0.9 + phase)), rel=1e-9)
    assert reduced_phases(sympy.sin(x + 1)) == sympy.sin(x + 1)
    assert reduced_phases(sympy.sin(2 * x + 6.283185307179586)) == sympy.sin(2 * x)


@pytest.mark.slow  # searches formulas
def test_columns_that_go_together_leave_whole_powers():
    draw = np.random.default_rng(0)
    x = uniform()
    near = x[:, 0] * (1 + 1e-4 * draw.normal(size=len(x)))
    noise = 1 + 1e-2 * draw.normal(size=len(x))
    found = found_in(np.column_stack((x, near)), x[:, 0] ** 3 * noise).sympy()
    assert found in (X1**3, X3**3)
    squares = np.column_stack((x[:, 0], x[:, 0] ** 2, x[:, 1]))
    assert found_in(squares, x[:, 0] ** 3).sympy() == X1**3
    assert found_in(squares, x[:, 0] ** 4 * x[:, 1]).sympy() in (X2**2 * X3, X1**4 * X3)


def test_the_few_powers_are_the_simplest():
    a, b, c = sympy.symbols("a b c", real=True)
    x = uniform()
    columns = np.column_stack((x[:, 0], x[:, 0] ** 2, x[:, 1]))
    given = SearchProblem(columns, (a, b, c), x[:, 0] ** 3, np.zeros(200, dtype=bool))
    (found,) = few_powers(given)
    np.testing.assert_allclose(found, (3.0, 0.0, 0.0), atol=1e-9)


def test_only_constants_that_the_formula_shows_are_named():
    put_in = ("1/10", "pi/2", "2/3", "1", "-1/2")
    shown = Entry(sympy.pi * X1 / 2 + X2 ** sympy.Rational(2, 3) - X1**2 / 2, 0.0, 9, put_in)
    assert shown.constants == ("pi/2", "2/3", "-1/2")
    assert Entry(X1 * X2 + X1, 0.0, 5, ("1",)).constants == ()
    x = uniform()
    units = found_in(x * [1e-9, 1e9], 1e9 * x[:, 0] ** 2 * x[:, 1])
    assert units.sympy() == 10**18 * X1**2 * X2
    assert not units.receipt.snapped


def test_numbers_that_do_not_matter_have_unbounded_errors():
    slopes = np.ones((9, 2))
    found = minimize(lambda p: slopes @ p - 3.0, lambda p: slopes, np.array([1.0, 1.5]))
    assert np.isinf(found.standard_errors).all()
    sure = minimize(lambda p: p - 3.0, lambda p: np.eye(2), np.zeros(2))
    assert np.isfinite(sure.standard_errors).all()
