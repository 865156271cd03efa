"""The part on trained networks: what it plans, runs and says."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from benchmarks.attribution.trained import BUNDLED, TRAINED
from benchmarks.data import TABLES
from benchmarks.harness import Setup

FILE = "attribution-trained"


def test_bundled_tables_and_those_of_the_folder_are_planned(tmp_path):
    plan = TRAINED.plan(Setup(seeds=(0, 1), data=tmp_path))
    assert [key[0] for key in plan.keys] == [name for name in BUNDLED for _ in range(2)]
    assert set(plan.skipped) == set(TABLES)
    (tmp_path / "tabular").mkdir()
    for name in TABLES:
        (tmp_path / "tabular" / f"{name}.csv").touch()
    plan = TRAINED.plan(Setup(seeds=(0,), data=tmp_path))
    assert [key[0] for key in plan.keys] == [*BUNDLED, *TABLES]


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame(TRAINED.rows(Setup(smoke=True), ("wine", 0))[FILE])


def test_a_unit_has_a_row_for_every_method_and_the_floor(table):
    assert set(table.columns) == set(TRAINED.columns(FILE))
    assert table["method"].tolist()[-1] == "random"
    known = table.set_index("method")
    assert known.loc["shapley", "relative_gap"] < 1e-10
    assert known.loc["random", "shapley_error"] > known.loc["secant", "shapley_error"]
    assert (table["features"] == 13).all()
    assert len(json.loads(table["importance"][0])) == 13


def test_seeds_that_agree_agree(table):
    twice = pd.concat([table, table.assign(seed=1)])
    (found,) = TRAINED.summary(twice).values()
    assert found["method"].tolist() == table["method"].tolist()
    assert found["seeds_agree"].tolist() == pytest.approx([1.0] * len(found))
    other = table.assign(seed=1, importance=[json.dumps(list(range(13)))] * len(table))
    (found,) = TRAINED.summary(pd.concat([table, other])).values()
    assert (found["seeds_agree"] < 1.0).all()
