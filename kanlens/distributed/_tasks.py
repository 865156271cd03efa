"""Tasks, run one after the other in this process, or by workers of Dask.

Dask sends the job to each worker once, and repeats tasks that failed or whose worker died.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from kanlens._checks import check_count, optional_module
from kanlens._runtime import temporary_folder
from kanlens.errors import KanlensError, MethodError
from kanlens.model import kernels

RETRIES = 2  # of a task that failed with anything but a KanlensError
SCHEDULER_TIMEOUT = 10.0  # seconds for a scheduler to answer, and to have a worker
# By default, Dask's workers return freed memory at once, which the system clears before it is used
# again: with this, 1,000,000 rows of 10 features took 12 s, not 30.
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**28)}
SILENT = logging.CRITICAL + 1
WORKER_MEMORY = "1.5GB"  # of a worker that is started for a call, where there is as much

# Number to start, the address of a scheduler, a client of Dask, or None for this process
Workers: TypeAlias = Any
Task = TypeVar("Task")


@contextlib.contextmanager
def workers_for(call: str, workers: Workers) -> Iterator[Any]:
    """Yield a client of Dask, or None for this process."""
    if workers is None:
        yield None
        return
    distributed = optional_module("distributed", call=call, extra="distributed")
    with contextlib.ExitStack() as stack:
        silence = distributed.utils.silence_logging_cmgr(SILENT)  # of workers that come and go
        stack.enter_context(silence)
        if hasattr(workers, "submit"):
            yield workers
            return
        if isinstance(workers, str):
            address = workers
        else:
            check_count(call, "workers", workers)
            address = stack.enter_context(_local(distributed, workers))
        client = stack.enter_context(_client(call, distributed, address))
        if not isinstance(workers, str):
            client.register_worker_callbacks(_ignore_interrupts)
        yield client


def completed(
    client: Any, call: str, function: Callable[..., Any], job: object, tasks: Iterable[Task]
) -> Iterator[tuple[Task, Any]]:
    """Yield each finished task with its result; raise a KanlensError."""
    if client is None:
        for task in tasks:
            yield task, _checked(_done(function, job, task))
        return
    distributed = optional_module("distributed", call=call, extra="distributed")
    shipped = client.submit(copy.copy, job, pure=False, retries=RETRIES)  # again if its worker dies
    waiting = {
        client.submit(_done, function, shipped, task, pure=False, retries=RETRIES): task
        for task in tasks
    }
    try:
        for future in distributed.as_completed(list(waiting), loop=client.loop):
            task = waiting.pop(future)
            yield task, _checked(future.result())
    except distributed.scheduler.KilledWorker as error:
        expected, got = "workers that complete a task", f"{error.last_worker}, which died"
        advice = "They may need more memory; completed work is kept"
        raise MethodError(call, expected, got, advice) from error
    except (distributed.CancelledError, distributed.comm.CommClosedError) as error:
        expected, got = "a Dask scheduler that keeps running", "one that has stopped"
        raise MethodError(call, expected, got, "Completed work is kept") from error
    finally:
        client.cancel([shipped, *waiting])


def _done(function: Callable[[Any, Any], Any], job: object, task: object) -> Any:
    """Run a task with compiled kernels, so that results are equal to the last digit."""
    with kernels.use("sparse"):
        return function(job, task)


def _checked(result: object) -> Any:
    if isinstance(result, KanlensError):
        raise result
    return result


@contextlib.contextmanager
def _local(distributed: Any, count: int) -> Iterator[str]:
    """Start workers on this machine, and end them."""
    settings = optional_module("dask", call="workers", extra="distributed").config
    where = "distributed.nanny.pre-spawn-environ"
    names: dict[str, Any] = {f"{where}.{name}": value for name, value in ENVIRONMENT.items()}
    names["distributed.worker.profile.enabled"] = False  # which takes a tenth of the work
    with temporary_folder() as folder, settings.set({**names, "temporary-directory": str(folder)}):
        cluster = distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            memory_limit=WORKER_MEMORY,
            dashboard_address="127.0.0.1:0",
            silence_logs=SILENT,
        )
        with cluster:
            yield cluster.scheduler_address


@contextlib.contextmanager
def _client(call: str, distributed: Any, address: str) -> Iterator[Any]:
    """Connect to a scheduler that has workers."""
    expected = f"a Dask scheduler at {address!r}"
    advice = "Start one with 'dask scheduler', or work without one"
    try:
        client = distributed.Client(address, timeout=SCHEDULER_TIMEOUT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise MethodError(call, expected, "no answer", advice) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=SCHEDULER_TIMEOUT)
        except TimeoutError as error:
            advice = f"Start some with 'dask worker {address} --nthreads 1'"
            raise MethodError(call, f"workers at {address!r}", "none", advice) from error
        yield client


def _ignore_interrupts() -> None:
    """Ignore interrupts of the terminal, which all processes get."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
