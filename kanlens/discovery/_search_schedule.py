"""Scheduling of a search: time budgets, a priority queue, deferred work."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from kanlens._runtime import Deadline
from kanlens.discovery import _settings as tuned
from kanlens.discovery._pareto_front import Front
from kanlens.symbolic._composition import Expr


class BudgetedFront:
    """A front with a share of the time that is left."""

    def __init__(self, front: Front | BudgetedFront, share: float = 1.0) -> None:
        self.whole: Front = front if isinstance(front, Front) else front.whole
        self.deadline: Deadline = front.deadline.portion(share)

    @property
    def done(self) -> bool:
        """True if this part of the search may end."""
        return self.deadline.passed or self.whole.done

    def submit(self, expression: Expr) -> None:
        """Submit a formula to the whole front."""
        if not self.done:
            self.whole.submit(expression)


class PriorityFront(BudgetedFront):
    """Front that refits accurate formulas at once and queues the others."""

    def __init__(self, front: Front | BudgetedFront, deferred: Deferred | None = None) -> None:
        super().__init__(front)
        self.deferred = deferred
        self._queue: list[tuple[float, int, Expr]] = []
        self._count = itertools.count()  # breaks ties by order

    def submit(self, expression: Expr) -> None:
        """Submit an accurate formula to the whole front, and queue another."""
        error = self.whole.error_of(expression)
        if error < tuned.REFIT_NOW_ERROR:
            super().submit(expression)
        elif error < tuned.MAX_START_ERROR:
            heapq.heappush(self._queue, (error, next(self._count), expression))

    def refit(self, count: int | None = None) -> None:
        """Submit `count` formulas of the queue, by default all."""
        for _ in range(len(self._queue) if count is None else min(count, len(self._queue))):
            if self.done:
                return
            super().submit(heapq.heappop(self._queue)[-1])


class Deferred:
    """Work that runs once, when it is due or at the end of the search.

    Pieces are counted, not timed, so that the order of work does not depend on the machine.
    """

    def __init__(self, work: Callable[[BudgetedFront], object], due: Callable[[int], bool]) -> None:
        self._work, self._due, self._waits = work, due, True

    def run(self, front: Front | BudgetedFront, share: float = 1.0) -> None:
        """Run the work in a share of the time, unless the search is done."""
        if self._waits and not front.done:
            self._waits = False
            self._work(BudgetedFront(front, share))

    def run_if_due(self, front: BudgetedFront) -> None:
        """Run the work if the search has begun enough pieces."""
        if self._waits and self._due(front.whole.pieces):
            self.run(front, tuned.NETWORKS)
