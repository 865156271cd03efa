"""One task on drawn data of a given size, in a process of its own: seconds, and peak memory.

Run as ``python -m benchmarks.scaling.subject QUESTION``, with the question in JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.processes import peak_memory

GROUP = 2**17  # rows of a row group, as pandas and Spark write them about
SIZES = {"rows": 40_000, "features": 10, "width": 5, "grid": 5}
EPOCHS = 1


def draw_rows(rows: int, features: int, seed: int) -> tuple[Any, Any]:
    """Draw x (rows, features) and y (rows,): a wave, a square, and a product of features."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, features))
    y = np.sin(2 * x[:, 0]) + x[:, -1] ** 2 + x[:, features // 2] * x[:, features // 3]
    return x, y + 0.1 * generator.normal(size=rows)


def write_folder(folder: Path, rows: int, features: int, files: int = 4) -> Path:
    """Write a folder of Parquet files, none of which is held in memory whole."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    sizes = np.diff(np.linspace(0, rows, files + 1).round().astype(int)).tolist()
    for file, size in enumerate(sizes):
        writer = None
        for start in range(0, size, GROUP):
            x, y = draw_rows(min(GROUP, size - start), features, file * 1_000_003 + start)
            columns = {f"x{i + 1}": x[:, i] for i in range(features)}
            table = pa.Table.from_pandas(pd.DataFrame({**columns, "y": y}), preserve_index=False)
            if writer is None:
                writer = pq.ParquetWriter(folder / f"part-{file:04d}.parquet", table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    return folder


def _network(sizes: Mapping[str, int]) -> Any:
    import kanlens

    generator = torch.Generator().manual_seed(0)
    widths = [sizes["features"], sizes["width"], 1]
    return kanlens.KAN(widths, grid_size=sizes["grid"], generator=generator).double()


def _trained(sizes: Mapping[str, int]) -> Any:
    """Return a network that knows some rows, without the time of training it well."""
    import kanlens

    x, y = (torch.from_numpy(part) for part in draw_rows(2000, sizes["features"], 7))
    model = _network(sizes)
    kanlens.fit(model, (x, y), steps=3, progress=False, generator=torch.Generator().manual_seed(0))
    return model


def _rows(sizes: Mapping[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = draw_rows(sizes["rows"], sizes["features"], 1)
    return torch.from_numpy(x), torch.from_numpy(y)


def _stream(sizes: Mapping[str, int], folder: Path) -> Callable[[], Any]:
    import kanlens

    path = write_folder(folder / "rows", sizes["rows"], sizes["features"])
    source, model = kanlens.scan_table(path, target="y", progress=False), _network(sizes)
    how: dict[str, Any] = {"optimizer": "adam", "batch_size": 2000, "steps": EPOCHS}
    how |= {"progress": False, "generator": torch.Generator().manual_seed(0)}
    return lambda: kanlens.fit(model, source, max_memory="64MiB", **how)


def prepare(task: str, sizes: Mapping[str, int], folder: Path) -> Callable[[], Any]:
    """Return what is to be measured, with its data and its model made."""
    import kanlens

    quiet: dict[str, Any] = {"progress": False}
    if task == "scan":
        path = write_folder(folder / "rows", sizes["rows"], sizes["features"])
        return lambda: kanlens.scan_table(path, target="y", **quiet)
    if task == "train from files":
        return _stream(sizes, folder)
    x, y = _rows(sizes)
    if task == "train":
        how: dict[str, Any] = {"steps": 3, "generator": torch.Generator().manual_seed(0)}
        return lambda: kanlens.fit(_network(sizes), (x, y), **how, **quiet)
    model, box = _trained(sizes), torch.tensor([[-2.0, 2.0]] * x.shape[1])
    runs: dict[str, Callable[[], Any]] = {
        "forward": lambda: torch.cat([model(part) for part in x.split(8192)]),
        "attribute": lambda: kanlens.attribute(model, x, method="secant", **quiet),
        "prune": lambda: kanlens.prune(model, x, y, budget=0.05, **quiet),
        "suggest": lambda: kanlens.suggest(model, x),
        "certify": lambda: kanlens.certify(model, box, **quiet),
    }
    return runs[task]


def measure(task: str, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Run a task once after a small one like it, and return seconds and MiB."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        prepare(task, {**sizes, "rows": 256}, folder / "small")()
        run = prepare(task, sizes, folder / "whole")
        with (
            torch.no_grad() if task == "forward" else torch.enable_grad(),
            peak_memory() as reading,
        ):
            started = time.perf_counter()
            run()
            seconds = time.perf_counter() - started
    return {"seconds": seconds, "extra_mib": reading.extra, "way": reading.way}


if __name__ == "__main__":
    torch.set_num_threads(1)
    question = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(measure(question["task"], question["sizes"])) + "\n")
