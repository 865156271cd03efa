"""Long work: progress bars, interrupts (Ctrl-C) with partial results, and deadlines."""

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
from typing import TYPE_CHECKING, Any, TypeVar

from kanlens._display import escaped
from kanlens.errors import InterruptedWarning

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

unfinished: set[Path] = set()  # temporary files and folders, removed when a command ends
_passing: list[None] = []  # an item for each block of `interrupts_pass`


@contextmanager
def progress_bar(
    description: str, total: int, *, shown: bool | None = None
) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs, if stderr is a terminal.

    Yields ``advance(steps=1, note="")``, which moves the bar and sets its note.
    """
    progress = None if shown is False else _terminal_bar()
    if progress is None:
        yield lambda steps=1, note="": None
        return
    with progress:
        task = progress.add_task(description, total=total, note="")
        yield lambda steps=1, note="": progress.update(task, advance=steps, note=escaped(note))


def _terminal_bar() -> Progress | None:
    """Return a progress bar for stderr; None if stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    return Progress(*columns, console=console, transient=True)


@dataclass
class Interruption:
    """State of interruptible work: `happened` after an interrupt."""

    happened: bool = False

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Leave the block at the first interrupt; raise the next one.

        Interrupted work in the block must leave a valid state.
        """
        try:
            yield
        except KeyboardInterrupt:
            if self.happened or _passing:
                raise
            self.happened = True

    def warn(self, call: str, advice: str = "Results so far are returned", **settings: Any) -> None:
        """Warn that a result is a partial one, if an interrupt happened."""
        if self.happened:
            fields = call, "to finish", "an interrupt", advice
            warnings.warn(InterruptedWarning(*fields, **settings), stacklevel=3)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Defer interrupts until the block ends, so that imports are complete."""
    if threading.current_thread() is not threading.main_thread():  # which alone gets signals
        yield
        return
    deferred: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: deferred.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    for number in deferred:
        signal.raise_signal(number)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder, removed with the block or the process."""
    with tempfile.TemporaryDirectory(prefix="kanlens-") as name:
        folder = Path(name)
        unfinished.add(folder)
        try:
            yield folder
        finally:
            unfinished.discard(folder)


@contextmanager
def interrupts_pass() -> Iterator[None]:
    """Raise interrupts in the block instead of returning partial results."""
    _passing.append(None)
    try:
        yield
    finally:
        _passing.pop()


@dataclass(frozen=True)
class Deadline:
    """A point in time at which work must end, on the monotonic clock."""

    start: float
    end: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline `seconds` from now; None sets no limit."""
        now = time.monotonic()
        return cls(now, math.inf if seconds is None else now + seconds)

    @property
    def left(self) -> float:
        """Seconds left; negative after the deadline."""
        return self.end - time.monotonic()

    @property
    def passed(self) -> bool:
        """True after the deadline."""
        return self.left <= 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @property
    def spent(self) -> float:
        """Share of the time used; above 1 after the end, 0 without a limit."""
        whole = self.end - self.start
        return self.elapsed / whole if whole > 0 else math.inf

    def portion(self, share: float, *, keep: float = 0.0) -> Deadline:
        """Return a deadline after a share of the time left, minus `keep` seconds."""
        return Deadline.after(share * max(self.left - keep, 0.0))

    def paced(self, steps: Iterable[T], seconds: float = 0.0) -> Iterator[T]:
        """Yield steps of work while the next one would end in time.

        A step is expected to take `seconds`, or the longest time of a step so far.
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
    """The time limit of a block of `ending` is reached."""


_end: ContextVar[float] = ContextVar("kanlens_time_limit", default=math.inf)


@contextmanager
def ending(end: float) -> Iterator[None]:
    """Leave the block, without an error, when `check_time` is called after `end`.

    In nested blocks the earlier end counts; after the end of the outer block both are left.
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
    """Leave the enclosing block of `ending` if its end has passed."""
    if time.monotonic() >= _end.get():
        raise OutOfTimeError
