import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from benchmarks.harness import Setup
from benchmarks.tables import experiments
from benchmarks.tables.experiments import DEFAULTS, PREDICTION, parts_of


@pytest.mark.slow  # trains networks
def test_every_peer_is_scored_on_rows_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr("kanlens.training._default_ensemble.UPDATES", (40, 1000, 60))
    x, y = experiments.CLASSES["wine"](0)
    monkeypatch.setitem(experiments.CLASSES, "wine", lambda _: (x[:, :4], y))
    found = PREDICTION.run(
        Setup(seeds=(0,), smoke=True), tmp_path, parts=["defaults"], progress=False
    )
    frame = found.tables["tables"]
    assert frame[["table", "peer"]].drop_duplicates().shape[0] == 6
    assert list(found.summaries) == ["R2 on rows held out", "log loss on rows held out"]
    assert frame["score"].notna().all()
    row = frame[(frame["table"] == "small") & (frame["peer"] == "boosting")].iloc[0]
    train_x, train_y, x, y = parts_of("small", Setup(seeds=(0,), smoke=True), 0)
    expected = HistGradientBoostingRegressor(random_state=0).fit(train_x, train_y).score(x, y)
    assert row["score"] == pytest.approx(expected, abs=1e-4)


def test_no_row_is_on_both_sides():
    train_x, train_y, x, y = parts_of("small", Setup(), 3)
    assert (len(train_x), len(train_y), len(x), len(y)) == (60, 60, 15, 15)
    assert not set(map(tuple, np.asarray(train_x))) & set(map(tuple, np.asarray(x)))


def test_tables_that_are_not_there_are_named():
    units = DEFAULTS.plan(Setup())
    assert set(units.skipped) == {*experiments.TABLES, experiments.ADULT}
    assert {key[0] for key in units.keys} == {*experiments.DRAWN, *experiments.CLASSES}
