"""Order in which formulas are refitted."""

from __future__ import annotations

import heapq
import itertools

from kanlens.discovery import _settings as tuned
from kanlens.discovery._pareto_front import Front
from kanlens.symbolic._composition import Expr


class PriorityFront:
    """Front that refits accurate formulas at once and queues the others."""

    def __init__(self, front: Front) -> None:
        self.front, self.deadline, self.is_new = front, front.deadline, front.is_new
        self._queue: list[tuple[float, int, Expr]] = []
        self._count = itertools.count()  # breaks ties by order

    @property
    def done(self) -> bool:
        """True if the search may end."""
        return self.front.done

    def submit(self, expression: Expr) -> None:
        """Submit an accurate formula to the front, and queue another."""
        error = self.front.error_of(expression)
        if error < tuned.REFIT_NOW_ERROR:
            self.front.submit(expression)
        elif error < tuned.MAX_START_ERROR:
            heapq.heappush(self._queue, (error, next(self._count), expression))

    def refit(self, count: int | None = None) -> None:
        """Submit `count` formulas of the queue, by default all."""
        for _ in range(len(self._queue) if count is None else min(count, len(self._queue))):
            if self.done:
                return
            self.front.submit(heapq.heappop(self._queue)[-1])
