"""How many threads torch may use for work of a given size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

SMALL = 500_000  # numbers in the largest array of one operation


@contextmanager
def threads_for(size: int) -> Iterator[None]:
    """Let torch use one thread inside the block when the work is small.

    Splitting an operation on so few numbers gains nothing, and its threads wait for each other by
    spinning: on a machine whose cores are busy, training a small network with two threads was
    measured to take ten times as long as with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if size < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


one_thread = partial(threads_for, 0)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let the matrix products of NumPy and SciPy use one thread inside the block.

    Thousands of small least-squares problems were measured to take nine times as long with two.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
