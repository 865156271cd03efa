"""The recovery of known equations: their data, the criterion, reasons and the table."""

import numpy as np
import pytest
import sympy

from benchmarks.equations import (
    Equation,
    equations_of,
    is_recovered,
    r2_score,
    read_equations,
)
from benchmarks.harness import Setup
from benchmarks.symbolic.recovery import RECOVERY, reason

PAIR = Equation(
    source="t", name="pair", text="a*sqrt(b)", variables=("a", "b"), ranges=((1.0, 2.0),) * 2
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a*sqrt(b)", True),
        ("a*sqrt(b) + 3", True),
        ("2*a*sqrt(b)", True),
        ("1.00001*a*sqrt(b) + 0.00001*a", False),
        ("a*b", False),
        ("a*sqrt(b)*Heaviside(2.2 - a)", False),
        ("sqrt(a)*sqrt(a*b)", True),
        ("a*sqrt(b - 0.9) ", False),
    ],
)
def test_the_criterion(text, expected):
    assert is_recovered(sympy.sympify(text), PAIR, np.random.default_rng(0)) is expected


def test_a_formula_must_be_finite_wherever_the_equation_is():
    line = Equation(source="t", name="l", text="a", variables=("a",), ranges=((1.0, 5.0),))
    assert not is_recovered(sympy.sympify("exp(log(a**3)/3)"), line, np.random.default_rng(0))


def test_r2_of_the_truth_is_one():
    assert r2_score(PAIR.expression, PAIR, np.random.default_rng(0)) == 1.0
    assert r2_score(sympy.sympify("a"), PAIR, np.random.default_rng(0)) < 0.9


@pytest.mark.parametrize(
    ("text", "r2", "stopped", "expected"),
    [
        ("3*a*sqrt(b) + 1", 0.9, "", "constants"),
        ("a*b", 0.5, "the time was over", "time"),
        ("a*b", 0.9999, "the time was over", "edge family"),
        ("a", 0.9999, "", "structure"),
    ],
)
def test_reasons(text, r2, stopped, expected):
    assert reason(sympy.sympify(text), PAIR, r2, stopped) == expected


def test_equations_are_read_and_drawn(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text(
        "id,formula,n_vars,ranges,sampling\n"
        'one,a+beta,2,"a:[0,1];beta:[2,4]",uniform:7\n'
        'two,a**2,1,"a:[1,3]",grid:1\n'
    )
    one, two = read_equations(path, "some")
    x = one.draw(np.random.default_rng(0))
    assert x.shape == (7, 2)
    np.testing.assert_allclose(one.values(x), x.sum(axis=1))
    assert two.draw(np.random.default_rng(0)).tolist() == [[1.0], [2.0], [3.0]]
    assert one.wider() == ((-0.5, 1.5), (1.0, 5.0))


def test_shapes_forget_names_and_factors():
    def shape(text, *names):
        ranges = ((1.0, 2.0),) * len(names)
        given = Equation(source="", name="", text=text, variables=names, ranges=ranges)
        return given.shape

    assert shape("2*a*b", "a", "b") == shape("x*y", "x", "y")
    assert shape("a/b", "a", "b") != shape("a*b", "a", "b")


def test_without_data_everything_is_left_out():
    assert RECOVERY.plan(Setup()).skipped
    assert equations_of(Setup()) == {}


def test_a_smoke_unit_is_recovered_and_summed_up():
    import pandas as pd

    setup = Setup(smoke=True)
    keys = RECOVERY.plan(setup).keys
    assert len(keys) == 5
    (row,) = RECOVERY.rows(setup, keys[0])["symbolic-recovery"]
    assert set(row) == set(RECOVERY.columns("symbolic-recovery"))
    assert row["recovered"] == 1
    frame = pd.DataFrame([row, {**row, "name": "other", "recovered": 0, "reason": "structure"}])
    tables = RECOVERY.summary(frame)
    assert tables["recovery"]["recovered"].tolist()[0] == "50.0%"
    assert tables["not recovered"]["name"].tolist() == ["other"]
