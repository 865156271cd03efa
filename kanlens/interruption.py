"""Stop long work with Ctrl-C and keep what was found until then."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kanlens.checks import message
from kanlens.errors import InterruptedWarning

unfinished: set[Path] = set()  # files being written under other names, for who leaves abruptly
_passing: list[None] = []  # one for each block that no interrupt may be kept in


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

    def warn(self, call: str, advice: str = "What was found is returned") -> None:
        """Say in one line that a result is not what it could have been."""
        if self.happened:
            text = message(call, "to come to an end", "an interrupt", advice)
            warnings.warn(text, InterruptedWarning, stacklevel=3)


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
def interrupts_pass() -> Iterator[None]:
    """Let an interrupt end the whole block: no call in it returns what it found until then."""
    _passing.append(None)
    try:
        yield
    finally:
        _passing.pop()
