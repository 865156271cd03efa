"""Rows survive a run: what is stored is read again as it was, group by group."""

import re

import pytest

from benchmarks.records import Records
from kanlens.errors import FileFormatError

COLUMNS = ["cell", "ms", "rounds", "version", "note"]


def records(path, **options):
    return Records(path, COLUMNS, group=["cell"], text=["version"], **options)


def row(cell, **values):
    return {"cell": cell, "ms": 1.5, "rounds": 3, "version": "0.10", "note": None, **values}


def test_rows_are_read_as_they_were_stored(tmp_path):
    first = records(tmp_path / "a.csv")
    first.store(("a",), [row("a", ms=float("nan"), note="with, comma")])
    first.store(("b",), [row("b", ms=0.123456789)])
    again = records(tmp_path / "a.csv")
    assert again.rows == [row("a", ms=None, note="with, comma"), row("b", ms=0.12346)]
    assert again.of(("b",)) == [row("b", ms=0.12346)]


def test_whole_numbers_stay_whole_where_some_are_missing(tmp_path):
    kept = records(tmp_path / "a.csv")
    kept.store(("a",), [row("a"), row("a", rounds=None)])
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == ["a,1.5,3,0.10,", "a,1.5,,0.10,"]
    assert kept.frame()["rounds"].tolist()[0] == 3
    assert kept.frame()["note"][0] is None


def test_a_file_may_lack_columns_of_the_stamp(tmp_path):
    (tmp_path / "a.csv").write_text("cpu,cell\nx,a\n")
    kept = Records(tmp_path / "a.csv", ["cell", "cpu", "isa"], group=["cell"])
    assert kept.rows == [{"cell": "a", "cpu": "x", "isa": None}]


def test_a_group_is_replaced_and_the_others_stay(tmp_path):
    first = records(tmp_path / "a.csv")
    first.store(("a",), [row("a"), row("a", ms=2.5)])
    first.store(("b",), [row("b")])
    first.store(("a",), [row("a", ms=9.0)])
    assert records(tmp_path / "a.csv").rows == [row("b"), row("a", ms=9.0)]


def test_fresh_passes_over_the_file_until_the_first_group(tmp_path):
    records(tmp_path / "a.csv").store(("a",), [row("a")])
    fresh = records(tmp_path / "a.csv", fresh=True)
    assert fresh.rows == []
    assert records(tmp_path / "a.csv").rows == [row("a")]
    fresh.store(("b",), [row("b")])
    assert records(tmp_path / "a.csv").rows == [row("b")]


@pytest.mark.parametrize(
    ("text", "got"),
    [("x,y\n1,2\n", "others in 'a.csv'"), ("", "EmptyDataError from 'a.csv'")],
)
def test_a_foreign_file_is_refused(tmp_path, text, got):
    (tmp_path / "a.csv").write_text(text)
    words = (
        f"benchmarks: expected the columns cell, ms, rounds, version, note, got {got}. "
        "Pass --fresh to replace the file, or another folder with -o."
    )
    with pytest.raises(FileFormatError, match=f"^{re.escape(words)}$"):
        records(tmp_path / "a.csv")
