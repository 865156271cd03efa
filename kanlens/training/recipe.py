"""Training when nothing is chosen: the rows decide about nodes, strength and end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kanlens.checks import check_generator
from kanlens.encoding import prepare_data
from kanlens.interruption import Interruption
from kanlens.model.network import KAN
from kanlens.training.ensemble import MEMBERS, NODES, EnsembleRun, grid_intervals
from kanlens.training.loop import carry_out
from kanlens.training.preparation import row_weights
from kanlens.training.result import FitResult
from kanlens.training.resumption import checkpoint_path, read_state

if TYPE_CHECKING:
    from kanlens.data.tables import Table

GAIN, LEAST = 0.01, 5e-4  # of the held-out loss, that a hidden layer must save: share, amount


def fit_by_default(
    build: Callable[[list[int], int], KAN],
    data: Table | tuple[Any, Any],
    *,
    sample_weight: Any = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
    generator: torch.Generator | None = None,
) -> FitResult:
    """Train a network of the shape that predicts held-out rows best, as `EnsembleRun` does.

    `build` makes one of hidden nodes and intervals. The first has no hidden layer, and is kept
    unless one lowers the loss by `GAIN` and `LEAST`. Every row is held out from one member, and the
    metric of the result is over all of them. The checkpoint is of the second network; the first is
    quickly had again.
    """
    started, stop = time.perf_counter(), Interruption()
    check_generator("fit", generator)
    path = checkpoint_path("fit", checkpoint, resume=resume)
    rows = len(data[0]) if isinstance(data, tuple) else data.rows
    intervals = grid_intervals(rows)
    model = build([], intervals)
    x, y = prepare_data(model, data)
    weights = row_weights(sample_weight, x)
    run = EnsembleRun(model, x, y, weights, torch.Generator())
    run.begin()
    additive = carry_out(run, started, progress=progress, stop=stop)
    if stop.happened:
        return additive
    wide = build([MEMBERS * NODES], intervals)
    wide.schema = model.schema
    run = EnsembleRun(wide, x, y, weights, generator)
    if resume and path is not None and path.exists():
        run.restore(read_state(path))
    else:
        run.begin()
    found = carry_out(run, started, path, progress=progress, stop=stop)
    saved = additive.validation_loss - found.validation_loss
    pays = saved > max(LEAST, GAIN * additive.validation_loss)
    return found if pays else additive
