"""The threads of the kernels: ranges, errors, how many take part."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kanlens.model.kernels import _pool as pool


def test_several_threads_take_part():
    barrier, names = threading.Barrier(3, timeout=10), set()

    def task(begin: int, end: int) -> None:
        names.add(threading.current_thread().name)
        barrier.wait()

    pool.run(task, [(0, 1), (1, 2), (2, 3)], threads=3)
    assert len(names) == 3


@pytest.mark.parametrize("bad", range(4))
def test_an_error_reaches_the_caller_when_all_have_stopped(bad):
    running: list[int] = []

    def task(begin: int, end: int) -> None:
        running.append(begin)
        try:
            time.sleep(0.005)
            if begin == bad:
                raise ZeroDivisionError(begin)
        finally:
            running.remove(begin)

    with pytest.raises(ZeroDivisionError, match=str(bad)):
        pool.run(task, [(j, j + 1) for j in range(4)], threads=4)
    assert running == []
    done: list[int] = []
    pool.run(lambda a, b: done.append(a), [(0, 1), (1, 2)], threads=2)  # it still works
    assert sorted(done) == [0, 1]


def test_where_no_thread_starts_the_caller_does_all(monkeypatch):
    ended = ThreadPoolExecutor()
    ended.shutdown()  # as it is at the interpreter's end
    monkeypatch.setattr(pool, "_pool", lambda threads: ended)
    done: list[int] = []
    pool.run(lambda a, b: done.append(a), [(0, 1), (1, 2)], threads=2)
    assert done == [0, 1]


@pytest.mark.parametrize("openmp", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_only_long_work_is_shared_out_among_threads(count, openmp, monkeypatch):
    monkeypatch.setattr(pool, "openmp", lambda: openmp)
    calls = []

    def kernel(arguments, span, team):
        calls.append((span, team))

    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for nanoseconds in (pool.SERIAL - 1, pool.SERIAL):
            calls.clear()
            pool.share(kernel, (), count, nanoseconds)
            spans = sorted(span for span, _ in calls)
            many = threads > 1 and nanoseconds == pool.SERIAL
            assert [n for a, b, _ in spans for n in range(a, b)] == list(range(count))
            assert len(spans) == (min(threads, count) if many and not openmp else 1)
            team = (threads, 1) if many and openmp else (1, 0)
            assert {found for _, found in calls} <= {team}
            if many and openmp and count == 100:
                assert -(-100 // spans[0][2]) in range(threads, threads * pool.CHUNKS + 1)
