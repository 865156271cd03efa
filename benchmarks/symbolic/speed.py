"""How long it takes to compare edges with the whole library, here and in pykan."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.interleaved_timing import quartiles
from benchmarks.machine import load, missing, unseeded, version_of
from benchmarks.symbolic.edges import as_model, draw_truth, fitted_layer
from kanlens.model._network import KAN
from kanlens.symbolic import suggest
from kanlens.symbolic._library import library

if TYPE_CHECKING:
    import pandas as pd

GRID, NOISE = 5, 0.003
EDGES = (1, 3, 100)
ROWS, MANY_ROWS = 1000, 100_000
ROUNDS = 9

Example = tuple[KAN, Tensor]


def _plan(setup: Setup) -> Units:
    if setup.smoke:
        return Units(keys=(("kanlens", 1, ROWS, 1),))
    threads = sorted({1, torch.get_num_threads()})
    own = [("kanlens", edges, ROWS, count) for count in threads for edges in EDGES]
    keys = [*own, ("kanlens", 3, MANY_ROWS, 1)]
    without = missing("kan")
    if not without:
        keys += [("pykan", edges, ROWS, threads[-1]) for edges in EDGES[:2]]
    return Units(keys=tuple(keys), skipped={"pykan": without} if without else {})


def _run(setup: Setup, key: Key) -> Rows:
    """Time one size; every round has a network of its own, and the first does not count."""
    who, edges, rows, threads = key
    generator = torch.Generator().manual_seed(0)
    rounds = 1 if setup.smoke or who == "pykan" else ROUNDS
    examples = [make_example(edges, rows, generator) for _ in range(rounds + 1)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = _own(examples) if who == "kanlens" else [_pykan_seconds(edges, *examples[0])]
    finally:
        torch.set_num_threads(before)
    low, middle, high = quartiles(torch.tensor(seconds).numpy())
    row = {
        "version": version_of(who),
        "functions": len(library()) if who == "kanlens" else None,
        "rounds": rounds,
        "seconds": middle,
        "low": low,
        "high": high,
        "seconds_per_edge": middle / edges,
    }
    return [row]


def _own(examples: list[Example]) -> list[float]:
    """Time `suggest` on every example but the first."""
    seconds = []
    for model, x in examples:
        start = time.perf_counter()
        suggest(model, x)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def make_example(edges: int, rows: int, generator: torch.Generator) -> Example:
    """Return a network whose edges are splines with noise, and rows for it.

    3 edges are the [2, 1, 1] network of ``exp(sin(pi * x1) + x2**2)``; a square number is a layer
    of members of all families.

    Examples
    --------
    >>> model, x = make_example(3, 50, torch.Generator().manual_seed(0))
    >>> [layer.in_features for layer in model.layers], tuple(x.shape)
    ([2, 1], (50, 2))
    """
    if edges == 3:
        x = _uniform(rows, 2, generator)
        first = torch.stack((torch.sin(math.pi * x[:, 0]), x[:, 1].square()), dim=1)
        layer = fitted_layer(x, first[:, None], GRID, NOISE, generator)
        hidden = layer(x).detach()
        last = fitted_layer(hidden, torch.exp(hidden)[:, None], GRID, NOISE, generator)
        return as_model([layer, last], generator), x
    side = math.isqrt(edges)
    x = _uniform(rows, side, generator)
    families = library()
    truth = draw_truth(families, -(-edges // len(families)), generator)
    pick = torch.randperm(len(truth.families), generator=generator)[:edges].reshape(side, side)
    y = torch.stack([truth(x[:, i])[:, pick[:, i]] for i in range(side)], dim=2)
    return as_model([fitted_layer(x, y, GRID, NOISE, generator)], generator), x


def _uniform(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return 2 * torch.rand(rows, columns, generator=generator, dtype=torch.float64) - 1


def _pykan_seconds(edges: int, _: KAN, x: Tensor) -> float:
    """Time pykan's suggest_symbolic on edges of its own network of that shape."""
    module = load("kan")
    width = [2, 1, 1] if edges == 3 else [1, 1]
    places = [(0, 0, 0), (0, 1, 0), (1, 0, 0)] if edges == 3 else [(0, 0, 0)]
    with unseeded(), contextlib.redirect_stdout(io.StringIO()):
        model = module.KAN(width=width, grid=GRID, k=3, seed=0, auto_save=False)
        model(x.float())
        start = time.perf_counter()
        for place in places:
            model.suggest_symbolic(*place, verbose=False)
        return time.perf_counter() - start


def _summary(frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    names = ["who", "edges", "rows", "threads", "functions", "seconds", "low", "high"]
    peer = frame[(frame["who"] == "pykan") & (frame["edges"] == 3)]["seconds_per_edge"]
    times = float(peer.iloc[0]) / frame["seconds_per_edge"].astype(float) if len(peer) else None
    table = frame[[*names, "seconds_per_edge"]].assign(times_pykan=times)
    return {"suggestion over the whole library": table}


SPEED = Experiment(
    name="speed",
    question="How long does it take to name the functions of edges?",
    tables={
        "symbolic-speed": (
            *("version", "functions", "rounds", "seconds", "low", "high", "seconds_per_edge"),
        )
    },
    keys=("who", "edges", "rows", "threads"),
    text=("version",),
    plan=_plan,
    run=_run,
    summary=_summary,
    alone=True,
)
