"""One thread: the tensors of these tests are small."""

import time

import pytest

from kanlens.threads import one_thread


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


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
