"""Who offers when: a share of the time, a queue by promise, work that waits for its turn."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from kanlens.discovery import settings as tuned
from kanlens.discovery.front import Front
from kanlens.symbolic.composition import Expr


class TimeSlice(Front):
    """Front with its own share of the time budget; all else is that of the whole front."""

    def __init__(self, front: Front, share: float) -> None:
        self._front, self.deadline = front, front.deadline.portion(share)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._front, name)

    @property
    def done(self) -> bool:
        """Whether this part of the work may end."""
        return self.deadline.passed or self._front.done

    def is_new(self, *key: Expr) -> bool:
        """Say whether a piece of work comes for the first time to the whole front."""
        return self._front.is_new(*key)

    def offer(self, expression: Expr) -> None:
        """Offer a formula to the whole front."""
        if not self.done:
            self._front.offer(expression)


class Queue(TimeSlice):
    """Front to which formulas that are not yet near wait to be offered, the nearest first."""

    def __init__(self, front: Front) -> None:
        self._front, self.deadline = front, front.deadline
        self._waiting: list[tuple[float, int, Expr]] = []
        self._count = itertools.count()  # ties go by order

    @property
    def done(self) -> bool:
        """Whether the search may end."""
        return self._front.done

    def offer(self, expression: Expr) -> None:
        """Offer a formula that is near at once, and let others wait."""
        error = self._front.error_of(expression)
        if error < tuned.NEAR_START:
            self._front.offer(expression)
        elif error < tuned.HOPELESS:
            heapq.heappush(self._waiting, (error, next(self._count), expression))

    def refit(self, most: int | None = None) -> None:
        """Offer as many of those that wait, by default all."""
        for _ in range(len(self._waiting) if most is None else min(most, len(self._waiting))):
            if self.done:
                return
            self._front.offer(heapq.heappop(self._waiting)[-1])


class DeferredWork(TimeSlice):
    """Front whose `done` runs deferred work, once, after so many pieces of the other work.

    These are counted, not timed, so that the order of work does not depend on the machine. When
    they are done, `more` says of how many it waits for in addition.
    """

    def __init__(
        self,
        front: Front,
        after: int,
        share: float,
        work: Callable[[Front], object],
        more: Callable[[], int] = lambda: 0,
    ) -> None:
        super().__init__(front, 1.0)
        self._left, self._share = after, share
        self._more: Callable[[], int] | None = more
        self._work: Callable[[Front], object] | None = work

    def is_new(self, *key: Expr) -> bool:
        """Say whether a piece of work comes for the first time, and count it."""
        new = self._front.is_new(*key)
        self._left -= new
        return new

    @property
    def done(self) -> bool:
        """Whether the search may end; runs the deferred work when it is due."""
        if self._left < 0 and self._more is not None:
            self._left, self._more = self._left + self._more(), None
        if self._left < 0:
            self.run_pending(self._share)
        return self._front.done

    def run_pending(self, share: float = 1.0) -> None:
        """Do the other work unless it has been done; by default it may take all that is left."""
        work, self._work = self._work, None
        if work is not None and not self._front.done:
            work(TimeSlice(self._front, share))
