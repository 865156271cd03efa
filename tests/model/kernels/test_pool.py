"""The threads of the kernels: ranges, errors, those of torch and those of Python."""

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kanlens.model.kernels import pool


@pytest.fixture(autouse=True, scope="module", params=["torch's", "Python's"])
def threads_of(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "Python's":
            patch.setattr(pool, "_openmp", lambda: None)
        elif pool._openmp() is None:
            pytest.skip("torch brings no OpenMP that can be called")
        yield request.param


@given(st.integers(0, 5000), st.integers(1, 50), st.integers(1, 70))
def test_split_covers_everything_once(count, parts, multiple):
    found = pool.split(count, parts, multiple)
    assert [n for a, b in found for n in range(a, b)] == list(range(count))
    assert len(found) <= parts
    assert all(a % multiple == 0 for a, _ in found)
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


def test_only_long_work_is_shared_out_among_the_threads_of_torch():
    def parts(nanoseconds):
        found = []
        pool.share(lambda begin, end: found.append((begin, end)), (), 100, nanoseconds)
        return len(found)

    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            assert parts(pool.SERIAL) == (1 if threads == 1 else threads * pool.CHUNKS)
            assert parts(pool.SERIAL - 1) == 1
    finally:
        torch.set_num_threads(before)


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
