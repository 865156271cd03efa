"""Accuracy and time as the grid grows, for splines of every order, refined or trained anew."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.interleaved_timing import Schedule, pass_milliseconds
from benchmarks.sparsity.cutting import Cut
from benchmarks.sparsity.problems import Pair
from benchmarks.sparsity.recipes import parameters
from benchmarks.statistics import grouped
from kanlens.model.network import KAN
from kanlens.training import fit

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GRIDS"]

ORDERS = (1, 2, 3, 5)
CUBIC = 3  # the one that is trained anew as well
SIZES = (5, 10, 20, 50, 100, 200)
WAYS = ("refined", "anew")
WIDTHS = (2, 1, 1)  # of the function itself, so that only its splines keep a network from it
ROWS = 2000
STEPS = 30  # of LBFGS, ten iterations each, for each grid
STARTS = 8  # initial weights of every first network, of which the best after some steps goes on
TRIAL = 8  # steps


def _plan(setup: Setup) -> Units:
    orders = (3,) if setup.smoke else ORDERS
    kinds = [(order, way) for order in orders for way in WAYS if way == "refined" or order == CUBIC]
    keys = [(*kind, seed) for kind in kinds for seed in setup.seeds]
    return Units(keys=tuple(keys))


def function(x: torch.Tensor) -> torch.Tensor:
    """Return exp(sin(pi x1) + x2^2) for x (rows, 2), shape (rows, 1).

    Examples
    --------
    >>> function(torch.zeros(1, 2))
    tensor([[1.]])
    """
    return torch.exp(torch.sin(torch.pi * x[:, :1]) + x[:, 1:].square())


def _run(setup: Setup, key: Key) -> Rows:
    """Train one network on every grid, each from the one before or from the start."""
    order, way, seed = key
    sizes, rows, steps = ((5, 10), 100, 1) if setup.smoke else (SIZES, ROWS, STEPS)
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(2 * rows, 2, generator=draw, dtype=torch.float64) * 2 - 1
    train, test = ((part, function(part)) for part in x.split(rows))
    schedule = Schedule(rounds=2 if setup.smoke else 7, least=2, seconds=0.2, turn=0.01)
    model, spent, found = None, 0.0, []
    for size in sizes:
        started = time.perf_counter()
        if model is None or way == "anew":
            model, spent = _begin(size, order, train, seed, 1 if setup.smoke else STARTS), 0.0
        else:
            model.refine(size)
        loss = _fit(model, train, steps)
        spent += time.perf_counter() - started
        error = Cut(model=model, columns=(0, 1)).error(*test)
        times = pass_milliseconds({"ms": model}, *train, schedule)
        row: dict[str, Any] = {"grid": size, "test": error, "loss": loss, "seconds": spent}
        row |= {**times, "parameters": parameters(model)}
        found.append(row)
    return found


def _begin(size: int, order: int, rows: Pair, seed: int, starts: int) -> KAN:
    """Train a few networks a little, and return the best: one hidden node is easily stuck."""
    draw = torch.Generator().manual_seed(seed)
    losses, models = [], []
    for _ in range(starts):
        model = KAN(WIDTHS, grid_size=size, spline_order=order, generator=draw).double()
        losses.append(_fit(model, rows, TRIAL))
        models.append(model)
    return models[losses.index(min(losses))]


def _fit(model: KAN, rows: Pair, steps: int) -> float:
    return fit(model, rows, steps=steps, validation=0.0, grid_updates=1, progress=False).loss


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {
        "test error": ("test", True),
        "seconds": ("seconds", True),
        "ms": ("ms", True),
    }
    ordered = frame.sort_values(["order", "way", "grid"])
    return {"grid and order": grouped(ordered, ["order", "way", "grid"], columns)}


GRIDS = Experiment(
    name="grids",
    question="What do finer grids and higher orders buy, and at what price?",
    keys=("order", "way", "seed"),
    tables={"sparsity-grids": ("grid", "test", "loss", "seconds", "ms", "parameters")},
    plan=_plan,
    run=_run,
    summary=_summary,
)
