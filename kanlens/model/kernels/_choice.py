"""Choice between compiled kernels and torch operations, and compilation in a second process.

A call never waits for a compiler: torch does the work of kernels that are not compiled. When that
has taken `COMPILE_AFTER` seconds longer than kernels would, a second process compiles them into
numba's cache, from which they are taken as soon as they are there.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal

import torch

from kanlens._checks import check_choice

Path = Literal["auto", "sparse", "torch"]
PATHS = ("auto", "sparse", "torch")
COMPILE_AFTER = 15.0  # seconds of CPU that compiling takes: a short run never pays for it
LOOK = 1.0  # seconds lost until the cache is read again while a process compiles
LOADING = 1.5  # seconds of loading numba
# the path requested on this thread
ASKED: ContextVar[Path] = ContextVar("kanlens_kernel_path", default="auto")


@contextmanager
def use(path: Path) -> Iterator[None]:
    """Make every spline layer take one path inside the block.

    `"sparse"`: compiled kernels, compiled now if needed; `"torch"`: torch operations; `"auto"`:
    kernels once compiled. Where a kernel cannot run (`torch.compile`, CUDA, half precision) torch
    operations run in its place.
    """
    check_choice("kernels.use", "path", path, list(PATHS))
    before = ASKED.set(path)
    try:
        yield
    finally:
        ASKED.reset(before)


def recorded() -> bool:
    """Return whether torch is compiling, tracing or transforming operations."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch.utils._python_dispatch._get_current_dispatch_mode() is not None
        or torch.is_autocast_enabled("cpu")
        or torch._C._are_functorch_transforms_active()
    )


def use_within(seconds: float) -> AbstractContextManager[None]:
    """Use torch operations inside the block if `seconds` are too few to load numba."""
    return use("torch" if seconds <= LOADING else ASKED.get())


class Compilation:
    """Kernels that are compiled or not, and the process that compiles them.

    `on_disk` returns whether they are in numba's cache; `code` is Python that compiles them.
    """

    def __init__(self, on_disk: Callable[[], bool], code: str) -> None:
        self.on_disk, self.code = on_disk, code
        self.stored, self.lost = on_disk(), 0.0
        self.compiled_here = False  # by a call since the last check
        self.process: subprocess.Popen[bytes] | None = None

    def ready(self, seconds: float) -> bool:
        """Return whether to run kernels that save `seconds` in this call."""
        if self.stored:
            return True
        if ASKED.get() == "sparse":
            self.compiled_here = True
            return True
        self.lost += seconds
        missed = self.lost > (COMPILE_AFTER if self.process is None else LOOK)
        if missed or self.compiled_here:
            self.compiled_here, self.stored = False, self.on_disk()
        if missed:
            self.lost = 0.0
            if self.process is not None:
                self.process.poll()
            elif not self.stored:
                self.process = start(self.code)
        return self.stored


def start(code: str) -> subprocess.Popen[bytes] | None:
    """Start a process that runs code with low priority; only the first rank of a machine does."""
    python = None if getattr(sys, "frozen", False) else sys.executable
    if not python or os.environ.get("LOCAL_RANK", "0") != "0":
        return None
    logging.getLogger("kanlens").info("Kernels are compiled in a second process: %s", code)
    # modules from where this process has them: -c would look into the working directory first
    lower = f"import sys; sys.path[:] = {sys.path!r}; import os; getattr(os, 'nice', int)(10); "
    silent = subprocess.DEVNULL
    try:
        return subprocess.Popen(
            [python, "-c", lower + code],
            stdin=silent,
            stdout=silent,
            stderr=silent,
            start_new_session=True,  # an interrupt of this process leaves it to finish
        )
    except OSError:  # no process can be started here
        return None
