"""Settings shared by all tests: one thread each, bounded property tests, no window for figures."""

import gc
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is loaded, as torch does

import pytest
import torch
from hypothesis import settings

ROOT = Path(__file__).parent
KERNELS = sorted((ROOT / "kanlens/model/kernels").glob("*.py"))

# Kernels are compiled once for all test processes. Numba compiles a function anew when its file
# changes, but not when what it calls does: the folder is that of all sources as they are.
_key = hashlib.sha256(b"".join(path.read_bytes() for path in KERNELS)).hexdigest()[:16]
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".pytest_cache" / f"kernels-{_key}"))

# Bytecode is kept for all test processes too, wherever Python is told to keep none: half of the
# time of collection goes into rewriting asserts, and processes that tests start import the package.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

if importlib.util.find_spec("triton") is None:  # doctests import every module
    collect_ignore = ["kanlens/model/kernels/triton_kernels.py"]

importlib.import_module("numba")  # from the first small call on, so that no two calls differ
torch.set_num_threads(1)  # test processes share the processors

settings.register_profile("local", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_xdist_auto_num_workers() -> int:
    """Start one more than there are processors: many tests wait for processes of their own."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect no garbage while tests are: 5 of the 15 s that it takes; what is kept stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(200_000)  # a tenth of the time of tests otherwise
