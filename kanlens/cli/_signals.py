"""The process of a command: interrupts (Ctrl-C, SIGTERM) print one line and exit with code 130."""

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
    from typing import NoReturn

INTERRUPTED = 130
RANKS = ("RANK", "WORLD_SIZE")  # environment variables set by torchrun
WHOLE = "no file is left half written"
INTERRUPT_TIMEOUT = 1.2  # seconds after which a command that ignores an interrupt is ended
INTERVAL = 0.05  # seconds between two checks for that
SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"  # and clear the line of a progress bar


def ranks() -> tuple[int, int]:
    """Return the rank and the number of processes started by torchrun."""
    index, count = (int(os.environ.get(name, "0")) for name in RANKS)
    return (index, count) if count > 1 else (0, 1)


class Interrupts:
    """Handlers of the interrupts of a process, and their state."""

    def __init__(self) -> None:
        self.running = self.raised = False  # the command has begun, and was interrupted
        self.unfinished: set[Path] = set()  # temporary files and folders
        self.taken: list[signal.Signals] = []
        self.leaving = threading.RLock()

    def install(self) -> None:
        """Handle the interrupts of this process, unless it ignores them."""
        if os.name == "nt":
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self.taken.append(signal.SIGINT)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and RANKS[1] not in os.environ:
            self.taken.append(signal.SIGTERM)  # under torchrun, it means a lost process
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
        """Interrupt the command once, unless a module is being imported."""
        if not self.running:
            self.leave("nothing had begun")
        if not self.raised and not _importing(frame):
            self.raised = True
            raise KeyboardInterrupt

    def pass_over(self, lost: sys.UnraisableHookArgs) -> None:
        """Accept another interrupt if a finalizer has swallowed the first."""
        if lost.exc_type is KeyboardInterrupt:
            self.raised = False
        else:
            sys.__unraisablehook__(lost)

    def ignore(self) -> None:
        """Ignore further interrupts."""
        for number in self.taken:
            signal.signal(number, signal.SIG_IGN)

    def watch(self) -> None:
        """End the process at the second interrupt, or if the first has no effect."""
        while (number := os.read(self.bell, 1)[0]) not in self.taken:
            pass
        late, announced = time.monotonic() + INTERRUPT_TIMEOUT, False
        while self.running and not select.select([self.bell], [], [], INTERVAL)[0]:
            if not self.raised:
                if time.monotonic() > late and not any(map(os.path.isfile, self.unfinished)):
                    break
                signal.raise_signal(number)  # again, as imports ignore it
                os.read(self.bell, 1)
            elif time.monotonic() > late and not announced:
                announced = True
                _write("keeping the results so far; another interrupt ends the command")
        self.leave(WHOLE if self.running else "nothing had begun")

    def leave(self, words: str) -> NoReturn:
        """Remove partial files and exit; a second caller waits for the exit."""
        self.leaving.acquire()
        self.tidy()
        _write(words)
        os._exit(INTERRUPTED)

    def tidy(self) -> None:
        """Remove temporary files and folders."""
        for path in tuple(self.unfinished):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def run(load: Callable[[], Callable[[], int]]) -> None:
    """Run the function that `load` returns, and exit with its code."""
    interrupts = Interrupts()
    interrupts.install()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        getattr(sys, name).reconfigure(errors="backslashreplace")  # for other encodings than UTF-8
    try:
        from kanlens._runtime import unfinished

        command = load()
        interrupts.unfinished, interrupts.running = unfinished, True
        code = command()
        interrupts.ignore()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - a bug, shown with its traceback
        code = _failed(error)
    interrupts.tidy()
    try:
        sys.stdout.flush()
    except OSError:  # already reported
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if code == INTERRUPTED:  # without cleanup of modules, which takes a second
        os._exit(code)
    sys.exit(code)


def _failed(error: BaseException) -> int:
    """Print an interrupt or the traceback of a bug; return the exit code."""
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
    """Return whether a module is being imported."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _write(words: str) -> None:
    """Write the line of an interrupt directly to stderr."""
    if ranks()[0]:
        return
    start = SHOW_CURSOR if os.isatty(2) else ""
    with contextlib.suppress(OSError):
        os.write(2, f"{start}kanlens: interrupted; {words}\n".encode())
