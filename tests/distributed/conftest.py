"""A table in three files, a network, and two workers of Dask that all tests share."""

import logging
import multiprocessing

import pandas as pd
import pytest

from kanlens.distributed import _analyses as analyses
from tests.made import draw, made

ROWS = 500


@pytest.fixture(scope="module")
def model():
    return made([3, 2, 1])


@pytest.fixture(scope="module")
def x():
    return draw(ROWS, 3)


@pytest.fixture
def data(x, model, tmp_path):
    """A folder of files with 200, 250 and 50 rows."""
    folder = tmp_path / "data"
    folder.mkdir()
    frame = pd.DataFrame(x.numpy(), columns=list(model.feature_names))
    for number, (start, stop) in enumerate([(0, 200), (200, 450), (450, ROWS)]):
        frame[start:stop].to_parquet(folder / f"{number}.parquet")
    return folder


@pytest.fixture
def small_blocks(monkeypatch):
    """Make a block 50 rows."""
    monkeypatch.setattr(analyses, "BLOCK", 50)


@pytest.fixture(scope="package")
def scheduler():
    """The address of a scheduler with two workers in processes of their own.

    They are forked off one that has imported the package, which takes 3 s of each otherwise.
    """
    import dask
    import distributed

    method = "forkserver"
    if method not in multiprocessing.get_all_start_methods():  # on Windows
        method = "spawn"
    with dask.config.set({"distributed.worker.multiprocessing-method": method}):
        distributed.utils.get_mp_context()  # which has its own modules imported
        multiprocessing.set_forkserver_preload(["distributed", "kanlens.distributed._jobs"])
        cluster = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL + 1,
        )
        with cluster:
            yield cluster.scheduler_address
