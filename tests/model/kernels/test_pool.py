"""The threads of the kernels: ranges, errors, how many take part."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kanlens.model.kernels import pool


@given(st.integers(0, 5000), st.integers(1, 50))
def test_split_covers_everything_once(count, parts):
    found = pool.split(count, parts)
    assert [n for a, b in found for n in range(a, b)] == list(range(count))
    assert len(found) == min(parts, count)
    assert all(b > a for a, b in found)


@given(st.integers(1, 500), st.integers(1, 20), st.integers(1, 6))
def test_run_does_every_range_once(count, parts, threads):
    done: list[int] = []
    pool.run(lambda a, b: done.extend(range(a, b)), pool.split(count, parts), threads)
    assert sorted(done) == list(range(count))


def test_nothing_to_do_is_nothing():
    pool.run(lambda a, b: pytest.fail("called"), [], threads=4)


def test_several_threads_take_part():
    barrier, names = threading.Barrier(3, timeout=10), set()

    def task(begin: int, end: int) -> None:
        names.add(threading.current_thread().name)
        barrier.wait()

    pool.run(task, [(0, 1), (1, 2), (2, 3)], threads=3)
    assert len(names) == 3 and threading.current_thread().name in names


def test_one_thread_is_the_callers():
    names = set()
    pool.run(lambda a, b: names.add(threading.get_ident()), pool.split(9, 9), threads=1)
    assert names == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("bad", range(4))
def test_an_error_reaches_the_caller_when_all_have_stopped(threads, bad):
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
        pool.run(task, [(j, j + 1) for j in range(4)], threads)
    assert running == []
    done: list[int] = []
    pool.run(lambda a, b: done.append(a), [(0, 1), (1, 2)], threads)  # it still works
    assert sorted(done) == [0, 1]


@pytest.mark.parametrize("openmp", [0, 1])
def test_only_long_work_is_shared_out_among_the_threads_of_torch(openmp, monkeypatch):
    monkeypatch.setattr(pool, "openmp", lambda: openmp)
    found = []

    def kernel(given, span, team):
        found.append((given, span, team))

    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for nanoseconds in (pool.SERIAL - 1, pool.SERIAL):
            found.clear()
            pool.share(kernel, ("given",), 100, nanoseconds)
            spans = sorted(span for _, span, _ in found)
            many = threads > 1 and nanoseconds == pool.SERIAL
            assert [n for a, b, _ in spans for n in range(a, b)] == list(range(100))
            assert len(spans) == (threads * pool.CHUNKS if many and not openmp else 1)
            assert {team for _, _, team in found} == {(threads, 1) if many and openmp else (1, 0)}
            if many and openmp:
                assert -(-100 // spans[0][2]) in range(threads, threads * pool.CHUNKS + 1)


def test_calls_from_many_threads_at_once_finish():
    totals = []

    def call() -> None:
        for _ in range(20):
            done: list[int] = []
            pool.run(lambda a, b, done=done: done.extend(range(a, b)), pool.split(40, 8), threads=3)
            totals.append(sum(done))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert totals == 120 * [780]


def test_a_run_inside_a_run_finishes():
    done: list[int] = []

    def inner(a: int, b: int) -> None:
        pool.run(lambda c, d: done.append(c), [(a, b), (b, b + 1)], threads=2)

    finished = threading.Event()

    def outer() -> None:
        pool.run(inner, [(0, 1), (10, 11), (20, 21)], threads=2)
        finished.set()

    thread = threading.Thread(target=outer, daemon=True)
    thread.start()
    assert finished.wait(20)
    thread.join(20)
    assert sorted(done) == [0, 1, 10, 11, 20, 21]
