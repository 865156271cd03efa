"""Formulas of drawn structure: they are sound, and the judge refuses others."""

import functools

import numpy as np
import pandas as pd
import pytest
import sympy

from benchmarks.equations import sample, written
from benchmarks.harness import Setup
from benchmarks.symbolic.drawn import COUNT, KINDS, SUITES, drawn, is_sound, names_of
from benchmarks.symbolic.equivalence import judge
from benchmarks.symbolic.recovery import DRAWN

SMOKE = Setup(smoke=True)
drawn_once = functools.cache(drawn)
QUICK = (7, 1, 10, 3, 4, 5, 6, 8)  # one of every kind, drawn at once where others take seconds
NAMES = [names_of()[number] for number in QUICK]


def test_every_suite_has_every_kind_in_turn():
    names = names_of()
    assert len(set(names)) == COUNT == 200
    assert [name.split()[0] for name in names[:8]] == list(KINDS)
    assert {name.split()[0] for name in NAMES} == set(KINDS)
    keys = DRAWN.plan(Setup()).keys
    assert len(keys) == len(set(keys)) == 2 * COUNT
    assert {key[0] for key in keys} == set(SUITES)


@pytest.mark.slow  # searches formulas
@pytest.mark.parametrize("name", NAMES)
def test_a_formula_is_drawn_again_alike_and_otherwise_in_the_other_suite(name):
    one, again, other = drawn_once("tuning", name), drawn("tuning", name), drawn("judging", name)
    assert (one.text, one.ranges) == (again.text, again.ranges)
    assert (one.text, one.ranges) != (other.text, other.ranges)
    assert one.tier == name.split()[0]
    assert 2 <= len(one.variables) <= 6
    assert {str(s) for s in one.expression.free_symbols} == set(one.variables)
    x, y = sample(one, 0.0, 0)
    assert np.isfinite(y).all()
    assert is_sound(one, x)


@pytest.mark.parametrize(
    "text",
    ["a", "a + b/100", "sqrt(a - b)", "1/(a - b)", "a*sin(b/9)", "exp(20*a)*b"],
)
def test_what_is_not_sound_is_refused(text):
    made = written("", "", text, "a b", 1.0, 2.0)
    x = np.random.default_rng(0).uniform(1.0, 2.0, (300, 2))
    assert not is_sound(made, x)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_judge_takes_the_formula_and_no_other(name):
    """A term more that has a ten-thousandth of the spread makes it another formula."""
    equation = drawn_once("tuning", name)
    truth, first = equation.expression, sympy.Symbol(equation.variables[0], real=True)
    _, y = sample(equation, 0.0, 0)
    wrong = truth + 1e-4 * float(y.std()) * first**3
    assert judge(truth, equation, "", 0)["recovered"] == 1
    found = judge(wrong, equation, "", 0)
    assert (found["recovered"], found["accurate"]) == (0, 1)
    assert found["reason"] == "structure"


@pytest.mark.slow  # runs an experiment
def test_a_smoke_unit_is_looked_for_and_summed_up():
    keys = DRAWN.plan(SMOKE).keys
    assert len(keys) == 2
    (row,) = DRAWN.rows(SMOKE, ("tuning", "fraction 031", 0))["symbolic-drawn"]
    assert set(row) == set(DRAWN.columns("symbolic-drawn"))
    assert (row["recovered"], row["tier"]) == (1, "fraction")
    frame = pd.DataFrame([row, {**row, "name": "other", "recovered": 0, "reason": "structure"}])
    tables = DRAWN.summary(frame)
    assert tables["formulas of drawn structure"]["recovered"].tolist() == [0.5]
    assert tables["formulas of drawn structure: not recovered"]["name"].tolist() == ["other"]
