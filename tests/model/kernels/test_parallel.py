"""Loops on threads that compiled code starts: every place once, errors, calls within calls."""

import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kanlens.model.kernels import _pool as pool
from kanlens.model.kernels._compiling import inner, jit
from kanlens.model.kernels._parallel import FAILED, share_out

pytestmark = pytest.mark.skipif(not pool.openmp(), reason="torch brings no OpenMP to call")


@inner
def add_one(numbers, factors, begin, end):
    (factor,) = factors
    for j in range(begin, end):
        if numbers[j] < 0:
            raise ValueError("below zero")
        numbers[j] += factor


@jit
def add(given, span, team):
    share_out(add_one, given, span, team)


@inner
def add_rows(numbers, width, team, begin, end):
    for j in range(begin, end):
        row = numbers[j * width : (j + 1) * width]
        share_out(add_one, (row, (1.0,)), (0, width, 1), team)


@jit
def add_in_turn(given, span, team):
    share_out(add_rows, given, span, team)


@inner
def add_all(numbers, more, begin, end):
    for j in range(begin, end):
        numbers[j] += more[j:].sum() + np.full(9, 1.0)[j % 9]


@jit
def add_made_here(numbers, span, team):
    share_out(add_all, (numbers, np.full(len(numbers), 2.0)), span, team)


def team(threads):
    return threads, pool.openmp()


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 70), st.integers(1, 5))
def test_every_place_of_a_range_is_visited_once(a, b, step, threads):
    numbers = np.zeros(300)
    add((numbers, (2.5,)), (a, b, step), team(threads))
    wanted = np.zeros(300)
    wanted[a : max(a, b)] = 2.5
    assert (numbers == wanted).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("bad", [0, 17, 49])
def test_an_error_reaches_the_caller_when_all_have_stopped(threads, bad):
    numbers = np.zeros(50)
    numbers[bad] = -1
    with pytest.raises(MemoryError, match=FAILED):
        add((numbers, (1.0,)), (0, 50, 1), team(threads))
    assert numbers[bad] == -1 and set(numbers) <= {-1, 0, 1}
    numbers[bad] = 0
    add((numbers, (1.0,)), (0, 50, 1), team(threads))  # it still works


def test_a_loop_within_a_loop():
    numbers = np.zeros(60)
    add_in_turn((numbers, 6, team(2)), (0, 10, 1), team(3))
    assert (numbers == 1).all()


@pytest.mark.slow  # many layers
def test_lent_arrays_live_until_the_loop_has_ended():
    for threads in (1, 2, 3) * 20:
        numbers = np.zeros(40)
        add_made_here(numbers, (0, 40, 1), team(threads))
        assert (numbers == 2 * np.arange(40, 0, -1) + 1).all()
        assert sys.getrefcount(numbers) == 2


def test_calls_from_many_threads_at_once():
    arrays = [np.zeros(1000) for _ in range(6)]

    def call(numbers):
        for _ in range(50):
            add((numbers, (1.0,)), (0, 1000, 10), team(3))

    threads = [threading.Thread(target=call, args=(each,)) for each in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert all((each == 50).all() for each in arrays)
