"""Parts of a search that share a front and its time."""

from __future__ import annotations

from collections.abc import Callable

from kanlens.deadlines import Deadline
from kanlens.discovery.entries import Entry
from kanlens.discovery.front import Front
from kanlens.symbolic.composition import Expr


class Portion(Front):
    """A front as one part of the work sees it: it is done when this part's time is over.

    Formulas go to the whole front, which also knows what was tried.

    Parameters
    ----------
    front : Front
    share : float
        Of the time that is left.
    """

    def __init__(self, front: Front, share: float) -> None:
        self._front = front
        self.exact, self.symbols, self.x, self.y = front.exact, front.symbols, front.x, front.y
        self.fitted, self.judged = front.fitted, front.judged
        self.deadline = Deadline.after(share * max(front.deadline.left, 0.0))

    @property
    def entries(self) -> list[Entry]:  # type: ignore[override]
        """The formulas so far."""
        return self._front.entries

    @property
    def done(self) -> bool:
        """Whether this part of the work may end."""
        return self.deadline.passed or self._front.done

    def is_new(self, *key: Expr) -> bool:
        """Say whether a piece of work comes for the first time, and remember it."""
        return self._front.is_new(*key)

    def offer(self, expression: Expr) -> None:
        """Offer a formula to the whole front."""
        if not self.done:
            self._front.offer(expression)

    def chosen(self) -> Entry:
        """Return the formula with the best balance of error and length."""
        return self._front.chosen()


class Interlude(Portion):
    """A front that lets in other work once a share of the time is over.

    A search looks often whether it is done. When it does so for the first time after the share
    is over, the other work is done there and then; afterwards the search goes on.

    Parameters
    ----------
    front : Front
    first : float
        Share of the time that is left after which the work is due.
    share : float
        Of the time that is left then, for the work.
    work : callable
        Takes a front.
    """

    def __init__(
        self, front: Front, first: float, share: float, work: Callable[[Front], object]
    ) -> None:
        super().__init__(front, first)
        self._due, self.deadline = self.deadline, front.deadline
        self._share = share
        self._work: Callable[[Front], object] | None = work

    @property
    def done(self) -> bool:
        """Whether the search may end; see above for what else may happen."""
        if self._due.passed:
            self._catch_up(self._share)
        return self._front.done

    def catch_up(self) -> None:
        """Do the other work unless it has been done; it may take all the time that is left."""
        self._catch_up(1.0)

    def _catch_up(self, share: float) -> None:
        work, self._work = self._work, None
        if work is not None and not self._front.done:
            work(Portion(self._front, share))
