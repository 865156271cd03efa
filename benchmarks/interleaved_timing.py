"""Times of tasks that take turns, so that whatever slows the machine slows all of them alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

K = TypeVar("K", bound=Hashable)
Task = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How often tasks are run.

    Attributes
    ----------
    rounds : int
        Most rounds; in each every task has one turn, in random order.
    least : int
        Rounds that every task takes part in, however long it takes.
    seconds : float
        Time for all tasks together. A task that has used up its even share sits out what is left
        of the rounds beyond `least`.
    turn : float
        Seconds that a turn should last: a quick task is called several times in it.
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
    """Time tasks in rounds.

    Parameters
    ----------
    tasks : mapping of name to callable
        What to time, warm: whatever compiles has compiled.
    schedule : Schedule
        How often.
    generator : torch.Generator
        Draws the order of every round.
    finish : callable
        Waits until the work of the calls is done, as on a GPU.
    clock : callable
        Returns seconds.

    Returns
    -------
    dict of name to ndarray, shape (rounds,)
        Seconds of one call in each round, the mean over the calls of the turn; NaN where a task
        sat out. Entries of one round may be compared with each other.

    Examples
    --------
    >>> times = interleave(
    ...     {"a": lambda: None}, Schedule(rounds=3), generator=torch.Generator()
    ... )
    >>> times["a"].shape
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
    """Return the lower quartile, the median and the upper quartile of what is no NaN.

    Examples
    --------
    >>> import numpy as np
    >>> quartiles(np.array([1.0, 2.0, np.nan, 3.0]))
    (1.5, 2.0, 2.5)
    """
    import numpy as np

    known = times[~np.isnan(times)]
    if not len(known):
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


def pass_milliseconds(
    models: Mapping[K, torch.nn.Module], x: Tensor, y: Tensor, schedule: Schedule
) -> dict[K, float]:
    """Return the median milliseconds of one forward and backward pass over all rows, in turns.

    Examples
    --------
    >>> x, schedule = torch.ones(2, 1), Schedule(rounds=3)
    >>> list(pass_milliseconds({"a": torch.nn.Linear(1, 1)}, x, x, schedule))
    ['a']
    """

    def passes(model: torch.nn.Module) -> None:
        model.zero_grad()
        (model(x) - y).square().mean().backward()

    tasks = {name: partial(passes, model) for name, model in models.items()}
    found = interleave(tasks, schedule, generator=torch.Generator().manual_seed(0))
    return {name: 1000 * quartiles(seconds)[1] for name, seconds in found.items()}


def ratio(times: np.ndarray, others: np.ndarray) -> float:
    """Return how many times longer one task takes than another: the median over their rounds.

    Examples
    --------
    >>> import numpy as np
    >>> ratio(np.array([2.0, 9.0, np.nan]), np.array([1.0, 3.0, 1.0]))
    2.5
    """
    return quartiles(times / others)[1]
