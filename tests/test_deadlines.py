"""Limits in seconds."""

import math
from types import SimpleNamespace

import pytest

from kanlens import _runtime as runtime
from kanlens._runtime import Deadline


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(runtime, "time", SimpleNamespace(monotonic=lambda: now.time))
    return now


def test_time_passes(clock):
    deadline = Deadline.after(10.0)
    assert (deadline.left, deadline.spent, deadline.passed) == (10.0, 0.0, False)
    clock.time += 4
    assert (deadline.left, deadline.spent, deadline.passed) == (6.0, 0.4, False)
    clock.time += 6
    assert (deadline.left, deadline.spent, deadline.passed) == (0.0, 1.0, True)
    clock.time += 5
    assert (deadline.left, deadline.spent, deadline.passed) == (-5.0, 1.5, True)


def test_parts_begin_now_and_end_with_the_whole(clock):
    deadline = Deadline.after(10.0)
    clock.time += 4
    part = deadline.portion(1 / 3)
    assert (part.start, part.end) == (104.0, 106.0)
    assert deadline.portion(1.0).end == deadline.end
    clock.time += 7
    late = deadline.portion(0.5)
    assert late.passed
    assert late.spent == math.inf


def test_without_a_limit_nothing_is_late(clock):
    deadline = Deadline.after(None).portion(1 / 3)
    clock.time += 1e9
    assert (deadline.left, deadline.spent, deadline.passed) == (math.inf, 0.0, False)


def test_steps_end_before_one_would_be_late(clock):
    done = []
    for step, seconds in Deadline.after(10.0).paced(zip("abcdef", (1, 4, 2, 2, 2, 2), strict=True)):
        clock.time += seconds
        done.append(step)
    assert done == ["a", "b", "c"]  # 3 are left, and one took 4
    assert list(Deadline.after(3.0).paced("ab", 3.5)) == []
    assert list(Deadline.after(-1.0).paced("ab")) == []
