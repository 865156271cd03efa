"""A measurement in a process of its own, asked and answered in JSON; and its peak of memory."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]  # holds the benchmarks, wherever they are run
TIMEOUT = 180.0  # seconds
MIB = 1 << 20
SLACK = 4 * MIB  # the counters of the kernel are kept per thread and summed up late


def ask(
    module: str,
    question: Mapping[str, Any],
    *,
    timeout: float = TIMEOUT,
    told: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run a module in a new process and return its answer, or ``{"failed": reason}``.

    The module is run as ``python -m module``; it takes JSON as its only argument and writes a JSON
    object as its last line. `told` is added to its environment; `timeout` is in seconds.
    """
    places = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), **(told or {})}
    command = [sys.executable, "-W", "ignore", "-m", module, json.dumps(dict(question))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"process ended after {timeout:.0f} s without an answer"}
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        return {"failed": f"process ended with code {done.returncode}: {last}"}
    try:
        answer = json.loads(lines[-1]) if lines else None
    except json.JSONDecodeError:
        answer = None
    return answer if isinstance(answer, dict) else {"failed": "process gave no answer"}


def ask_all(module: str, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ask several questions, two processes at a time; not for measurements of time."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda question: ask(module, question), questions))


@dataclass(kw_only=True)
class Reading:
    """Memory of a block: resident before it and peak above that, in MiB, and how it was found.

    `way` is "high-water mark reset", or "getrusage": the mark of the whole life of the process,
    which misses a block that stays below an earlier peak.
    """

    level: float
    extra: float = 0.0
    way: str = ""


@contextmanager
def peak_memory() -> Iterator[Reading]:
    """Measure the peak of resident memory of the block, above the level before it.

    Free memory is given back to the system first. To be run in a process of its own.

    Examples
    --------
    >>> with peak_memory() as reading:
    ...     block = bytearray(32 * MIB)
    >>> reading.extra > 0 or reading.way == "getrusage"
    True
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    level = status("VmRSS")
    reading = Reading(level=level / MIB)
    if reset_mark():
        reading.way = "high-water mark reset"
        yield reading
        reading.extra = max(status("VmHWM") - level, 0) / MIB
    else:
        reading.way = "getrusage"
        before = _lifetime_peak()
        yield reading
        reading.extra = (_lifetime_peak() - before) / MIB


def reset_mark() -> bool:
    """Set the high-water mark of resident memory to the present level; return whether it worked."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return 0 < status("VmHWM") <= status("VmRSS") + SLACK


def status(name: str, process: int | str = "self") -> int:
    """Return bytes of memory that Linux states of a process; 0 where it does not."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def _lifetime_peak() -> int:
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
