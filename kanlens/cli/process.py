"""The process of a command: an interrupt (Ctrl-C, SIGTERM) ends it with one line at any time.

A command gets a KeyboardInterrupt, never inside an import, which might swallow it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
import time

TYPE_CHECKING = False  # as in kanlens
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType
    from typing import Any, NoReturn

INTERRUPTED = 130
KNOWN = ("RANK", "WORLD_SIZE")  # to every process that torchrun has started
WHOLE = "no file is left half written"
PATIENCE = 1.2  # seconds until a command that did not come round to an interrupt is left
GLANCE = 0.05  # seconds between two looks at it
SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"  # and clear the line of a progress bar


def ranks() -> tuple[int, int]:
    """Return which this is of how many processes that torchrun has started; the first one talks."""
    index, count = (int(os.environ.get(name, "0")) for name in KNOWN)
    return (index, count) if count > 1 else (0, 1)


class Interrupts:
    """What the interrupts of a process have led to."""

    def __init__(self) -> None:
        self.running = self.raised = False  # whether the command has begun, and was interrupted
        self.unfinished: set[Path] = set()  # files being written under other names, and folders
        self.taken: list[signal.Signals] = []
        self.leaving = threading.RLock()

    def install(self) -> None:
        """Take the interrupts of this process, unless it ignores them."""
        if os.name == "nt":
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.taken.append(signal.SIGINT)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and KNOWN[1] not in os.environ:
            self.taken.append(signal.SIGTERM)  # torchrun's tells of a lost process
        if not self.taken:
            return
        for number in self.taken:
            signal.signal(number, self.take)
        self.bell, button = os.pipe()
        os.set_blocking(button, False)
        signal.set_wakeup_fd(button, warn_on_full_buffer=False)
        sys.unraisablehook = self.pass_over
        threading.Thread(target=self.watch, daemon=True).start()

    def take(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the command once, as soon as no module is being loaded."""
        if not self.running:
            self.leave("nothing had begun")
        if not self.raised and not _importing(frame):
            self.raised = True
            raise KeyboardInterrupt

    def pass_over(self, lost: Any) -> None:
        """Try again where an interrupt met code that cannot be left, as that of a finalizer."""
        if lost.exc_type is KeyboardInterrupt:
            self.raised = False
        else:
            sys.__unraisablehook__(lost)

    def ignore(self) -> None:
        """Take no more interrupts: the work is done."""
        for number in self.taken:
            signal.signal(number, signal.SIG_IGN)

    def watch(self) -> None:
        """Wait for an interrupt, and leave at the second, or where the first leads to nothing."""
        while (number := os.read(self.bell, 1)[0]) not in self.taken:
            pass
        late, told = time.monotonic() + PATIENCE, False
        while self.running and not select.select([self.bell], [], [], GLANCE)[0]:
            if not self.raised:
                if time.monotonic() > late and not any(map(os.path.isfile, self.unfinished)):
                    break
                signal.raise_signal(number)  # for where an import put it off
                os.read(self.bell, 1)
            elif time.monotonic() > late and not told:
                told = True
                _write("keeping what was found; another interrupt ends this at once")
        self.leave(WHOLE if self.running else "nothing had begun")

    def leave(self, words: str) -> NoReturn:
        """End the process here and now, without half a file; who comes second waits for that."""
        self.leaving.acquire()
        self.tidy()
        _write(words)
        os._exit(INTERRUPTED)

    def tidy(self) -> None:
        """Remove what an interrupt left of files that were being written."""
        for path in tuple(self.unfinished):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def run(load: Callable[[], Callable[[], int]]) -> None:
    """Run the command of this process and leave with its exit code; a bug shows its traceback.

    `load` loads the commands, and returns what runs one.
    """
    interrupts = Interrupts()
    interrupts.install()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the shell closed it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        getattr(sys, name).reconfigure(errors="backslashreplace")  # signs it has no bytes for
    try:
        code = _run(interrupts, load)
        interrupts.ignore()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug, which is shown whole
        code = _failed(error)
    interrupts.tidy()
    try:
        sys.stdout.flush()
    except OSError:  # which has been said
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if code == INTERRUPTED:  # at once: to take the modules apart takes a second
        os._exit(code)
    sys.exit(code)


def _run(interrupts: Interrupts, load: Callable[[], Callable[[], int]]) -> int:
    from kanlens.long_work import unfinished

    command = load()
    interrupts.unfinished, interrupts.running = unfinished, True
    return command()


def _failed(error: BaseException) -> int:
    """Say what a command ended with, and return the exit code: an interrupt, or a bug."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        _write(WHOLE)
        return INTERRUPTED
    import traceback

    traceback.print_exception(error)
    sys.stderr.write("kanlens: this is a bug; please report it with the lines above\n")
    return 3


def _importing(frame: FrameType | None) -> bool:
    """Tell whether a module is being loaded."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _write(words: str) -> None:
    """Write the line of an interrupt past everything that may be in the middle of writing."""
    if ranks()[0]:
        return
    start = SHOW_CURSOR if os.isatty(2) else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{start}kanlens: interrupted; {words}\n".encode())
