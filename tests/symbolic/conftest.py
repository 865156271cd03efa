"""The time of the process, as other work has the rest, and a clock that tests move."""

import time

import pytest


@pytest.fixture(autouse=True)
def time_of_the_process(monkeypatch):
    """Have searches count what they work, so that they find the same on a busy machine."""
    monkeypatch.setattr(time, "monotonic", time.process_time)


class Clock:
    """A clock that moves only when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now

    def during(self, seconds, function):
        """Return a function whose every call takes so many seconds."""

        def taking(*args, **options):
            self.now += seconds
            return function(*args, **options)

        return taking


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    monkeypatch.setattr(time, "thread_time", made)
    return made
