"""Manifest: what the parts in a folder are of, so that a run can go on and no other can mix in."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import Any, TypeAlias

import torch

from kanlens.checks import message
from kanlens.data.row_readers import ParquetReader
from kanlens.distributed.jobs import Job
from kanlens.errors import OutputError
from kanlens.outputs import atomic_write, check_writable, reason, to_plain

NAME = "_manifest.json"  # readers of Parquet folders pass over names that begin so
TEMPORARY = re.compile(r"\.[0-9a-f]{32}(\.parquet|\.json)")  # what a process that was killed leaves
Manifest: TypeAlias = dict[str, Any]


def manifest_of(job: Job) -> Manifest:
    """Return what decides over the numbers of a job, and over what is a part."""
    background = job.background
    return {
        "model": _digest(job.model),
        "method": job.method,
        "options": to_plain(job.options),
        "output": job.output,
        "background": None if background is None else _digest(background.cpu().numpy().tobytes()),
        "data": _files(job),
        "rows": job.rows,
        "part_rows": job.part_rows,
        "block_rows": job.block_rows,
        "seed": job.seed,
    }


def read_manifest(folder: Path, *, call: str) -> Manifest | None:
    """Return the manifest of a folder, None of one that is not there or empty; refuse others."""
    try:
        if not folder.exists() or not any(folder.iterdir()):
            return None
        found: Manifest = json.loads((folder / NAME).read_text())
        return found
    except FileNotFoundError as error:
        expected, got = "an empty folder, or one of a run to go on with", f"others, {str(folder)!r}"
        raise OutputError(message(call, expected, got, "Name another with -o")) from error
    except (OSError, ValueError) as error:
        got = f"{reason(error)} at {str(folder)!r}"
        raise OutputError(
            message(call, "a folder to write", got, "Name another with -o")
        ) from error


def check_folder(folder: Path, *, call: str) -> None:
    """Refuse now a folder that parts could not be written to later."""
    read_manifest(folder, call=call)
    check_writable(folder / NAME, call=call)


def check_same(known: Manifest, job: Job) -> None:
    """Refuse to go on with a run that was of something else."""
    for name, value in manifest_of(job).items():
        if known.get(name) != value:
            plain = name not in ("model", "background", "data")
            got = f"{value!r}, after {known.get(name)!r}" if plain else "another"
            expected = f"the {name.replace('_', ' ')} of the run in {job.folder!r}"
            advice = "Name another folder to write to, or remove this one"
            raise OutputError(message(job.call, expected, got, advice))


def write_manifest(job: Job) -> None:
    """Write the manifest of a job into its folder."""
    with atomic_write(Path(job.folder or "", NAME), call=job.call) as temporary:
        temporary.write_text(json.dumps(manifest_of(job), indent=1, sort_keys=True) + "\n")


def remove_unfinished(job: Job) -> None:
    """Remove the files that processes were writing when they were killed."""
    for path in Path(job.folder or "").glob(".*"):
        if TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(job: Job) -> list[list[Any]]:
    """Return the files that the rows are in: name, bytes, and when they were written."""
    paths = (
        [Path(job.origin)]
        if job.origin
        else [Path(one.path) for one, _ in ParquetReader(job.path, call=job.call).files]
    )
    facts = [(path, path.stat()) for path in paths]
    return [[str(path), one.st_size, one.st_mtime_ns] for path, one in facts]


def new_seed(generator: torch.Generator | None) -> int:
    """Return a seed that a generator draws; without one, of the system's choice."""
    source = torch.Generator() if generator is None else generator
    if generator is None:
        source.seed()
    return int(torch.randint(2**62, (), generator=source, device=source.device))
