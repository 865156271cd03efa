"""Ranks and workers: the same work by one process and by several, and one of them killed."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.harness import Key, Rows, Setup, Units
from benchmarks.processes import MIB, ROOT, status
from benchmarks.scaling.subject import write_folder

ROWS, FEATURES = 10_000_000, 10
FILES = 20
COUNTS = (1, 2)
METHODS = {"workers": "shapley", "deep workers": "secant"}  # exact, of a sum of functions; a line
TRAINED, DEEP = 30_000_000, 4_000_000  # rows of the epoch, and for a network with hidden nodes
BATCH, HIDDEN = 20_000, "100"  # rows of a batch, and nodes, where ranks train
WORDS = {  # of each task
    "ranks": "one epoch, [10, 100, 1]",
    "workers": "exact Shapley values, [10, 1]",
    "deep workers": "secant, [10, 10, 1]",
    "rank killed": "one epoch, a rank killed, resumed",
    "worker killed": "exact Shapley values, a worker killed",
}
PAUSE = 2.0  # seconds between two looks, each of which reads a file for every thread
TARGETS = (10**9, 10**10)  # rows that are extrapolated to


def plan(setup: Setup) -> Units:
    """Return the units: an epoch by ranks, attributions by workers, and one of each killed."""
    counts = [(task, count) for task in ("ranks", *METHODS) for count in COUNTS]
    killed = [("rank killed", 2), ("worker killed", 2)]
    return Units(keys=(*counts, *killed), whole=not setup.smoke)


def run(setup: Setup, key: Key) -> Rows:
    """Run one unit on a table that is written for it, once for all units of a run."""
    task, count = key
    sizes = {"ranks": TRAINED, "rank killed": TRAINED, "deep workers": DEEP}
    rows = 20_000 if setup.smoke else sizes.get(task, ROWS)
    table = write_folder(_scratch() / f"rows-{rows}", rows, FEATURES, FILES)
    if task.startswith("rank"):
        found, note = _trained(table, count, rows, killed="killed" in task)
    else:
        name = "deep workers" if task.startswith("deep") else "workers"
        found, note = _attributed(table, count, name, killed="killed" in task)
    if found.code:
        note = f"ended with {found.code}: {found.words}"
    peak = max(found.peaks.values())
    return [{"rows": rows, "seconds": found.seconds, "peak_mib": peak, "note": note}]


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
_seconds: dict[Path, float] = {}  # of an epoch by one rank, by table


def _scratch() -> Path:
    if not _FOLDERS:
        _FOLDERS.append(tempfile.TemporaryDirectory(prefix="kanlens-scaling-"))
    return Path(_FOLDERS[0].name)


def _trained(table: Path, count: int, rows: int, *, killed: bool) -> tuple[Watched, str]:
    """Train for one epoch by the command, under torchrun where there are several ranks.

    One of them is killed halfway, by the seconds of one rank; they are then those of both runs.
    """
    start = ["kanlens"]
    if count > 1:
        start = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"]
        start += ["kanlens"]
    output = _scratch() / f"model-{rows}-{count}-{killed}.safetensors"
    end = time.monotonic() + _seconds.get(table, 0.0) / count / 2

    def halfway() -> bool:
        return time.monotonic() > end

    options = ["--hidden", HIDDEN, "--optimizer", "adam", "--steps", "1", "--seed", "0", "--quiet"]
    options += ["--batch-size", str(BATCH), "--max-memory", "1GB", "-o", str(output)]
    command = [*start, "train", str(table), "--target", "y", *options]
    found = watch(command, kill=halfway if killed else None, victim=_is_rank)
    words = ""
    if killed:
        again = watch([*command, "--resume"])
        words = f"killed after {found.seconds:.0f} s; " if found.killed else "over before; "
        peaks = {**found.peaks, **again.peaks}
        found = replace(again, seconds=found.seconds + again.seconds, peaks=peaks)
    _seconds.setdefault(table, found.seconds)
    if found.code or count == 1:
        return found, ""
    return found, words + _weights_differ(output, _scratch() / f"model-{rows}-1-False.safetensors")


def _is_rank(line: str) -> bool:
    return "kanlens train" in line


def _weights_differ(path: Path, other: Path) -> str:
    """Say how far the weights of two models are apart."""
    from safetensors.torch import load_file

    one, two = load_file(path), load_file(other)
    largest = max(float((one[k] - two[k]).abs().max()) for k in one if k in two and one[k].numel())
    return f"weights within {largest:.0e} of one rank's"


def _attributed(table: Path, count: int, task: str, *, killed: bool) -> tuple[Watched, str]:
    """Attribute all rows with workers; say whether the rows are those of one worker."""
    import kanlens

    name = task.replace(" ", "-")
    model, out = _scratch() / f"{name}.safetensors", _scratch() / f"{name}-{count}-{killed}"
    source = kanlens.scan_table(table, target="y", progress=False)
    if not model.exists():
        widths = [FEATURES, *[10] * task.startswith("deep"), 1]
        network = kanlens.KAN(widths, generator=torch.Generator().manual_seed(0)).double()
        kanlens.fit(network, source.sample(2000), steps=3, progress=False)
        kanlens.save(network, model)
    half = -(-source.rows // 65_536) // 2

    def halfway() -> bool:
        return out.exists() and len(list(out.glob("part-*.parquet"))) >= half

    options = ["--method", METHODS[task], "--workers", str(count), "--seed", "0", "--quiet"]
    command = ["kanlens", "attribute", str(model), str(table), *options, "-o", str(out)]
    found = watch(command, kill=halfway if killed else None)
    words = "over before; " if killed and not found.killed else ""
    return found, words + _compared(out, _scratch() / f"{name}-1-False", source.rows)


def _compared(out: Path, other: Path, rows: int) -> str:
    """Say whether two folders hold the same rows, one for each of the table, in the same order."""
    import pyarrow.parquet as pq

    parts = sorted(out.glob("part-*.parquet"))
    count = sum(pq.read_metadata(part).num_rows for part in parts)
    if count != rows:
        return f"{count} rows out"
    for part, like in itertools.zip_longest(parts, sorted(other.glob("part-*.parquet"))):
        same = part and like and part.name == like.name
        if not same or not pq.read_table(part).equals(pq.read_table(like)):
            return f"{part} differs"
    return "as by one"


def summary(frame: Any) -> Mapping[str, Any]:
    """Return how much faster two are than one, beside the memory of the largest process."""
    alone = frame[frame["count"] == 1].set_index("task")["seconds"]
    ratio = frame["task"].map(alone) / frame["seconds"]
    columns = ["task", "count", "rows", "seconds", "peak_mib", "note"]
    return {"processes": frame[columns].assign(**{"times one": ratio})}


@dataclass(kw_only=True)
class Watched:
    """Seconds of a command, its exit code and last words, MiB by process, and the one killed."""

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
    """Run ``python -m`` with arguments, and look at all of its processes now and then.

    Once `kill` returns True, a process whose command line `victim` accepts is ended by SIGKILL.
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
            below = _below(process.pid)
            for one in (process.pid, *(each.pid for each in below)):
                peak = status("VmHWM", one) / MIB
                found.peaks[one] = max(found.peaks.get(one, 0.0), peak)
            if kill is not None and found.killed is None and kill():
                found.killed = _killed(below, victim)
            time.sleep(PAUSE)
        found.seconds, found.code = time.perf_counter() - started, process.returncode
        said.seek(0)
        found.words = " ".join(said.read().split())[-500:]
    return found


def _below(parent: int) -> list[psutil.Process]:
    """Return all processes that another has started, and these."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(psutil.Process(parent).children(recursive=True))
    return []


def _killed(processes: list[psutil.Process], victim: Callable[[str], bool]) -> int | None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if victim(" ".join(process.cmdline())):
                process.kill()
                return int(process.pid)
    return None
