"""When work that was given a limit in seconds has to end.

Searches ask a `Deadline`; what they call asks `check_time` before every step that may take long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

T = TypeVar("T")

_SETTLED = 0.2  # seconds after which a block knows how much of the time it gets


@dataclass(frozen=True)
class Deadline:
    """The time that work may take, on the monotonic clock."""

    start: float
    end: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline that many seconds from now; None: there is none."""
        now = time.monotonic()
        return cls(now, math.inf if seconds is None else now + seconds)

    @property
    def left(self) -> float:
        """Seconds that are left; negative when it is over."""
        return self.end - time.monotonic()

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return self.left <= 0

    @property
    def elapsed(self) -> float:
        """Seconds that have passed."""
        return time.monotonic() - self.start

    @property
    def spent(self) -> float:
        """Share of the time that is gone; above 1 when it is over, 0 when there is no limit."""
        whole = self.end - self.start
        return self.elapsed / whole if whole > 0 else math.inf

    def portion(self, share: float, *, keep: float = 0.0) -> Deadline:
        """Return the deadline, from now, of a part of what is left beyond `keep` seconds."""
        return Deadline.after(share * max(self.left - keep, 0.0))

    def paced(self, steps: Iterable[T], seconds: float = 0.0) -> Iterator[T]:
        """Go through steps of work as long as another one would end in time.

        One takes `seconds` at least, and later the longest that was seen.
        """
        for step in steps:
            before = self.left
            if before <= seconds:
                return
            yield step
            if before < math.inf:
                seconds = max(seconds, before - self.left)


NEVER = Deadline(0.0, math.inf)


class OutOfTimeError(Exception):
    """The time is over; nothing is lost by it."""


class _Block(NamedTuple):
    """When the work must end, when it began, and what this thread had worked by then."""

    end: float
    begin: float
    worked: float


_NO_LIMIT = _Block(math.inf, math.inf, math.inf)
_block: ContextVar[_Block] = ContextVar("kanlens_time_limit", default=_NO_LIMIT)


@contextmanager
def ending(end: float) -> Iterator[None]:
    """Let the work inside the block be broken off once a point of time is over.

    The block is then left without an error. Inside another such block the earlier end counts, and
    where that is the other's, both are left.
    """
    outer = _block.get()
    inner = _Block(min(outer.end, end), time.monotonic(), time.thread_time())
    token = _block.set(inner if outer is _NO_LIMIT else outer._replace(end=inner.end))
    try:
        yield
    except OutOfTimeError:
        if time.monotonic() >= outer.end:
            raise
    finally:
        _block.reset(token)


def check_time() -> None:
    """Break off the work around where its time is over."""
    if time.monotonic() >= _block.get().end:
        raise OutOfTimeError


def work_in(seconds: float) -> float:
    """Return how long one processor works in some time, as far as others leave it to this thread.

    Judged by what the thread got since the block of `ending` began; all of it outside of any.
    """
    block = _block.get()
    passed = time.monotonic() - block.begin
    if passed < _SETTLED:
        return seconds
    return seconds * min((time.thread_time() - block.worked) / passed, 1.0)
