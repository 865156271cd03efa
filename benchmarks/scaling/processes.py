"""Ranks and workers: the same work by one process and by several, and one of them killed."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Key, Rows, Setup, Units
from benchmarks.scaling.commands import Watched, watch
from benchmarks.scaling.subject import write_folder

ROWS, FEATURES = 10_000_000, 10
FILES = 20
TRAINED = 1_000_000  # rows of which an epoch compares ranks
COUNTS = (1, 2)
METHOD = "secant"
BATCH = 20_000


def plan(setup: Setup) -> Units:
    """Return the units: ranks, workers, and the table that is larger than memory."""
    ranks = [("ranks", count) for count in COUNTS]
    workers = [("workers", count) for count in COUNTS]
    return Units(keys=(*ranks, ("train", 1), *workers, ("killed", 2)), whole=not setup.smoke)


def run(setup: Setup, key: Key) -> Rows:
    """Run one unit on a table that is written for it, once for all units of a run."""
    task, count = key
    rows = 20_000 if setup.smoke else TRAINED if task == "ranks" else ROWS
    table = write_folder(_scratch() / f"rows-{rows}", rows, FEATURES, FILES)
    if task in ("ranks", "train"):
        found, note = _trained(table, count, rows), ""
    else:
        found, note = _attributed(table, count, rows, killed=task == "killed")
    if found.code:
        note = f"ended with {found.code}: {found.words}"
    peak = max((found.workers if task in ("workers", "killed") else []) or found.peaks.values())
    return [{"rows": rows, "seconds": found.seconds, "peak_mib": peak, "note": note}]


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def _scratch() -> Path:
    if not _FOLDERS:
        _FOLDERS.append(tempfile.TemporaryDirectory(prefix="kanlens-scaling-"))
    return Path(_FOLDERS[0].name)


def _trained(table: Path, count: int, rows: int) -> Watched:
    """Train for one epoch by the command, under torchrun where there are several ranks."""
    start = ["kanlens"]
    if count > 1:
        start = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"]
        start += ["kanlens"]
    output = _scratch() / f"model-{count}-{rows}.safetensors"
    options = ["--hidden", "10", "--optimizer", "adam", "--steps", "1", "--seed", "0", "--quiet"]
    options += ["--batch-size", str(BATCH), "--max-memory", "1GB", "-o", str(output)]
    return watch([*start, "train", str(table), "--target", "y", *options])


def _attributed(table: Path, count: int, rows: int, *, killed: bool) -> tuple[Watched, str]:
    """Attribute all rows with workers; say whether the rows are those of one worker."""
    import kanlens

    model, out = _scratch() / "model.safetensors", _scratch() / f"out-{rows}-{count}-{killed}"
    if not model.exists():
        network = kanlens.KAN([FEATURES, 10, 1], generator=torch.Generator().manual_seed(0))
        sample = kanlens.scan_table(table, target="y", progress=False).sample(2000)
        kanlens.fit(network.double(), sample, steps=3, progress=False)
        kanlens.save(network, model)
    half = -(-rows // 65_536) // 2

    def halfway() -> bool:
        return out.exists() and len(list(out.glob("part-*.parquet"))) >= half

    options = ["--method", METHOD, "--workers", str(count), "--seed", "0", "--quiet"]
    command = ["kanlens", "attribute", str(model), str(table), *options, "-o", str(out)]
    found = watch(command, kill=halfway if killed else None)
    return found, _compared(out, _scratch() / f"out-{rows}-1-False", rows)


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
    import pandas as pd

    lines = []
    for task, part in frame.groupby("task", sort=False):
        first = part[part["count"] == part["count"].min()]["seconds"].iloc[0]
        for _, row in part.iterrows():
            line = {"task": task, "count": row["count"], "rows": row["rows"]}
            line |= {"seconds": row["seconds"], "times one": first / row["seconds"]}
            lines.append(line | {"peak MiB": row["peak_mib"], "note": row["note"]})
    return {"processes": pd.DataFrame(lines)}
