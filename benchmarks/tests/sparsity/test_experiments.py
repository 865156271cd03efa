"""The benchmark as a whole: it runs without data, resumes, and draws from its files."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.harness import Setup
from benchmarks.sparsity.experiments import SPARSITY

SMOKE = Setup(seeds=(0,), smoke=True)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    return folder, SPARSITY.run(SMOKE, folder, progress=False)


@pytest.mark.slow  # every experiment once
def test_smoke_runs_everything_without_data(smoke):
    folder, found = smoke
    assert set(found.tables) == {name for each in SPARSITY.experiments for name in each.tables}
    assert found.skipped == {}
    assert {path.suffix for path in found.files} == {".csv", ".png"}
    assert all(path.exists() for path in found.files)
    assert found.measured > 5
    assert len(found.summaries) >= len(SPARSITY.experiments)
    assert SPARSITY.run(SMOKE, folder, picture=False, progress=False).measured == 0


@pytest.mark.slow  # with the one before
def test_every_picture_is_drawn_from_files_alone(smoke):
    folder, _ = smoke
    for picture in SPARSITY.pictures.values():
        tables = {name: pd.read_csv(folder / f"{name}.csv") for name in picture.needs}
        figure = picture.draw(tables)
        assert all(ax.has_data() for ax in figure.axes)
        assert picture.caption.endswith(".")
