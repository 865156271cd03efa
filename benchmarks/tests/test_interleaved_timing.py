"""Tasks take turns: every round has all of them, in a drawn order, and slow ones sit out."""

import numpy as np
import pytest
import torch

from benchmarks.interleaved_timing import Schedule, interleave, quartiles, ratio


class Clock:
    """Time that passes only when a task says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def tasks(clock, seconds, log):
    def make(name):
        def task():
            clock.now += seconds[name]
            log.append(name)

        return task

    return {name: make(name) for name in seconds}


def run(seconds, schedule, seed=0):
    clock, log = Clock(), []
    times = interleave(
        tasks(clock, seconds, log),
        schedule,
        generator=torch.Generator().manual_seed(seed),
        clock=clock,
    )
    return times, log


def test_times_are_those_of_the_tasks():
    times, _ = run({"a": 0.25, "b": 0.5}, Schedule(rounds=4, seconds=100))
    np.testing.assert_allclose(times["a"], [0.25] * 4)
    np.testing.assert_allclose(times["b"], [0.5] * 4)
    assert ratio(times["b"], times["a"]) == pytest.approx(2)


def test_a_round_has_every_task_once_and_the_order_is_drawn():
    seconds = dict.fromkeys("abcd", 1.0)  # slow: one call for each turn
    _, log = run(seconds, Schedule(rounds=6, least=6, seconds=1000))
    rounds = ["".join(log[4 + 4 * i : 8 + 4 * i]) for i in range(6)]  # after a call each
    assert all(sorted(turns) == list("abcd") for turns in rounds)
    assert len(set(rounds)) > 1
    assert run(seconds, Schedule(rounds=6, seconds=1000))[1] == log
    assert run(seconds, Schedule(rounds=6, seconds=1000), seed=1)[1] != log


def test_a_quick_task_fills_its_turn_after_a_call_that_is_not_timed():
    _, log = run({"a": 0.001}, Schedule(rounds=1, least=1, turn=0.01))
    assert len(log) == 2 + 1 + 10


def test_a_task_that_used_up_its_share_sits_out_after_the_least_rounds():
    times, _ = run({"slow": 10.0, "quick": 0.2}, Schedule(rounds=9, least=3, seconds=20))
    assert np.isfinite(times["slow"]).tolist() == [True] * 3 + [False] * 6
    assert np.isfinite(times["quick"]).all()
    assert ratio(times["slow"], times["quick"]) == pytest.approx(50)


def test_rounds_end_when_every_task_has_used_up_its_share():
    times, _ = run({"a": 10.0, "b": 10.0}, Schedule(rounds=50, least=2, seconds=1))
    assert len(times["a"]) == len(times["b"]) == 2


def test_ratios_are_taken_within_rounds():
    slow_machine = np.array([1.0, 10.0, 100.0])
    assert ratio(2 * slow_machine, slow_machine) == 2
    drifting = np.array([1.0, 1.0, 1.0])
    assert ratio(2 * slow_machine, drifting) == 20  # the median of 2, 20 and 200


def test_quartiles_of_nothing_are_not_a_number():
    assert np.isnan(quartiles(np.array([np.nan]))).all()
