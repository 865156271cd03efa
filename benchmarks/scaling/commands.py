"""Commands run as users run them: seconds, the peak memory of every process, one of them killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import MIB, ROOT

PAUSE = 2.0  # seconds between two looks, each of which reads a file for every thread


@dataclass(kw_only=True)
class Watched:
    """What a command needed: seconds, its exit code and last words, and MiB by process."""

    seconds: float = 0.0
    code: int = -1
    words: str = ""
    peaks: dict[int, float] = field(default_factory=dict)
    killed: int | None = None


def watch(
    arguments: Sequence[str],
    *,
    kill: Callable[[], bool] | None = None,
    victim: Callable[[str], bool] = lambda line: "spawn_main" in line,
) -> Watched:
    """Run ``python -m`` with arguments, look at its processes, and kill one as soon as it is time.

    Parameters
    ----------
    arguments : sequence of str
        A module and what it is given.
    kill : callable, optional
        Asked now and then whether it is time to kill a process with SIGKILL; once.
    victim : callable
        Whether a process with such a command line is one to kill.
    """
    found, started = Watched(), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=said, env=environment
        ) as process,
    ):
        while process.poll() is None:
            for one in [process.pid, *_below(process.pid)]:
                found.peaks[one] = max(found.peaks.get(one, 0.0), _peak(one))
            if kill is not None and found.killed is None and kill():
                found.killed = _killed(process.pid, victim)
            time.sleep(PAUSE)
        found.seconds, found.code = time.perf_counter() - started, process.returncode
        said.seek(0)
        found.words = " ".join(said.read().split())[-500:]
    return found


def _killed(parent: int, victim: Callable[[str], bool]) -> int | None:
    for one in _below(parent):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{one}/cmdline").read_text().replace("\0", " ")
            if victim(line):
                os.kill(one, signal.SIGKILL)
                return one
    return None


def _below(parent: int) -> list[int]:
    """Return the processes that another has started, and these, on Linux."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{parent}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_below(child)]
    return found


def _peak(process: int) -> float:
    """Return the largest resident memory of a process so far, in MiB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MIB
    return 0.0
