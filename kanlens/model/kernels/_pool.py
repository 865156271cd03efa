"""Threads of the kernels: torch's OpenMP threads, at most the number that torch may use.

Torch's threads spin for some milliseconds while they wait, which slows down other threads. Python's
are used where torch's do not exist. Numba's threads (0.68) are not used: "workqueue" is slow and
aborts the process if two Python threads call it at once; "omp" ends a forked process.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch

from kanlens._resources import one_thread

SERIAL = 10_000  # nanoseconds of work below which waking another thread costs what it saves
CHUNKS = 3  # pieces of work per thread, so that a thread held up elsewhere takes fewer

_pool = functools.cache(ThreadPoolExecutor)  # by number of threads
_forks: list[int] = []  # ids of the forks between the process that loaded kanlens and this


def _enter_child() -> None:
    """Forget the threads of the parent, which a forked process does not have."""
    _pool.cache_clear()
    _forks.append(os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


def safe() -> contextlib.AbstractContextManager[Any]:
    """Prevent torch from waiting for threads that a forked process does not have."""
    return one_thread() if _forks else contextlib.nullcontext()


def share(
    kernel: Callable[..., Any], arguments: tuple[Any, ...], count: int, nanoseconds: float
) -> None:
    """Call ``kernel(arguments, (begin, end, step), (threads, OpenMP))`` for range(count).

    Work of few `nanoseconds` runs on one thread; otherwise each thread takes some steps.
    """
    threads, start = team(nanoseconds)
    step = max(1, -(-count // (threads * CHUNKS)))
    if threads == 1 or start:
        kernel(arguments, (0, count, step), (threads, start))
        return

    def task(begin: int, end: int) -> None:
        kernel(arguments, (begin, end, step), (1, 0))

    parts = min(threads, count)
    ranges = itertools.pairwise(count * j // max(1, parts) for j in range(parts + 1))
    run(task, list(ranges), threads)


def team(nanoseconds: float) -> tuple[int, int]:
    """Return the number of threads for some work, and OpenMP's address to start them or 0."""
    threads = torch.get_num_threads() if nanoseconds >= SERIAL else 1
    return threads, 0 if threads == 1 or _forks else openmp()


def run(task: Callable[[int, int], Any], ranges: Sequence[tuple[int, int]], threads: int) -> None:
    """Call ``task(begin, end)`` for every range on threads of Python; raise the first error."""
    futures: list[Future[Any]] = []
    with contextlib.suppress(RuntimeError):  # at the interpreter's end no thread starts
        for span in ranges:
            futures.append(_pool(threads).submit(task, *span))
    try:
        for future in futures:
            future.result()
    finally:
        wait(futures)  # tasks write to the caller's memory
    for span in ranges[len(futures) :]:
        task(*span)


@functools.cache
def openmp() -> int:
    """Return the address of OpenMP's GOMP_parallel; 0 if torch brings none."""
    start = getattr(ctypes.CDLL(None), "GOMP_parallel", None) if sys.platform == "linux" else None
    return (start and ctypes.cast(start, ctypes.c_void_p).value) or 0
