import numpy as np
import pytest
import sympy

from kanlens.symbolic import _path as path
from kanlens.symbolic._composition import evaluator
from kanlens.symbolic._library import library
from kanlens.symbolic._path import with_shorter_parts
from kanlens.symbolic._simplification import Simplifier, count_numbers, refine

s, t, u, x, y = sympy.symbols("s t u x y", real=True)
POINTS = np.random.default_rng(0).uniform(0.5, 2.0, (200, 3))
SQUARE = np.random.default_rng(0).uniform(-1.0, 1.0, (300, 2))
ROUNDABOUT = 1.1 * sympy.exp(2.1 * sympy.log(1.02 * s + 0.01) + 0.5) + 0.3  # a power, the long way


def table(y):
    return Simplifier(symbols=(s, t, u), x=POINTS, y=y)


def gap(one, two):
    values = [sympy.lambdify((s, t, u), e, "numpy")(*POINTS.T) for e in (one, two)]
    return np.abs(values[0] - values[1]).max() / np.abs(values[1]).max()


@pytest.mark.parametrize(
    "whole",
    [
        1.2 * sympy.log(1.5 + ROUNDABOUT) + 2.1 * sympy.sin(t) * u,
        sympy.sin(t * sympy.log(1.5 + ROUNDABOUT) + u),
        sympy.tanh(0.2 * sympy.sqrt(0.5 + ROUNDABOUT) - 0.4 + 0.3 * t),
    ],
    ids=["a term", "a factor", "deep inside"],
)
def test_a_part_with_one_feature_becomes_one_function(whole):
    trials = list(with_shorter_parts(whole, (s, t, u), POINTS, library()))
    assert trials
    assert all(count_numbers(trial) <= count_numbers(whole) for trial in trials)
    assert min(gap(trial, whole) for trial in trials) < 0.02
    assert all(trial.free_symbols == whole.free_symbols for trial in trials)


def test_terms_of_one_feature_are_taken_together():
    whole = 1.1 * sympy.exp(0.7 * s + 0.1) + 1.2 * sympy.exp(-0.7 * s + 0.2) + t * u
    trials = list(with_shorter_parts(whole, (s, t, u), POINTS, library()))
    assert min(gap(trial, whole) for trial in trials if trial.has(sympy.cosh)) < 1e-6


def test_short_parts_and_what_no_function_follows_stay():
    assert not list(with_shorter_parts(s**2 + t, (s, t, u), POINTS, library()))
    wild = sympy.sin(40.0 * s**2 + sympy.cos(30.0 * s)) * sympy.exp(s) + t
    assert not list(with_shorter_parts(wild, (s, t, u), POINTS, library()))
    undefined = sympy.log(s - 1.0) * sympy.sqrt(s - 1.5) + s**3 + t
    assert not list(with_shorter_parts(undefined, (s, t, u), POINTS, library()))


def test_only_given_functions_are_put_in():
    whole = sympy.log(1.5 + ROUNDABOUT) + t
    for trial in with_shorter_parts(whole, (s, t, u), POINTS, library(["square"])):
        assert not trial.atoms(sympy.Function)


def target(expression):
    return sympy.lambdify((s, t, u), expression, "numpy")(*POINTS.T)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_the_formula_with_the_fewest_numbers_is_taken(noise):
    """A long flat sine is a parabola; the target is, so the parabola stays."""
    y = target(s**2 + sympy.sin(2 * t)) + noise * np.random.default_rng(1).normal(size=200)
    start = 72.01 * sympy.sin(0.1684 * s + 4.71) + 72.01 + sympy.sin(2.0 * t)
    begun = refine(start, (s, t, u), POINTS, y)
    found = path._with_shorter_parts(begun, table(y), library())
    assert {e.free_symbols.copy().pop() for e in found.expression.atoms(sympy.sin)} == {t}
    assert count_numbers(found.expression) < count_numbers(begun.expression)
    assert gap(found.expression, s**2 + sympy.sin(2 * t)) < 10 * noise + 1e-7


def test_a_part_that_matters_is_not_replaced():
    truth = sympy.log(1.5 + ROUNDABOUT) + sympy.sin(2.0 * t)
    begun = refine(truth, (s, t, u), POINTS, target(truth))
    found = path._with_shorter_parts(begun, table(target(truth)), library(["x^3"]))
    assert gap(found.expression, truth) < 1e-6


def test_numbers_that_come_together_are_made_exact_again():
    """Two cosines that are a product leave several numbers as factors of it."""
    one, two = sympy.asin(0.4471 * s), sympy.asin(0.4471 * t)
    scale = 1 / (2 * 0.4471**2)
    start = scale * sympy.cos(one - two) - scale * sympy.cos(one + two)
    found = path._step("snapped", start, table(target(s * t)))
    assert found.expression == s * t


def dropped(formula, target):
    return path.drop_terms(formula, Simplifier(symbols=(x, y), x=SQUARE, y=target))


def drop_terms(formula, target):
    return [found.expression for found in dropped(formula, target)]


def values(formula):
    return evaluator((formula,), (x, y))(SQUARE)[:, 0]


def loss(formula, target):
    return np.square(values(formula) - target).mean() / target.var()


def test_terms_go_in_the_order_in_which_they_are_missed():
    truth = 3 * x + sympy.sin(sympy.pi * y) / 4 + x**2 * y / 50
    found = drop_terms(truth, values(truth))
    assert not found[0].has(x**2)
    assert found[0].has(sympy.sin)
    assert found[1].free_symbols == {x}
    losses = [loss(formula, values(truth)) for formula in found]
    assert losses == sorted(losses)
    assert found[-1].is_Float
    assert losses[-1] == pytest.approx(1.0)


def test_what_is_left_is_refitted():
    truth = sympy.exp(x + 0.1 * y)
    (first, last) = drop_terms(truth, values(truth))
    design = np.stack([np.exp(SQUARE[:, 0]), np.ones(300)], axis=1)
    best = np.linalg.lstsq(design, values(truth), rcond=None)[1][0] / 300 / values(truth).var()
    assert first.free_symbols == {x}
    assert loss(first, values(truth)) <= best * 1.05
    assert last.is_Float


def test_constants_and_long_formulas():
    assert drop_terms(sympy.Integer(2), np.full(300, 2.0)) == []
    long = sympy.Add(*(sympy.sin(k * x + 0.1) * sympy.cos(k * y - 0.3) for k in range(1, 90)))
    found = drop_terms(long, values(long))
    assert len(found) == 1
    assert found[0].is_Float


def test_undefined_candidates_are_not_taken():
    truth = sympy.log(2 + x) + y
    target = values(truth)
    for formula in drop_terms(truth, target):
        assert np.isfinite(values(formula)).all()


def test_exact_constants_and_their_costs_are_told():
    truth = 3 * x + sympy.sin(sympy.pi * y) / 40
    first, last = dropped(truth, values(truth))
    assert first.expression == 3 * x
    assert "3" in first.snapped
    assert len(first.costs) == len(first.snapped)
    assert max(first.costs) < 1e-3
    assert last.snapped == ()
