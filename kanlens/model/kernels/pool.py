"""Thread pool of the kernels, with as many threads as torch may use.

numba's own threads cannot be started from several Python threads, or after a fork, with every
threading layer; kernels that release the interpreter's lock need nothing but Python's.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

SERIAL = 100_000  # nanoseconds of work below which waking another thread costs what it saves
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


def _pool(helpers: int) -> ThreadPoolExecutor:
    """Return the pool of so many threads; setdefault is one step, whoever else asks."""
    if helpers not in _pools:
        _pools.setdefault(helpers, ThreadPoolExecutor(helpers, thread_name_prefix="kanlens"))
    return _pools[helpers]


def share(
    task: Callable[..., Any],
    arguments: tuple[Any, ...],
    count: int,
    nanoseconds: float,
    *,
    multiple: int = 1,
    chunks: int = CHUNKS,
) -> None:
    """Call ``task(*arguments, begin, end)`` on parts of range(count), as `split` cuts it.

    There is one part where work that takes one thread so long deserves no other, else `chunks` for
    each thread.
    """
    threads = torch.get_num_threads() if nanoseconds >= SERIAL else 1
    if threads <= 1:
        if count:
            task(*arguments, 0, count)
        return
    run(partial(task, *arguments), split(count, threads * chunks, multiple), threads)


def run(task: Callable[[int, int], Any], ranges: Sequence[tuple[int, int]], threads: int) -> None:
    """Call ``task(begin, end)`` for every range, on this thread and others.

    Ranges are taken one by one by whichever thread is free. The first error of a task is raised
    when all have stopped.
    """
    if threads <= 1 or len(ranges) <= 1:
        for begin, end in ranges:
            task(begin, end)
        return
    waiting = deque(ranges)

    def work() -> None:
        while True:
            try:
                begin, end = waiting.popleft()
            except IndexError:
                return
            task(begin, end)

    helpers = min(threads, len(ranges)) - 1
    pool = _pool(threads - 1)
    others: list[Future[None]] = []
    with contextlib.suppress(RuntimeError):  # at the interpreter's end no thread can be had
        others.extend(pool.submit(work) for _ in range(helpers))
    try:
        work()
    finally:
        for other in others:
            other.cancel()  # one that never started has nothing left to do
        errors = [other.exception() for other in others if not other.cancelled()]
    for error in errors:
        if error is not None:
            raise error


def split(count: int, parts: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Cut range(count) into about equal parts whose inner ends are multiples of `multiple`."""
    if parts <= 1:
        return [(0, count)] if count else []
    blocks = -(-count // multiple)
    parts = max(1, min(parts, blocks))
    ends = [min(count, (blocks * (j + 1) // parts) * multiple) for j in range(parts)]
    return [(a, b) for a, b in itertools.pairwise([0, *ends]) if b > a]
