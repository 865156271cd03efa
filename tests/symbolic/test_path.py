import numpy as np
import pytest
import sympy

from kanlens.symbolic import _path as path
from kanlens.symbolic._composition import evaluator
from kanlens.symbolic._simplification import Simplifier

s, t, u, x, y = sympy.symbols("s t u x y", real=True)
POINTS = np.random.default_rng(0).uniform(0.5, 2.0, (200, 3))
SQUARE = np.random.default_rng(0).uniform(-1.0, 1.0, (300, 2))


def table(y):
    return Simplifier(symbols=(s, t, u), x=POINTS, y=y)


def target(expression):
    return sympy.lambdify((s, t, u), expression, "numpy")(*POINTS.T)


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
