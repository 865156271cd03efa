"""Private parts of numba that the kernels use: a release that changes one fails here."""

import sys

import llvmlite
import numba
import numpy as np
import torch
from numba.core.dispatcher import Dispatcher

from kanlens.model.kernels import _pool as pool
from kanlens.model.kernels._compiling import flat, jit, on_disk

VERSIONS = f"numba {numba.__version__}, llvmlite {llvmlite.__version__}: "


@jit
def doubled(x):
    return 2 * x


def test_private_parts_of_numba_are_as_they_were():
    doubled(1.0)
    assert on_disk(doubled, (1.0,)), f"{VERSIONS}Dispatcher.signatures has other entries"
    fresh = numba.njit(cache=True)(doubled.py_func)  # finds on disk what the other wrote
    text = "Dispatcher._cache._cache_file._load_index() has no keys of _cache._index_key()"
    assert on_disk(fresh, (1.0,)) and not fresh.signatures, VERSIONS + text
    assert not on_disk(fresh, (np.zeros(2),))
    text = "Dispatcher.compile, which conftest.py wraps, is not what a first call runs"
    assert Dispatcher.compile.__name__ == "_compile_once", VERSIONS + text
    assert type(doubled).__mro__.count(Dispatcher), VERSIONS + text


def test_torch_brings_openmp():
    text = "torch no longer loads a library with GOMP_parallel: kernels take Python's threads"
    assert pool.openmp() or sys.platform != "linux", text


def test_flat_copies_only_what_lies_out_of_order():
    x = torch.arange(6.0).reshape(2, 3)
    assert np.shares_memory(flat(x), x.numpy())
    assert flat(x.mT).tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]


def test_where_no_cache_can_be_written_kernels_are_compiled_anyway(monkeypatch):
    right = numba.njit

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return right(**options)

    monkeypatch.setattr(numba, "njit", njit)
    assert jit(doubled.py_func)(2.0) == 4.0
