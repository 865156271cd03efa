"""Tasks, done one after the other in this process or by workers of Dask, and attribution jobs.

Dask sends the job to each worker once, and repeats tasks that failed or whose worker died.

A part of a job is several blocks of rows, each with its generator, so that results depend on
neither parts nor processes. A manifest identifies the run of a folder, so that only this run can
resume there.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import json
import logging
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from kanlens._atomic_files import atomic_write, check_writable, reason
from kanlens._checks import check_count, optional_module
from kanlens._lazy import pa, parquet, pd
from kanlens._plain_json import to_plain
from kanlens._resources import MIN_LIMIT, memory_limit
from kanlens._runtime import temporary_folder
from kanlens.attribution._attribute import attribute
from kanlens.attribution._result import CentralMoments
from kanlens.data._row_readers import ParquetReader, blocks
from kanlens.data._source import Source
from kanlens.errors import KanlensError, MethodError, OutputError
from kanlens.io._checkpoint import load, save
from kanlens.model import kernels
from kanlens.model._network import KAN

RETRIES = 2  # of a task that failed with anything but a KanlensError
SCHEDULER_TIMEOUT = 10.0  # seconds for a scheduler to answer, and to have a worker
# By default, Dask's workers return freed memory at once, which the system clears before it is used
# again: with these, 1,000,000 rows of 10 features took 12 s, not 30.
ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": str(2**28), "MALLOC_MMAP_THRESHOLD_": str(2**28)}
SILENT = logging.CRITICAL + 1
WORKER_MEMORY = "1.5GB"  # memory limit of a worker started for a call, if there is enough

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
    """Yield each finished task with its result; raise a KanlensError if one fails."""
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
        expected, got = "workers that complete a task", f"{error.last_worker.address}, which died"
        advice = "The workers may need more memory"
        raise MethodError(call, expected, got, advice) from error
    except (distributed.CancelledError, distributed.comm.CommClosedError) as error:
        expected, got = "a Dask scheduler that keeps running", "one that has stopped"
        raise MethodError(call, expected, got, "Start the scheduler again") from error
    finally:
        client.cancel([shipped, *waiting])


def _done(function: Callable[[Any, Any], Any], job: object, task: object) -> Any:
    """Return the result of a task or its KanlensError; fixed kernels let digits agree."""
    try:
        with kernels.use("sparse"):
            return function(job, task)
    except KanlensError as error:
        return error


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


NAME = "_manifest.json"  # readers of Parquet folders skip names that begin so
TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\.parquet|\.json)")  # files of a process that was killed

Summary: TypeAlias = dict[str, Any]  # of a part, as JSON: `rows`, `moments`, `largest`
_one_at_a_time = threading.Lock()  # threads of a worker share torch's random state


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """An attribution of the rows of a table, in plain values for any process.

    The model is a .safetensors file, `path` a Parquet file or folder, and `origin` the text file
    that it was made of; method, options, output and background (rows, in) are as for
    `kanlens.attribute`. A part has `part_rows` rows; each block of `block_rows` has a generator
    seeded by its number. Parts are written to `folder`, if any.
    """

    call: str
    model: bytes
    path: str
    origin: str | None
    method: str
    options: dict[str, Any]
    output: int
    background: Tensor | None
    rows: int
    part_rows: int
    block_rows: int
    seed: int
    folder: str | None = None
    grouped: bool = False

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.rows // self.part_rows)

    def span(self, part: int) -> tuple[int, int]:
        """Return the first row of a part, and the one after its last."""
        start = part * self.part_rows
        return start, min(start + self.part_rows, self.rows)

    def file(self, part: int) -> Path:
        """Return the file of a part; sorted files have the rows in order."""
        return Path(self.folder or "", f"part-{part:06d}.parquet")


def attribute_part(job: Job, part: int) -> Summary:
    """Attribute and write the rows of a part; return their summary."""
    limit: int | None = None
    with contextlib.suppress(KeyError, AttributeError, ValueError):
        worker = sys.modules["distributed"].get_worker()  # ValueError: not in a worker
        limit = worker.memory_manager.memory_limit
        limit = limit and max(MIN_LIMIT, limit // 4)
    with _one_at_a_time, memory_limit(job.call, limit):
        return _part(job, part)


def merged(summaries: list[Summary]) -> tuple[CentralMoments, dict[str, float]]:
    """Return the moments of all rows, and the largest of each error."""
    moments = [
        CentralMoments(part["rows"], *torch.tensor(part["moments"], dtype=torch.float64))
        for part in summaries
    ]
    largest: dict[str, float] = {}
    for name, size in (item for part in summaries for item in part["largest"].items()):
        largest[name] = max(size, largest.get(name, 0.0))
    return functools.reduce(CentralMoments.__add__, moments), largest


def read_summary(job: Job, part: int) -> Summary | None:
    """Return the summary of a part; None where it is missing or incomplete."""
    if job.folder is None:
        return None
    start, stop = job.span(part)
    try:
        metadata = parquet.read_metadata(job.file(part))
        summary: Summary = json.loads(metadata.metadata[b"kanlens"])
        return summary if metadata.num_rows == summary["rows"] == stop - start else None
    except (OSError, pa.lib.ArrowException, KeyError, ValueError, TypeError):
        return None


def encoded(model: KAN) -> bytes:
    """Return a model as the bytes of a .safetensors file."""
    with temporary_folder() as folder:
        return save(model, folder / "model.safetensors").read_bytes()


def new_seed(generator: torch.Generator | None) -> int:
    """Return a seed drawn by a generator, or by the system."""
    source = torch.Generator() if generator is None else generator
    if generator is None:
        source.seed()
    return int(torch.randint(2**62, (), generator=source, device=source.device))


def seeded(seed: int, number: int) -> torch.Generator:
    """Return the generator for a block or task of a run, by its number."""
    state = np.random.SeedSequence([seed, number]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


@functools.lru_cache(maxsize=1)  # once for all parts that a process does
def _opened(job: Job) -> tuple[KAN, Source]:
    """Return the model and the table of a job."""
    with temporary_folder() as folder:
        path = folder / "model.safetensors"
        path.write_bytes(job.model)
        model = load(path)
    origin = None if job.origin is None else Path(job.origin)
    reader = ParquetReader(job.path, call=job.call, origin=origin)
    return model, Source(schema=model.schema, reader=reader, call=job.call)


def _part(job: Job, part: int) -> Summary:
    model, source = _opened(job)
    start, stop = job.span(part)
    x, frames, summaries = source.read(start, stop).x, list[Any](), list[Summary]()
    for begin, end in blocks(stop - start, job.block_rows):
        result: Any = attribute(  # an Attribution, as of the first row
            model,
            x[begin:end],
            method=job.method,
            background=job.background,
            target=job.output,
            generator=seeded(job.seed, (start + begin) // job.block_rows),
            progress=False,
            **job.options,
        )
        result = result.grouped() if job.grouped else result
        errors = {"standard_error": result.standard_error, "bound": result.bound}
        errors["completeness_gap"] = result.completeness_gap if result.shares else None
        largest = {name: float(e.abs().max()) for name, e in errors.items() if e is not None}
        summaries.append(_summary(CentralMoments.of(result.values.abs()), largest))
        if job.folder is not None:
            frames.append(result.to_frame())
    summary = _summary(*merged(summaries))
    if job.folder is not None:
        _write(job, part, frames, summary)
    return summary


def _summary(moments: CentralMoments, largest: dict[str, float]) -> Summary:
    sums = [moments.mean.tolist(), moments.squares.tolist(), moments.skew.tolist()]
    return {"rows": moments.rows, "moments": sums, "largest": largest}


def _write(job: Job, part: int, frames: list[pd.DataFrame], summary: Summary) -> None:
    """Write a part with its summary, atomically."""
    table = pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)
    with atomic_write(job.file(part), call=job.call) as temporary:
        table = table.replace_schema_metadata({"kanlens": json.dumps(summary)})
        parquet.write_table(table, temporary, use_dictionary=False)


def begun(job: Job, *, own: bool) -> Job:
    """Return the job with the seed of its folder; refuse other runs."""
    folder = Path(job.folder or "")
    manifest = read_manifest(folder, call=job.call)
    if manifest is None:
        with atomic_write(folder / NAME, call=job.call) as temporary:
            temporary.write_text(json.dumps(manifest_of(job), indent=1, sort_keys=True) + "\n")
        return job
    job = job if own else replace(job, seed=manifest["seed"])
    for name, value in manifest_of(job).items():
        if manifest.get(name) != value:
            plain = name not in ("model", "background", "data")
            got = f"{value!r}, not {manifest.get(name)!r}" if plain else "another"
            expected = f"the {name.replace('_', ' ')} of the run in {job.folder!r}"
            advice = "Choose another folder to write to, or remove this one"
            raise OutputError(job.call, expected, got, advice)
    return job


def manifest_of(job: Job) -> dict[str, Any]:
    """Return all that the results and the parts of a job depend on, as JSON types."""
    background = None if job.background is None else job.background.cpu().numpy().tobytes()
    paths = [Path(job.origin or "")]
    if job.origin is None:
        paths = [Path(file.path) for file, _ in ParquetReader(job.path, call=job.call).files]
    stats = [(path, path.stat()) for path in paths]
    return {
        "model": hashlib.sha256(job.model).hexdigest(),
        "method": job.method,
        "options": to_plain(job.options),
        "output": job.output,
        "background": background and hashlib.sha256(background).hexdigest(),
        "data": [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats],
        **{name: getattr(job, name) for name in ("rows", "part_rows", "block_rows", "seed")},
    }


def read_manifest(folder: Path, *, call: str) -> dict[str, Any] | None:
    """Return the manifest of a folder, None of an empty one."""
    advice = "Choose another folder"
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return None
        manifest: dict[str, Any] = json.loads((folder / NAME).read_text())
        return manifest
    except FileNotFoundError as error:
        expected = "an empty folder, or that of a run to continue"
        got = f"other files in {str(folder)!r}"
        raise OutputError(call, expected, got, advice) from error
    except (OSError, ValueError) as error:
        got = f"{reason(error)} at {str(folder)!r}"
        raise OutputError(call, "a folder to write", got, advice) from error


def check_folder(folder: Path, *, call: str) -> None:
    """Refuse a folder that parts cannot be written to."""
    read_manifest(folder, call=call)
    check_writable(folder / NAME, call=call)


def remove_unfinished(job: Job) -> None:
    """Remove the files that processes were writing when they were killed."""
    for path in Path(job.folder).glob(".*") if job.folder is not None else ():
        if TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()
