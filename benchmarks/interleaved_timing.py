"""Times of tasks that take turns, so that whatever slows the machine slows all of them alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    import numpy as np

K = TypeVar("K", bound=Hashable)
Task = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How often tasks are run: at most `rounds` times, in each of which every task has one turn.

    All tasks take part in the `least` first ones. Later, a task that has used up its even share of
    `seconds` sits out. A turn should last `turn` seconds: a quick task is called several times.
    """

    rounds: int = 30
    least: int = 5
    seconds: float = 10.0
    turn: float = 0.02


MOST_CALLS = 500  # in one turn
SLOW = 0.1  # seconds; a task this slow is not called once more before its timed call


def interleave(
    tasks: Mapping[K, Task],
    schedule: Schedule,
    *,
    generator: torch.Generator,
    finish: Task = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[K, np.ndarray]:
    """Return the seconds of one call of each task in every round, NaN where it sat out.

    Tasks are warm: nothing is left to compile. `generator` draws the order of every round, and
    `finish` waits until the work of the calls is done, as on a GPU. Entries of one round may be
    compared with each other.

    Examples
    --------
    >>> once = Schedule(rounds=3)
    >>> interleave({"a": lambda: None}, once, generator=torch.Generator())["a"].shape
    (3,)
    """
    import numpy as np

    names = list(tasks)
    with _no_collection():
        calls = {name: _calls(tasks[name], schedule, finish, clock) for name in names}
        spent = dict.fromkeys(names, 0.0)
        share = schedule.seconds / max(len(names), 1)
        times: dict[K, list[float]] = {name: [] for name in names}
        for number in range(schedule.rounds):
            taking = {n for n in names if number < schedule.least or spent[n] < share}
            if not taking:
                break
            for i in torch.randperm(len(names), generator=generator).tolist():
                name = names[i]
                if name not in taking:
                    times[name].append(math.nan)
                    continue
                began = clock()
                times[name].append(_turn(tasks[name], calls[name], finish, clock))
                spent[name] += clock() - began
    return {name: np.array(values) for name, values in times.items()}


def _calls(task: Task, schedule: Schedule, finish: Task, clock: Callable[[], float]) -> int:
    """Return how many calls of a task fill a turn; 0 for a slow one, which is called once."""
    seconds = _timed(task, 1, finish, clock)
    if seconds >= SLOW:
        return 0
    seconds = min(seconds, _timed(task, 1, finish, clock))
    return max(1, min(MOST_CALLS, math.ceil(schedule.turn / max(seconds, 1e-9))))


def _turn(task: Task, calls: int, finish: Task, clock: Callable[[], float]) -> float:
    """Time one turn; before it, a call that is not timed brings the data back into the caches."""
    if calls:
        task()
        finish()
    return _timed(task, max(calls, 1), finish, clock)


def _timed(task: Task, calls: int, finish: Task, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        task()
    finish()
    return (clock() - start) / calls


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from running inside a turn."""
    gc.collect()
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def quartiles(times: np.ndarray) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile, NaN left out."""
    import numpy as np

    known = times[~np.isnan(times)]
    if not len(known):
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def ratio(times: np.ndarray, others: np.ndarray) -> float:
    """Return how many times longer one task takes than another: the median over their rounds."""
    return quartiles(times / others)[1]
