"""Long work: a bar on stderr while it goes on, Ctrl-C that keeps what was found, and deadlines.

Searches ask a `Deadline`; what they call asks `check_time` before every step that may take long.
"""

from __future__ import annotations

import math
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kanlens.display import escaped
from kanlens.errors import InterruptedWarning

T = TypeVar("T")

unfinished: set[Path] = set()  # temporary files and folders, removed when a command is left
_passing: list[None] = []  # one for each block that no interrupt may be kept in


@contextmanager
def progress_bar(
    description: str, total: int, *, shown: bool | None = None
) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs, and take it away afterwards.

    Yields ``advance(steps=1, note="")``, which moves the bar and sets the words behind it. Shown
    where stderr is a terminal, unless `shown` is False.
    """
    if shown is False:
        yield lambda steps=1, note="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar:
        task = bar.add_task(description, total=total, note="")
        yield lambda steps=1, note="": bar.update(task, advance=steps, note=note and escaped(note))


@dataclass
class Interruption:
    """Whether work was interrupted; the parts that follow then leave out what takes long."""

    happened: bool = False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Leave the block at the first interrupt, and remember it; the next one goes through.

        Work in the block that an interrupt cuts short must leave behind nothing half done.
        """
        try:
            yield
        except KeyboardInterrupt:
            if self.happened or _passing:
                raise
            self.happened = True

    def warn(self, call: str, advice: str = "What was found is returned", **settings: Any) -> None:
        """Say in one line that a result is not what it could have been."""
        if self.happened:
            fields = call, "to come to an end", "an interrupt", advice
            warnings.warn(InterruptedWarning(*fields, **settings), stacklevel=3)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Have an interrupt wait for the end of the block: what is imported in it is imported whole."""
    waiting: list[int] = []
    here = threading.current_thread() is threading.main_thread()  # which alone gets signals
    if here:
        before = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGINT, before)
    for number in waiting:
        signal.raise_signal(number)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a temporary folder that goes with the block, or with a command that is left."""
    with tempfile.TemporaryDirectory(prefix="kanlens-") as name:
        folder = Path(name)
        unfinished.add(folder)
        try:
            yield folder
        finally:
            unfinished.discard(folder)


@contextmanager
def interrupts_pass() -> Iterator[None]:
    """Let an interrupt end the whole block: no call in it returns what it found until then."""
    _passing.append(None)
    try:
        yield
    finally:
        _passing.pop()


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


_end: ContextVar[float] = ContextVar("kanlens_time_limit", default=math.inf)


@contextmanager
def ending(end: float) -> Iterator[None]:
    """Let the work inside the block be broken off once a point of time is over.

    The block is then left without an error. Inside another such block the earlier end counts, and
    where that is the other's, both are left.
    """
    outer = _end.get()
    token = _end.set(min(outer, end))
    try:
        yield
    except OutOfTimeError:
        if time.monotonic() >= outer:
            raise
    finally:
        _end.reset(token)


def check_time() -> None:
    """Break off the work around where its time is over."""
    if time.monotonic() >= _end.get():
        raise OutOfTimeError
