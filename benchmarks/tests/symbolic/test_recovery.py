"""The recovery of known equations: their data, and the table."""

import numpy as np
import pandas as pd
import sympy

from benchmarks.equations import equations_of, r2_score, read_equations, written
from benchmarks.harness import Setup
from benchmarks.symbolic.recovery import RECOVERY


def test_r2_of_the_truth_is_one():
    pair = written("", "", "a*sqrt(b)", "a b", 1.0, 2.0)
    assert r2_score(pair.expression, pair, np.random.default_rng(0)) == 1.0
    assert r2_score(sympy.sympify("a"), pair, np.random.default_rng(0)) < 0.9


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


def test_without_data_everything_is_left_out():
    assert RECOVERY.plan(Setup()).skipped
    assert equations_of(Setup()) == {}


def test_a_smoke_unit_is_recovered_and_summed_up():
    setup = Setup(smoke=True)
    keys = RECOVERY.plan(setup).keys
    assert len(keys) == 5
    (row,) = RECOVERY.rows(setup, keys[0])["symbolic-recovery"]
    assert set(row) == set(RECOVERY.columns("symbolic-recovery"))
    assert row["recovered"] == 1
    frame = pd.DataFrame([row, {**row, "name": "other", "recovered": 0, "reason": "structure"}])
    tables = RECOVERY.summary(frame)
    assert tables["recovery"]["recovered"].tolist() == [0.5]
    assert tables["recovery: reasons"]["structure"].tolist() == [1]
    assert tables["recovery: not recovered"]["name"].tolist() == ["other"]
