"""When work that was given a limit in seconds has to end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


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
    def spent(self) -> float:
        """Share of the time that is gone; above 1 when it is over, 0 when there is no limit."""
        whole = self.end - self.start
        return (time.monotonic() - self.start) / whole if whole > 0 else math.inf

    def portion(self, share: float) -> Deadline:
        """Return the deadline, from now, of a part of what is left.

        Examples
        --------
        >>> Deadline.after(60.0).portion(0.5).left < 31
        True
        """
        return Deadline.after(share * max(self.left, 0.0))


NEVER = Deadline(0.0, math.inf)
