"""Threads of the kernels: torch's own, as many as it may use.

Torch's threads wait for work in a loop for some milliseconds, and others beside them get half of a
processor. Python's are used where there are none of torch's. A kernel shares out a range among them
by `parallel.share_out`. Numba's own threads (0.68) do less: a call of its "workqueue" took 24 us or
more and aborts the process when two Python threads make one at a time; "omp" took 2 us and ends a
process that was forked.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from kanlens.resources import one_thread

SERIAL = 10_000  # nanoseconds of work below which waking another thread costs what it saves
CHUNKS = 3  # pieces of work per thread, so that a thread held up elsewhere takes fewer

_pools: dict[int, ThreadPoolExecutor] = {}  # by number of threads
_parents = [os.getpid()]  # and then the forks this process comes from


def _enter_child() -> None:
    """Forget the threads of the parent, which a fork has not."""
    _pools.clear()
    _parents.append(os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


def forked() -> bool:
    """Tell whether this process was forked since kanlens was loaded: torch's threads are gone."""
    return len(_parents) > 1


def safe() -> contextlib.AbstractContextManager[Any]:
    """Keep torch from threads that a forked process has not, and for which it would wait."""
    return one_thread() if forked() else contextlib.nullcontext()


def _pool(helpers: int) -> ThreadPoolExecutor:
    """Return the pool of so many threads; setdefault is one step, whoever else asks."""
    if helpers not in _pools:
        _pools.setdefault(helpers, ThreadPoolExecutor(helpers, thread_name_prefix="kanlens"))
    return _pools[helpers]


def share(
    kernel: Callable[..., Any],
    arguments: tuple[Any, ...],
    count: int,
    nanoseconds: float,
) -> None:
    """Call ``kernel(arguments, (begin, end, step), (threads, OpenMP))`` for range(count).

    Work that takes one thread so long may deserve no other; else each has some steps.
    """
    threads, start = team(nanoseconds)
    step = max(1, -(-count // (threads * CHUNKS)))
    if threads == 1 or start:
        kernel(arguments, (0, count, step), (threads, start))
        return

    def task(begin: int, end: int) -> None:
        kernel(arguments, (begin, end, step), (1, 0))

    run(task, split(count, threads * CHUNKS), threads)


def team(nanoseconds: float) -> tuple[int, int]:
    """Return how many threads work that takes one so long deserves, and where OpenMP starts them.

    That is 0 for Python's.
    """
    threads = torch.get_num_threads() if nanoseconds >= SERIAL else 1
    return threads, 0 if threads == 1 or forked() else openmp()


def run(task: Callable[[int, int], Any], ranges: Sequence[tuple[int, int]], threads: int) -> None:
    """Call ``task(begin, end)`` for every range, on this thread and others that Python started.

    Ranges are taken one by one by whichever thread is free. The first error of a task is raised
    when all have stopped.
    """
    if threads <= 1 or len(ranges) <= 1:
        for begin, end in ranges:
            task(begin, end)
        return
    waiting, errors = deque(ranges), deque[BaseException]()

    def work() -> None:
        try:
            while True:
                try:
                    begin, end = waiting.popleft()
                except IndexError:
                    return
                task(begin, end)
        except BaseException as error:  # noqa: BLE001 - raised when all have stopped
            errors.append(error)

    others: list[Future[None]] = []
    with contextlib.suppress(RuntimeError):  # at the interpreter's end no thread can be had
        others.extend(_pool(threads - 1).submit(work) for _ in range(min(threads, len(ranges)) - 1))
    work()
    for other in others:
        if not other.cancel():  # one that never started has nothing left to do
            other.result()
    if errors:
        raise errors[0]


@functools.cache
def openmp() -> int:
    """Return where OpenMP starts threads, for `parallel.share_out`; 0 if torch brings none."""
    from kanlens.model.kernels.internals import gomp_parallel  # numba is loaded by now

    return gomp_parallel()


def split(count: int, parts: int) -> list[tuple[int, int]]:
    """Cut range(count) into about equal parts."""
    parts = min(parts, count)
    return list(itertools.pairwise(count * j // max(1, parts) for j in range(parts + 1)))
