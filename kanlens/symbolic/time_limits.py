"""Work that ends in the middle when its time is over.

A search with a time limit calls what knows nothing of it: least squares, rules of algebra, models
of rows. These ask `check_time` before every step that may take long; what cannot be broken off is
begun only where `work_in` the time that is left has room for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

_SETTLED = 0.2  # seconds after which a block knows how much of the time it gets


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

    Parameters
    ----------
    end : float
        As `time.monotonic` tells it.

    Examples
    --------
    >>> with ending(time.monotonic() - 1.0):
    ...     check_time()
    ...     print("never")
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
    """Break off the work around where its time is over.

    Raises
    ------
    OutOfTimeError
        Inside a block of `ending`, which takes it in.
    """
    if time.monotonic() >= _block.get().end:
        raise OutOfTimeError


def work_in(seconds: float) -> float:
    """Return how long one processor works in some time, as far as others leave it to this thread.

    Judged by what the thread got since the block of `ending` began; all of it outside of any.

    Examples
    --------
    >>> work_in(3.0)
    3.0
    """
    block = _block.get()
    passed = time.monotonic() - block.begin
    if passed < _SETTLED:
        return seconds
    return seconds * min((time.thread_time() - block.worked) / passed, 1.0)
