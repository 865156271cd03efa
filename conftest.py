"""Settings shared by all tests: one thread each, bounded property tests, no window for figures."""

import gc
import hashlib
import importlib
import math
import os
import re
import runpy
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is loaded, as torch does

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None
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

# A kernel that another process is compiling is waited for and then read: all of them want the same
# ones at the start.
_dispatcher = importlib.import_module("numba.core.dispatcher").Dispatcher
_lock = importlib.import_module("numba.core.compiler_lock").global_compiler_lock
_compile, _held = _dispatcher.compile, set()  # files of kernels this process compiles


def _compile_once(kernel: Any, signature: Any) -> Any:
    types = re.sub("0x[0-9a-f]+", "", str(signature))  # places in memory differ
    types = hashlib.sha256(types.encode()).hexdigest()[:8]
    name = f"{kernel.py_func.__module__}.{kernel.__name__}-{types}"
    path = Path(os.environ["NUMBA_CACHE_DIR"], name)
    with _lock, ExitStack() as stack:
        if fcntl and path.name.startswith("kanlens") and path not in _held:
            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(path.open("w")), fcntl.LOCK_EX)
            _held.add(path)
            stack.callback(_held.remove, path)
        return _compile(kernel, signature)


_dispatcher.compile = _compile_once
torch.set_num_threads(1)  # test processes share the processors

settings.register_profile("local", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compile the passes of cubic layers before any test; later no test gets other kernels."""
    importlib.import_module("kanlens.model.kernels._choice").COMPILE_AFTER = math.inf
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None and session.config.getoption("numprocesses", None):
        return  # its workers do
    compile_passes = runpy.run_module("kanlens.model.kernels")["compile_passes"]
    dtypes = ("float32", "float64")
    for dtype in dtypes if worker in (None, "gw0") else dtypes[::-1]:  # both at the same time
        compile_passes(dtype, 3)
    importlib.import_module(
        "kanlens.model.kernels._autograd"
    )._compilations.clear()  # are there now


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Start one more than there are processors: many slow tests wait for processes of their own."""
    return (os.cpu_count() or 1) + (config.option.markexpr != "not slow")


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
