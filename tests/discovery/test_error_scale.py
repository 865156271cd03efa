"""The scale of errors of a target over many decades, and what a formula of it may not be."""

import numpy as np
import pytest
import sympy

import kanlens
from kanlens._runtime import Deadline
from kanlens.discovery._pareto_front import Front
from kanlens.discovery._regression import ABSOLUTE, ErrorScale, away, relative_error
from kanlens.discovery._scaling import scale_of, table_of
from kanlens.discovery._search_problem import SearchProblem
from kanlens.symbolic._simplification import refine

A, B = sympy.symbols("a b", real=True)


def drawn(columns, *, rows=300, decades=4.0, seed=0):
    return 10 ** np.random.default_rng(seed).uniform(-decades / 2, decades / 2, (rows, columns))


LAWS = {
    "x1*x2*(1/x3 - 1/x4)": lambda a, b, c, d: a * b * (1 / c - 1 / d),
    "x1*(x2 - x3)/x4": lambda a, b, c, d: a * (b - c) / d,
    "x1/(x2*(x3**2 - x4**2))": lambda a, b, c, d: a / (b * (c**2 - d**2)),
}


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize(("law", "units"), [*zip(LAWS, [1e-11, 1.0, 1.0], strict=True)])
def test_laws_of_both_signs_over_many_decades_are_found(law, units):
    x = drawn(4, rows=100)
    y = LAWS[law](*x.T)
    found = kanlens.discover(x * [units, 1, 1, 1], y * units, time_limit=20, progress=False)
    assert found.error_scale == "logarithmic"
    gap = found.sympy() - sympy.sympify(law)
    values = sympy.lambdify(sympy.symbols("x1:5"), gap, "numpy")(*(x * [units, 1, 1, 1]).T)
    assert (np.abs(values) <= 1e-9 * np.abs(y * units)).all()


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("rows", [25, 200])
def test_no_constant_is_given_where_a_power_law_tells_half_of_the_logarithm(rows):
    x = drawn(2, rows=rows, decades=3)
    size = 1.5 * np.log10(x[:, 0]) - np.log10(x[:, 1])
    noise = np.random.default_rng(1).normal(size=rows)
    y = 10 ** (size + 0.8 * size.std() * noise / noise.std())
    found = kanlens.discover(x, y, time_limit=1, progress=False)
    assert found.sympy().free_symbols
    made = found.predict(x)[:, 0]
    assert (made > 0).all()
    assert np.corrcoef(np.log(made), np.log(y))[0, 1] ** 2 > 0.5


def test_the_scale_comes_from_the_data():
    x = drawn(2)
    law = x[:, 0] ** 2 / x[:, 1]
    noise = np.random.default_rng(1).normal(size=len(x))
    assert scale_of(x, law).unit > 0
    assert scale_of(x, law * np.sign(noise + 3)).unit > 0  # a few of another sign
    assert scale_of(x, law + 0.1 * law.std() * noise) == ABSOLUTE  # noise hides small values
    assert scale_of(x, np.log(law)) == ABSOLUTE
    assert scale_of(x, 10 ** (3 * noise)) == ABSOLUTE  # which no column tells


def test_the_logarithmic_scale_is_relative_near_the_truth_and_finite_far_from_it():
    target = np.concatenate((drawn(1)[:, 0], -drawn(1, seed=1)[:, 0]))
    scale = ErrorScale.of(target)
    size = np.sort(np.abs(target))
    assert size[0] < scale.unit < size[len(size) // 5]
    assert ErrorScale.of(np.linspace(1, 2, 9)) == ABSOLUTE
    gap = 1e-7 * target[np.abs(target) > 100 * scale.unit]
    steep = scale(gap / 1e-7 + gap) - scale(gap / 1e-7)
    np.testing.assert_allclose(np.abs(steep), 1e-7, rtol=1e-3)
    assert relative_error(np.zeros_like(target), target, scale) == pytest.approx(1.0, abs=0.05)
    assert np.isfinite(relative_error(1e9 * target, target, scale))
    assert relative_error(target / 2, target) == pytest.approx(0.25, rel=0.1)


def test_numbers_are_refitted_on_the_scale():
    x = drawn(1)
    noise = np.random.default_rng(2).normal(size=len(x))
    y = 3 * x[:, 0] ** 1.5 * np.exp(0.3 * noise)
    start = sympy.Float(1.0) * A ** sympy.Float(1.0)
    found = refine(start, (A,), x, y, ErrorScale.of(y)).expression
    power, size = np.polyfit(np.log(x[:, 0]), np.log(y), 1)
    made = sympy.lambdify(A, found, "numpy")(x[:, 0])
    inner = y > 100 * ErrorScale.of(y).unit
    expected = np.exp(size) * x[:, 0] ** power
    np.testing.assert_allclose(made[inner], expected[inner], rtol=0.1)


def test_a_column_of_many_decades_is_away_from_zero():
    wide = drawn(1, decades=12)[:, 0]
    assert away(wide)
    assert not away(np.append(wide, 1e-40))
    assert not away(np.append(np.linspace(0.1, 1.0, 200), 1e-6))
    assert away(np.stack((wide, np.ones_like(wide)), axis=1)).all()


def front_of(target, columns, in_units=lambda e: e):
    held_out = np.arange(len(target)) % 3 == 0
    problem = SearchProblem(columns, (A, B), target, held_out)
    front = Front(problem, Deadline.after(9.0))
    front.in_units = in_units
    front.start()
    return front


def test_a_formula_with_an_extreme_factor_is_not_kept_unless_it_is_exact():
    columns = np.random.default_rng(0).uniform(1.0, 3.0, (60, 2))
    target = 2.0 * columns[:, 0] + np.sin(9 * columns[:, 1])
    strange = sympy.Float(2e-14) * (sympy.Float(1e14) * A + 1)
    front = front_of(target, columns)
    front.start((strange, 2 * A))
    assert strange not in {entry.expression for entry in front.entries}
    assert 2 * A in {entry.expression for entry in front.entries}
    exact = front_of(2.0 * columns[:, 0], columns)
    exact.start((sympy.Float(2e-14) * (sympy.Float(1e14) * A),))
    assert exact.best_error < 1e-24


def test_factors_are_judged_in_the_units_of_the_data_too():
    columns = np.random.default_rng(0).uniform(1.0, 3.0, (60, 2))
    target = 0.5 * columns[:, 0] ** 4 + np.sin(9 * columns[:, 1])
    steep = sympy.Float(0.5) * A**4
    near = front_of(target, columns)
    near.start((steep,))
    far = front_of(target, columns, lambda e: e.xreplace({A: A / 10**6}))
    far.start((steep,))
    assert steep in {entry.expression for entry in near.entries}
    assert steep not in {entry.expression for entry in far.entries}


def test_a_large_factor_inside_a_logarithm_becomes_a_term():
    x = np.random.default_rng(0).uniform(2e5, 3e5, (60, 2))
    y = 3 * np.log(x[:, 0] ** -3 * 1e20) + x[:, 1] / 1e5
    table = table_of(x, y, ("a", "b"), None)
    scaled = 3 * sympy.log(sympy.Float(1e20) / (10 ** (3 * table.scales[0].power) * A**3))
    shown = table.in_units(scaled)
    assert max(abs(float(number)) for number in shown.atoms(sympy.Float)) < 1e12
    values = [sympy.lambdify(A, e, "numpy") for e in (3 * sympy.log(1e20 / A**3), shown)]
    np.testing.assert_allclose(values[0](x[:, 0]), values[1](x[:, 0]), rtol=1e-12)
