from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.campaign import Campaign, Plan, Setup
from benchmarks.surveys import TablePart, survey
from kanlens.errors import InvalidValueError


def rows(setup: Setup, key: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [{"seed": key[0], "twice": 2 * key[0]}]


def part(name: str) -> TablePart:
    return TablePart(
        area="sums",
        name=name,
        question="What is twice a seed?",
        keys=("seed",),
        columns=("seed", "twice"),
        plan=lambda setup: Plan(keys=tuple((s,) for s in setup.seeds), skipped={"odd": "no data"}),
        run=rows,
        summary=lambda frame: {f"mean of {name}": frame[["twice"]].astype(float).mean().to_frame()},
    )


PARTS = {name: part(name) for name in ("one", "two")}


def campaign(folder: Path) -> Campaign:
    return Campaign(
        call="benchmarks sums", setup=Setup(seeds=(1, 3)), folder=folder, jobs=1, progress=False
    )


def test_parts_fill_one_table_each_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    first = survey(campaign(tmp_path), PARTS, ["two"])
    assert first.measured == 2
    assert [path.name for path in first.files] == ["sums-two.csv"]
    assert first.skipped == {"two: odd": "no data"}
    both = survey(campaign(tmp_path), PARTS, [])
    assert both.measured == 2, "two was in the files"
    assert list(both.tables) == ["one", "two"]
    means = both.summaries()
    assert list(means) == ["mean of one", "mean of two"]
    pd.testing.assert_frame_equal(means["mean of one"], means["mean of two"])
    assert float(means["mean of one"].iloc[0, 0]) == 4.0


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="benchmarks sums: expected part"):
        survey(campaign(tmp_path), PARTS, ["three"])
