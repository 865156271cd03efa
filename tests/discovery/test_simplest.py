"""Of formulas with equal errors `discover` takes the one with fewer columns and simpler numbers."""

import numpy as np
import pytest
import sympy

import kanlens
from kanlens.discovery.front import Entry
from kanlens.discovery.problems import SearchProblem, few_powers
from kanlens.symbolic.least_squares import minimize
from kanlens.symbolic.rewriting import reduced_phases

X1, X2, X3 = sympy.symbols("x1 x2 x3")


def found_in(x, y, time_limit=10.0):
    return kanlens.discover(x, y, time_limit=time_limit, progress=False)


def uniform(low=1.0, high=3.0, width=2, count=200, seed=0):
    return np.random.default_rng(seed).uniform(low, high, (count, width))


def test_a_wave_has_no_column_and_no_phase_that_it_does_not_need():
    x = uniform(-1, 1)
    assert found_in(x, np.sin(3.1416 * x[:, 0])).sympy() == sympy.sin(3.1416 * X1)
    x = np.column_stack((uniform(0, 2), uniform(0, 5, seed=1)[:, 0]))
    assert found_in(x, np.sin(3.1416 * x[:, 0])).sympy() == sympy.sin(3.1416 * X1)


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


@pytest.mark.parametrize("times, plus", [(1.0, 0.0), (2.0, 0.0), (-0.3, 7.0), (1e6, 0.0)])
def test_a_multiple_of_a_column_is_that_column(times, plus):
    x = uniform()
    x = np.column_stack((x, times * x[:, 0] + plus))
    assert found_in(x, x[:, 0] ** 3).sympy() == X1**3


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


def test_few_levels_do_not_give_a_formula_with_a_number_for_each():
    draw = np.random.default_rng(0)
    x = np.column_stack((draw.integers(1, 4, 300), draw.integers(1, 5, 300)))
    found = found_in(x, x[:, 0] * x[:, 1] + x[:, 0])
    assert sympy.expand(found.sympy() - X1 * X2 - X1) == 0


def test_a_small_table_gets_a_short_formula():
    x = uniform(1, 4, count=8)
    assert found_in(x, x[:, 0] * x[:, 1]).sympy() == X1 * X2


SMALL = """0.49 1.11 0.45 1.67 -1.84 0.11 -0.16 -1.75 0.57 1.41 0.37 -0.96
    0.06 1.21 0.22 2.79 3.29 0.13 0.2 3.13 0.16 2.14 0.04 1.1"""  # the square of x with noise


def test_rows_that_judge_differ_in_their_targets():  # of which every third is about the same
    x, y = np.array(SMALL.split(), dtype=float).reshape(2, -1)
    assert found_in(x[:, None], y).sympy() == X1**2


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
