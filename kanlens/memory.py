"""How much memory there is, and work that needs more of it refused before it begins."""

from __future__ import annotations

import os
from pathlib import Path

from kanlens.checks import message
from kanlens.errors import InvalidValueError

SMALL = 100_000_000  # bytes that are not worth a look
_GROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Return the bytes that this process can still take, None where the system does not say."""
    known = [size for size in (_of_machine(), _of_group()) if size is not None]
    return min(known, default=None)


def check_memory(call: str, needed: float, what: str, advice: str) -> None:
    """Refuse work that is sure to take more bytes than there are; `what` takes them."""
    if needed <= SMALL:
        return
    known = available_memory()
    if known is not None and needed > known:
        got = f"{what} that takes at least {needed / 1e9:,.1f} GB"
        expected = f"work that fits into the {known / 1e9:,.1f} GB of memory available"
        raise InvalidValueError(message(call, expected, got, advice))


def _of_machine() -> int | None:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_group() -> int | None:
    """Return what a container leaves; memory of files that it would give back counts as free."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        most, taken = _lines(_GROUP / limit), _lines(_GROUP / used)
        if most and taken and most[0].isdigit() and taken[0].isdigit():
            stat = _lines((_GROUP / limit).with_name("memory.stat"))
            files = [int(line.split()[1]) for line in stat if line.startswith("inactive_file ")]
            return max(0, int(most[0]) - int(taken[0]) + sum(files))
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split("\n")
    except OSError:
        return []
