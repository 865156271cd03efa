"""Choice between compiled kernels and torch operations, by request or by cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal

from kanlens.checks import check_choice

Path = Literal["auto", "sparse", "stored", "torch"]
PATHS = ("auto", "sparse", "stored", "torch")

# seconds of compiling the passes of a layer, measured to take 9 s each, and of loading numba
COMPILING, LOADING = 18.0, 1.5
ASKED: ContextVar[Path] = ContextVar("kanlens_kernel_path", default="auto")


@contextmanager
def use(path: Path) -> Iterator[None]:
    """Make every spline layer take one path inside the block.

    The paths are the sparse kernels, torch operations, the kernels where they are compiled
    ("stored"), or the rule ("auto"): the kernels where they are compiled or worth it. Where a
    kernel cannot run (`torch.compile`, CUDA, half precision) torch
    operations run in its place.

    Examples
    --------
    >>> with use("torch"):
    ...     asked()
    'torch'
    """
    check_choice("kernels.use", "path", path, list(PATHS))
    before = ASKED.set(path)
    try:
        yield
    finally:
        ASKED.reset(before)


def asked() -> Path:
    """Return the path asked for on this thread."""
    return ASKED.get()


def use_within(seconds: float) -> AbstractContextManager[None]:
    """Compile nothing inside the block if there is a deadline, which compiling would overrun."""
    if seconds == math.inf or asked() == "torch":
        return use(asked())
    return use("stored" if seconds > LOADING else "torch")
