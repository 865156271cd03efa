"""When work that was given a limit in seconds has to end."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Deadline:
    """The time that work may take, on the monotonic clock.

    Attributes
    ----------
    start, end : float
        Seconds; the end of work without a limit is infinite.

    Examples
    --------
    >>> Deadline.after(60.0).passed, Deadline.after(None).left
    (False, inf)
    """

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
        """Return the deadline, from now, of a part of what is left beyond `keep` seconds.

        Examples
        --------
        >>> Deadline.after(60.0).portion(0.5).left < 31
        True
        """
        return Deadline.after(share * max(self.left - keep, 0.0))

    def paced(self, steps: Iterable[T], seconds: float = 0.0) -> Iterator[T]:
        """Go through steps of work as long as another one would end in time.

        Parameters
        ----------
        steps : iterable
            What is worked at between one step and the next counts as the time that it takes.
        seconds : float
            What one takes at least; later, the longest that was seen.

        Examples
        --------
        >>> list(Deadline.after(None).paced("ab")), list(Deadline.after(60.0).paced("ab", 61.0))
        (['a', 'b'], [])
        """
        for step in steps:
            before = self.left
            if before <= seconds:
                return
            yield step
            if before < math.inf:
                seconds = max(seconds, before - self.left)


NEVER = Deadline(0.0, math.inf)
