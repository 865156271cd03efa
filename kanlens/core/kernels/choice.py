"""Which pass a layer takes: by a measured rule, or as asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from kanlens.checks import check_choice

Path = Literal["auto", "few", "sparse", "dense", "torch"]
PATHS = ("auto", "few", "sparse", "dense", "torch")

FEW = 384  # rows from which it pays to pack all weights at once and share out the rows
WIDE = 512  # outputs
COLUMNS_PER_TERM = 2.5  # columns of a matrix product in the time of one term of the sparse kernel

_asked: ContextVar[Path] = ContextVar("kanlens_kernel_path", default="auto")


@contextmanager
def use(path: Path) -> Iterator[None]:
    """Make every spline layer take one path inside the block.

    Parameters
    ----------
    path : {"auto", "few", "sparse", "dense", "torch"}
        The measured rule, one of the three kernels, or torch operations. Where a kernel cannot run
        (CUDA, `torch.compile`, half precision, no numba) torch operations run in its place.

    Raises
    ------
    InvalidValueError
        If there is no such path.

    Examples
    --------
    >>> with use("torch"):
    ...     asked()
    'torch'
    """
    check_choice("kernels.use", "path", path, list(PATHS))
    before = _asked.set(path)
    try:
        yield
    finally:
        _asked.reset(before)


def asked() -> Path:
    """Return the path asked for on this thread."""
    return _asked.get()


def choose(batch: int, n_in: int, n_out: int, grid_size: int, degree: int) -> Path:
    """Return the fastest of the three kernels for a layer.

    The sparse kernel multiplies degree + 2 numbers per edge and row, the dense one
    grid_size + degree + 1, at the speed of a matrix product. Forward and backward on one core, in
    units of a matrix product of as many parameters, sparse against dense: 0.80 and 1.2 for
    1024 x 256 -> 256 with 5 intervals, 0.29 and 1.2 for 1024 x 64 -> 64 with 50, but 1.5 and 1.1
    for 512 x 128 -> 1024 with 5, whose rows of gradients no longer fit the first cache.

    Parameters
    ----------
    batch, n_in, n_out : int
        Shape of the work; the batch and the inputs were found to make no difference.
    grid_size, degree : int
        Of the splines.

    Returns
    -------
    {"few", "sparse", "dense"}

    Examples
    --------
    >>> choose(1024, 64, 64, 50, 3), choose(512, 128, 1024, 5, 3), choose(64, 784, 64, 5, 3)
    ('sparse', 'dense', 'few')
    """
    if batch < FEW:
        return "few"
    dense = n_out > WIDE and grid_size + degree + 1 <= COLUMNS_PER_TERM * (degree + 2)
    return "dense" if dense else "sparse"
