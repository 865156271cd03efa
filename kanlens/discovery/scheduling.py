"""Scheduling of a search: budgets of time, a queue of formulas by error, deferred work."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from kanlens.discovery import settings as tuned
from kanlens.discovery.front import Front
from kanlens.long_work import Deadline
from kanlens.symbolic.composition import Expr


class BudgetedFront:
    """Front as a part of the search uses it: with a share of the time that is left."""

    def __init__(self, front: Front | BudgetedFront, share: float = 1.0) -> None:
        self.whole: Front = front if isinstance(front, Front) else front.whole
        self.deadline: Deadline = front.deadline.portion(share)

    @property
    def done(self) -> bool:
        """Whether this part of the search may end."""
        return self.deadline.passed or self.whole.done

    def is_new(self, *key: Expr) -> bool:
        """Return whether the whole search has not begun a piece of work, and remember it."""
        return self.whole.is_new(*key)

    def offer(self, expression: Expr) -> None:
        """Offer a formula to the whole front."""
        if not self.done:
            self.whole.offer(expression)


class PriorityFront(BudgetedFront):
    """Front that refits accurate formulas at once and queues the others by their error."""

    def __init__(self, front: Front | BudgetedFront, deferred: Deferred | None = None) -> None:
        super().__init__(front)
        self._deferred = deferred
        self._queue: list[tuple[float, int, Expr]] = []
        self._count = itertools.count()  # breaks ties by order

    def offer(self, expression: Expr) -> None:
        """Offer an accurate formula to the whole front, and queue another."""
        error = self.whole.error_of(expression)
        if error < tuned.NEAR_START:
            super().offer(expression)
        elif error < tuned.HOPELESS:
            heapq.heappush(self._queue, (error, next(self._count), expression))

    def refit(self, count: int | None = None) -> None:
        """Offer the first `count` formulas of the queue, by default all, to the whole front."""
        for _ in range(len(self._queue) if count is None else min(count, len(self._queue))):
            if self.done:
                return
            super().offer(heapq.heappop(self._queue)[-1])

    def run_deferred(self) -> None:
        """Run the deferred work of the search if it is due."""
        if self._deferred is not None and self._deferred.is_due(self.whole.pieces):
            self._deferred.run(self)


class Deferred:
    """Work that is run once: after `count` pieces of the search, or at its end.

    Pieces are counted, not timed, so that the order of work does not depend on the machine.
    """

    def __init__(
        self,
        work: Callable[[BudgetedFront], object],
        count: int,
        *,
        more: Callable[[], int] = lambda: 0,  # pieces to wait for after `count`; called once
        share: float,  # of the time that is left then
    ) -> None:
        self._work: Callable[[BudgetedFront], object] | None = work
        self._more: Callable[[], int] | None = more
        self._count, self._share = count, share

    def is_due(self, pieces: int) -> bool:
        """Return whether the search has begun pieces enough."""
        if pieces > self._count and self._more is not None:
            self._count, self._more = self._count + self._more(), None
        return pieces > self._count

    def run(self, front: Front | BudgetedFront, share: float | None = None) -> None:
        """Run the work, by default in its share of the time, unless that or the search is done."""
        work, self._work = self._work, None
        if work is not None and not front.done:
            work(BudgetedFront(front, self._share if share is None else share))
