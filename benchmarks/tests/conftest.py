"""Garbage as small as that of a run of its own, which timings collect before each of them."""

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _settled() -> None:
    gc.collect()
    gc.freeze()
