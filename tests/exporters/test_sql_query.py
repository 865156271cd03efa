"""The query, run by SQLite and DuckDB on raw tables."""

import contextlib
import re
import sqlite3

import duckdb
import pandas as pd
import pytest
import torch

import kanlens
from kanlens._model_inputs import adopt_data
from kanlens.errors import MethodError
from kanlens.exporters import _unrolled_files as sql_query
from kanlens.exporters import export
from kanlens.exporters._exported_model import Export
from kanlens.model._network import KAN
from tests.exporters.conftest import build
from tests.exporters.raw import described, gaps


def answers(query, frame, kinds):
    """What both engines say of a table, as one array each."""
    quoted = [name.replace('"', '""') for name in frame]
    names = ", ".join(f'"{name}" {kind}' for name, kind in zip(quoted, kinds, strict=True))
    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    found = []
    for engine in (sqlite3, duckdb):
        base = engine.connect(":memory:")
        base.execute(f'CREATE TABLE "data" ({names})')
        base.executemany(f'INSERT INTO "data" VALUES ({", ".join("?" * len(kinds))})', rows)
        found.append(base.execute(query).fetchall())
        base.close()
    return found


@pytest.mark.slow
def test_it_computes_what_the_model_does(model, tmp_path):
    assert export(model, tmp_path / "model.sql").error < 1e-13


@pytest.mark.parametrize("kind", ["BOOLEAN", "INTEGER", "VARCHAR"])
def test_truth_values_are_known_as_databases_hold_them(kind, tmp_path):
    frame = pd.DataFrame({"on": [True, False, True, True], "y": [1.0, 2.0, 0.5, 1.5]})
    model = kanlens.KAN([1, 1], generator=torch.Generator().manual_seed(0)).double()
    adopt_data(model, kanlens.read_table(frame, target="y"))
    export(model, tmp_path / "model.sql")
    for rows in answers((tmp_path / "model.sql").read_text(), frame[["on"]], [kind]):
        found = torch.tensor([row[-1:] for row in rows], dtype=torch.float64)
        torch.testing.assert_close(found, model(frame[["on"]]).detach())


@pytest.mark.slow  # writes and runs files
def test_curves_of_a_feature_are_shared_by_the_nodes(tmp_path):
    model = KAN([3, 20, 1], generator=torch.Generator().manual_seed(0)).double()
    assert export(model, tmp_path / "model.sql").error < 1e-13
    text = (tmp_path / "model.sql").read_text()
    basis = model.layers[0].spline_weight.shape[2]
    assert len(set(re.findall(r"AS (kan_c0_\d+)", text))) == 3 * (
        basis - 1
    )  # constants are in the bias
    assert len(set(re.findall(r"AS (kan_g0_\d+_\d+)", text))) == 3
    assert len(set(re.findall(r"AS (kan_c1_\d+)", text))) == 20


@pytest.mark.slow  # writes and runs files
def test_columns_are_carried_along_and_the_table_has_its_name(tmp_path):
    options = {"table": 'my "houses"', "keep": ["id", "town"]}
    export(described("numbers of y"), tmp_path / "model.sql", **options)
    text = (tmp_path / "model.sql").read_text()
    assert 'FROM "my ""houses"""' in text
    with contextlib.closing(sqlite3.connect(":memory:")) as base:
        gaps().assign(id=7).to_sql('my "houses"', base, index=False)
        key, town, price = base.execute(text).fetchone()
    assert (key, town) == (7, "Rome")
    assert isinstance(price, float)


def test_what_is_too_long_is_refused_with_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(sql_query, "MAX_CHARACTERS", 1000)
    text = (
        r"^export: expected a query of at most 1000 characters, got \d+\. Prune the model first\.$"
    )
    with pytest.raises(MethodError, match=text):
        export(build("splines"), tmp_path / "model.sql")


def test_what_an_engine_refuses_is_told_in_one_line(tmp_path):
    (tmp_path / "model.sql").write_text("SELECT absent FROM data")
    subject = Export(model=build("held"), path=tmp_path / "model.sql")
    text = "^export: expected a query that sqlite3 runs, got 'no such column: absent'. "
    with pytest.raises(MethodError, match=text):
        sql_query._run_query(subject, tmp_path / "model.sql")


def test_a_function_that_sql_lacks_is_refused(tmp_path):
    model = kanlens.KAN([1, 1], base_activation="gelu").double()
    text = r"^export: expected functions of SQL, got erf\. Choose another format\.$"
    with pytest.raises(MethodError, match=text):
        export(model, tmp_path / "model.sql")
