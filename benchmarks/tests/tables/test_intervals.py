"""Shares and widths are counted right, and the whole runs in its smallest form."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.harness import Setup
from benchmarks.machine import missing
from benchmarks.readable.tables import DRAWN as OTHERS
from benchmarks.tables import intervals
from benchmarks.tables.intervals import DRAWN, INTERVALS, NEW, SMOKE, draw, judge, split
from kanlens.model import _held_out


def test_shares_and_widths_are_counted():
    ends = np.array([[0.0, 1.0], [1.0, 4.0], [0.0, 2.0]])
    assert judge(ends, np.array([1.0, 0.0, 2.5]), classes=False) == (pytest.approx(1 / 3), 2.0)
    sets = np.array([[True, True], [False, False], [False, True]])
    assert judge(sets, np.array([0, 1, 1]), classes=True) == (pytest.approx(2 / 3), 1.0)


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_tables_have_their_rows_and_new_ones(name):
    classes, (x, y, new, truth) = split(name, 1, Setup())
    rows, columns = DRAWN[name]
    assert (x.shape, new.shape) == ((rows, columns), (NEW, columns))
    assert len(y) == rows and len(truth) == NEW and classes == ("classes" in name)
    assert len(np.unique(y)) == {"two": 2, "three": 3}.get(name.split()[0], 2 if classes else rows)
    assert not draw(name, 1).frame.equals(draw(name, 2).frame)
    pd.testing.assert_frame_equal(draw(name, 1).frame, draw(name, 1).frame)


def test_twenty_tables_are_planned(monkeypatch):
    everything = [*OTHERS, *"abcdefgh"]
    monkeypatch.setattr(intervals, "present", lambda _: (everything, {}))
    assert len({name for name, _ in INTERVALS.plan(Setup()).keys}) == 20
    skipped = INTERVALS.plan(Setup()).skipped
    assert skipped == ({"MAPIE": missing("mapie")} if missing("mapie") else {})


@pytest.mark.slow  # trains networks
def test_smoke_measures_both_models_and_too_short_intervals_are_seen(monkeypatch):
    monkeypatch.setattr("kanlens.training._default_ensemble.UPDATES", (40, 1000, 60))

    smoke = Setup(smoke=True)

    def run():
        return [INTERVALS.run(smoke, key)[0] for key in INTERVALS.plan(smoke).keys]

    rows = run()
    assert len(rows) == 2 * len(SMOKE)
    assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(*INTERVALS.tables.values()))}
    assert all(row["covered"] > 0.8 and row["width"] > 0 for row in rows)
    monkeypatch.setattr(_held_out, "_place", lambda rows, level: rows // 2)
    assert all(row["covered"] < 0.75 for row in run())
