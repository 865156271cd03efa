"""What work may take of the machine: how many threads, and how much memory.

Work that needs more memory than there is is refused.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

import torch
from threadpoolctl import ThreadpoolController

from kanlens.errors import InvalidValueError

FEW = 500_000  # numbers in the largest array of one operation, up to which one thread is best
SMALL = 100_000_000  # bytes that are not worth a look
UNKNOWN = 2**30  # bytes that work may take where the system does not say what is free
KEPT = 2**25 - 2**16  # bytes of an array; glibc keeps none of 32 MiB
LEAST = 2**26  # bytes below which no work can be held
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS |= {f"{unit}I": 2 ** (10 * power) for power, unit in enumerate("KMGT", 1)}

Memory: TypeAlias = str | int | None  # bytes, or text such as "1GB" or "512MiB"
P = ParamSpec("P")
R = TypeVar("R")
_allowed: ContextVar[int | None] = ContextVar("allowed", default=None)
_GROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Return the bytes that this process can still take, None where the system does not say."""
    known = [size for size in (_of_machine(), _of_group()) if size is not None]
    return min(known, default=None)


def parse_memory(call: str, given: Memory) -> int | None:
    """Return a number of bytes; None as it is."""
    if given is None:
        return None
    parts = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(given).upper())
    known = parts is not None and parts[2] in UNITS and not isinstance(given, bool)
    size = int(float(parts[1]) * UNITS[parts[2]]) if known and parts else -1
    if size < LEAST:
        expected, advice = "of at least 64 MiB", "For example '1GB'"
        raise InvalidValueError(call, expected, repr(given), advice, argument="max_memory")
    return size


@contextmanager
def memory_limit(call: str, given: Memory) -> Iterator[None]:
    """Allow work in the block so many bytes; None leaves what is in force."""
    token = _allowed.set(parse_memory(call, given) or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


def allowed_memory() -> int:
    """Return the bytes that work may take beside its input and its result.

    They are those of the `memory_limit` in force, else a quarter of what is free.
    """
    limit, free = _allowed.get(), available_memory()
    return limit or (UNKNOWN if free is None else max(LEAST, free // 4))


def within_memory(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function whose keyword `max_memory` is given take no more memory than that.

    Before, an array of `KEPT` bytes is freed untouched: glibc keeps freed arrays up to the size of
    the largest so far for what is asked for next, and gives others back to the system, which clears
    them when it hands them out again. Secants of 20,000 rows were measured to take 0.30 s so, and
    0.45 without.
    """

    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        torch.empty(KEPT, dtype=torch.uint8)
        given = cast("Memory", kwargs.get("max_memory"))
        if given is None:
            return function(*args, **kwargs)
        with memory_limit(function.__name__, given):
            return function(*args, **kwargs)

    return limited


def check_memory(call: str, needed: float, what: str, advice: str) -> None:
    """Refuse work that is sure to take more bytes than there are, or may be taken."""
    limit = _allowed.get()
    if limit is None and needed <= SMALL:
        return
    known = available_memory() if limit is None else limit
    if known is not None and needed > known:
        got = f"{what} that takes at least {needed / 1e9:,.1f} GB"
        left = "memory available" if limit is None else "max_memory"
        expected = f"work that fits into the {known / 1e9:,.1f} GB of {left}"
        raise InvalidValueError(call, expected, got, advice)


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


@functools.cache
def _limits() -> tuple[Any, Any]:
    """Return what limits OpenMP's threads, and what MKL's, of the thread that calls."""
    mkl = getattr(ctypes.CDLL(torch._C.__file__), "MKL_Set_Num_Threads_Local", lambda count: count)
    return ThreadpoolController(), mkl  # the first looks through the loaded libraries for 10 ms


@contextmanager
def threads_for(size: int) -> Iterator[None]:
    """Let torch use one thread inside the block, on the thread that calls, when the work is small.

    Splitting an operation on so few numbers gains nothing, and its threads wait for each other by
    spinning: on a machine whose cores are busy, training a small network with two threads was
    measured to take ten times as long as with one. `torch.set_num_threads` would stay, for good,
    with other threads that first call torch in the block.
    """
    if size >= FEW:
        yield
        return
    pools, mkl = _limits()
    with pools.limit(limits=1, user_api="openmp"):
        before = mkl(1)
        try:
            yield
        finally:
            mkl(before)


one_thread = functools.partial(threads_for, 0)
