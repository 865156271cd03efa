"""Attribution job: parts of the rows of a table, each of which can be done alone and anywhere.

A part is some blocks of rows, counted from the first row of the table. Random numbers are drawn
from a generator per block, so that the numbers do not depend on what a part is, nor on who does it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from kanlens.attribution.dispatch import attribute
from kanlens.attribution.result import Attribution, Moments
from kanlens.data.row_readers import ParquetReader, blocks
from kanlens.data.source import Source
from kanlens.errors import KanlensError, MethodError
from kanlens.io.checkpoint import load, save
from kanlens.memory import LEAST, memory_limit
from kanlens.model.network import KAN
from kanlens.outputs import atomic_write

if TYPE_CHECKING:
    import pandas as pd

Summary: TypeAlias = dict[str, Any]  # of a part, as JSON: `rows`, `moments`, `largest`
_one_at_a_time = threading.Lock()  # threads of a worker share torch's random state


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What is done with the rows of a table, in plain values that any process can be told.

    Attributes
    ----------
    call : str
        The public call, for error messages.
    model : bytes
        A .safetensors file.
    path, origin : str, str or None
        Parquet file or folder, and the text file that it was made of.
    method, options, output, background : str, dict, int, Tensor or None
        As for `kanlens.attribute`; the background has the shape (rows, in).
    rows, part_rows, block_rows : int
        Rows of the table, of each part, and those that one generator draws for.
    seed : int
        What the generator of each block starts from, with the number of the block.
    folder : str or None
        Where the parts are written.
    grouped : bool
        Whether the one-hot features of a column count together.
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
        """Return the first row of a part, and the one behind its last."""
        start = part * self.part_rows
        return start, min(start + self.part_rows, self.rows)

    def file(self, part: int) -> Path:
        """Return the file of a part; in the order of names the rows are in order."""
        return Path(self.folder or "", f"part-{part:06d}.parquet")


def attribute_part(job: Job, part: int) -> Summary | KanlensError:
    """Explain the rows of a part, and write them where the job says so.

    What is refused is returned, since it would be refused again; other errors are raised.
    """
    try:
        with _one_at_a_time, memory_limit(job.call, _share_of_worker()):
            return _part(job, part)
    except KanlensError as error:
        return error


def merged(summaries: list[Summary]) -> tuple[Moments, dict[str, float]]:
    """Return the moments of all rows, and the largest of each error."""
    moments = [Moments(one["rows"], *map(_tensor, one["moments"])) for one in summaries]
    largest: dict[str, float] = {}
    for name, size in (item for one in summaries for item in one["largest"].items()):
        largest[name] = max(size, largest.get(name, 0.0))
    return functools.reduce(Moments.__add__, moments), largest


def read_summary(job: Job, part: int) -> Summary | None:
    """Return what a part says of itself; None where it is not there, or not whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start, stop = job.span(part)
    try:
        known = pq.read_metadata(job.file(part))
        found: Summary = json.loads(known.metadata[b"kanlens"])
        return found if known.num_rows == found["rows"] == stop - start else None
    except (OSError, pa.lib.ArrowException, KeyError, ValueError, TypeError):
        return None


def encoded(model: KAN) -> bytes:
    """Return a model as the bytes of a .safetensors file."""
    with tempfile.TemporaryDirectory(prefix="kanlens-") as folder:
        return save(model, Path(folder, "model.safetensors")).read_bytes()


def decoded(content: bytes) -> KAN:
    """Return the model that was encoded."""
    with tempfile.TemporaryDirectory(prefix="kanlens-") as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(content)
        return load(path)


def seeded(seed: int, number: int) -> torch.Generator:
    """Return the generator of one of the blocks, or tasks, of a run."""
    state = np.random.SeedSequence([seed, number]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 31 ^ int(state[1]))


@functools.lru_cache(maxsize=1)  # once for all parts that a process does
def _opened(job: Job) -> tuple[KAN, Source]:
    """Return the model and the table of a job."""
    model, origin = decoded(job.model), None if job.origin is None else Path(job.origin)
    reader = ParquetReader(job.path, call=job.call, origin=origin)
    return model, Source(schema=model.schema, reader=reader, call=job.call)


def _part(job: Job, part: int) -> Summary:
    frames: list[pd.DataFrame] = []
    summaries: list[Summary] = []
    for found in explained_blocks(job, part):
        summaries.append(_summary(Moments.of(found.values.abs()), _errors(found)))
        if job.folder is not None:
            frames.append(found.to_frame())
    summary = _summary(*merged(summaries))
    if job.folder is not None:
        _write(job, part, frames, summary)
    return summary


def explained_blocks(job: Job, part: int) -> Iterator[Attribution]:
    """Yield the attributions of the blocks of a part."""
    model, source = _opened(job)
    start, stop = job.span(part)
    x = source.read(start, stop).x
    for begin, end in blocks(stop - start, job.block_rows):
        found = attribute(
            model,
            x[begin:end],
            method=job.method,
            background=job.background,
            target=job.output,
            generator=seeded(job.seed, (start + begin) // job.block_rows),
            progress=False,
            **job.options,
        )
        if not isinstance(found, Attribution):
            raise MethodError(f"{job.call}: expected values of rows, got those of the model.")
        yield found.grouped() if job.grouped else found


def _errors(found: Attribution) -> dict[str, float]:
    """Return the largest of each error that an attribution tells."""
    errors = {"standard_error": found.standard_error, "bound": found.bound}
    errors["completeness_gap"] = found.completeness_gap if found.shares else None
    return {name: float(one.abs().max()) for name, one in errors.items() if one is not None}


def _summary(moments: Moments, largest: dict[str, float]) -> Summary:
    sums = [one.tolist() for one in (moments.mean, moments.squares, moments.skew)]
    return {"rows": moments.rows, "moments": sums, "largest": largest}


def _write(job: Job, part: int, frames: list[pd.DataFrame], summary: Summary) -> None:
    """Write a part with what it says of itself, whole or not at all."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(pd.concat(frames, ignore_index=True), preserve_index=False)
    with atomic_write(job.file(part), call=job.call) as temporary:
        known = table.replace_schema_metadata({"kanlens": json.dumps(summary)})
        pq.write_table(known, temporary, use_dictionary=False)


def _tensor(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _share_of_worker() -> int | None:
    """Return the bytes that work may take on a worker of Dask; None elsewhere."""
    with contextlib.suppress(KeyError, AttributeError, ValueError):
        worker = sys.modules["distributed"].get_worker()  # ValueError: this is no worker
        limit: int | None = worker.memory_manager.memory_limit
        return limit and max(LEAST, limit // 4)
    return None
