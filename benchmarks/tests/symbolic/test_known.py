"""The functions KANs are shown with, and the pictures of the symbolic benchmark."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import sympy

from benchmarks.harness import Setup
from benchmarks.symbolic import known
from benchmarks.symbolic.known import EQUATIONS, KNOWN, MANY, is_exact
from benchmarks.symbolic.pictures import PICTURES
from kanlens import KANSymbolicRegressor

SMOKE = Setup(smoke=True)
DATA = Path(known.__file__).parents[2] / "figures" / "data"


def test_the_first_function_has_ten_seeds_by_networks():
    keys = KNOWN.plan(Setup()).keys
    first = [key for key in keys if key[:2] == ("networks", "exponential")]
    assert len(first) == MANY == 10
    assert {key[1] for key in keys} == set(EQUATIONS)
    assert len(keys) == len(set(keys))


def test_smoke_finds_a_product():
    (row,) = KNOWN.rows(SMOKE, ("discover", "product", 0))["symbolic-known"]
    assert set(row) == set(KNOWN.columns("symbolic-known"))
    assert (row["formula"], row["exact"], row["rows"]) == ("x*y", 1, known.SMOKE_ROWS)
    assert row["rmse"] < 1e-12
    tables = KNOWN.summary(pd.DataFrame([row, {**row, "exact": 0, "formula": "y"}]))
    (table,) = tables.values()
    assert table[["runs", "exact", "formula"]].to_numpy().tolist() == [[2, 1, "x*y"]]


def test_networks_give_a_formula(monkeypatch):
    class Found(KANSymbolicRegressor):
        def fit(self, x, y):
            assert x.shape == (known.SMOKE_ROWS, 2)
            assert y.shape == (known.SMOKE_ROWS,)
            return self

        def sympy(self):
            return sympy.sympify("x + y")

    monkeypatch.setattr(known, "KANSymbolicRegressor", Found)
    (row,) = KNOWN.run(SMOKE, ("networks", "product", 0))
    assert (row["exact"], row["recovered"], row["formula"]) == (0, 0, "x + y")
    assert row["rmse"] > 0.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exp(y**2 + sin(pi*x))", True),
        ("exp(y**2)*exp(sin(pi*x))", True),
        ("exp(y**2 + cos(pi*x - pi/2))", True),
        ("exp(y**2 + sin(3.14159265358979*x))", False),
        ("exp(y**2 + sin(pi*x)) + 1", False),
        ("2*exp(y**2 + sin(pi*x))", False),
    ],
)
def test_exact_means_to_the_last_number(text, expected):
    assert is_exact(sympy.sympify(text), EQUATIONS["exponential"]) is expected


@pytest.mark.parametrize("name", list(PICTURES))
def test_pictures_are_drawn_from_the_stored_tables(name):
    picture = PICTURES[name]
    figure = picture.draw({need: pd.read_csv(DATA / f"{need}.csv") for need in picture.needs})
    axes = [ax for part in [figure, *figure.subfigs] for ax in part.axes]
    assert all(ax.has_data() for ax in axes)
    if name == "symbolic-recovery":
        groups = [label.get_text() for label in axes[0].get_xticklabels()]
        assert groups[:2] == ["feynman, tier 1", "feynman, tier 1b"]
