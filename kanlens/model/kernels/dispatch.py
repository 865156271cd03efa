"""Dispatch of a layer to a kernel: by a measured rule, or as asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from kanlens.checks import check_choice

Path = Literal["auto", "sparse", "dense", "torch"]
PATHS = ("auto", "sparse", "dense", "torch")

WIDE, FEW = 2048, 64  # outputs from which, and rows up to which, a matrix product pays
COLUMNS_PER_TERM = 2.5  # columns of a matrix product in the time of one term of the sparse kernel

_asked: ContextVar[Path] = ContextVar("kanlens_kernel_path", default="auto")


@contextmanager
def use(path: Path) -> Iterator[None]:
    """Make every spline layer take one path inside the block.

    Parameters
    ----------
    path : {"auto", "sparse", "dense", "torch"}
        The measured rule, one of the two kernels, or torch operations. Where a kernel cannot run
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
    """Return the faster of the two kernels for a layer.

    The sparse kernel multiplies degree + 2 numbers per edge and row, the dense one
    grid_size + degree + 1, at the speed of a matrix product. Forward and backward on two cores, in
    milliseconds, sparse against dense: 1.7 and 5.1 for 64 x 784 -> 64 with 5 intervals, 10 and 23
    for 512 x 128 -> 1024, 8.0 and 9.0 for 64 x 128 -> 2048; but 7.4 and 5.2 for 16 x 64 -> 4096,
    where most of the time is that of the weights, which the sparse kernel has to turn.

    Parameters
    ----------
    batch, n_in, n_out : int
        Shape of the work; the inputs were found to make no difference.
    grid_size, degree : int
        Of the splines.

    Returns
    -------
    {"sparse", "dense"}

    Examples
    --------
    >>> choose(1024, 64, 64, 50, 3), choose(16, 64, 4096, 5, 3)
    ('sparse', 'dense')
    """
    coarse = grid_size + degree + 1 <= COLUMNS_PER_TERM * (degree + 2)
    return "dense" if n_out > WIDE and batch <= FEW and coarse else "sparse"
