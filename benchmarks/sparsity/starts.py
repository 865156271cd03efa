"""Constant against uniform initial weights, on MNIST and on tables.

efficient-kan first filled `base_weight` with `scale_base` and `spline_scaler` with `scale_spline`,
both 1; today it draws both as torch.nn.Linear draws its weights, evenly between -1/sqrt(in) and
1/sqrt(in).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import stamp
from benchmarks.sparsity.experiment import STAMP, Experiment, Key, Plan, Setup, Tables
from benchmarks.sparsity.images import mnist, small_digits
from benchmarks.sparsity.problems import TABLES, Pair, real_table
from benchmarks.sparsity.recipes import Recipe, parameters, train
from kanlens.core.network import KAN
from kanlens.errors import MissingFileError

__all__ = ["MNIST_SEEDS", "MNIST_WIDTHS", "STARTS", "STARTS_BY_NAME", "Start", "images"]

KEYS = ("problem", "start", "seed")
MNIST_SEEDS = 3  # the first ones
MNIST_WIDTHS = (784, 64, 10)
TABLE_ROWS = 4000  # most rows of a table to train on
TABLE_STEPS = 2000  # about; as many passes as that takes
HIDDEN = 10
SHORT = 3  # passes of the starts that only tell which part of the first two matters


@dataclass(frozen=True, kw_only=True)
class Start:
    """Initial weights.

    Attributes
    ----------
    base, scaler : float or None
        Constants of the base weights and the scalers; None for drawn ones.
    beyond : str
        How splines go on beyond the grid, as `KANLinear` takes it.
    short : bool
        Whether it is trained for fewer passes, on MNIST alone.
    """

    base: float | None = None
    scaler: float | None = None
    beyond: str = "zero"
    short: bool = False


STARTS_BY_NAME = {
    "uniform": Start(),
    "constant 1": Start(base=1.0, scaler=1.0),
    "base constant 1": Start(base=1.0),
    "scaler constant 1": Start(scaler=1.0, short=True),
    "constant 0.1": Start(base=0.1, scaler=0.1, short=True),
    "constant 1, splines go on straight": Start(base=1.0, scaler=1.0, beyond="linear", short=True),
}


def _plan(setup: Setup) -> Plan:
    if setup.smoke:
        some = list(STARTS_BY_NAME)[:2]
        return Plan(keys=tuple(("digits", start, 0) for start in some), skipped={})
    keys: list[Key] = []
    skipped = {}
    for name in ("mnist", *TABLES):
        try:
            _rows(name, setup.data)
        except MissingFileError as error:
            skipped[name] = str(error)
            continue
        seeds = setup.seeds[:MNIST_SEEDS] if name == "mnist" else setup.seeds
        starts = [key for key, s in STARTS_BY_NAME.items() if name == "mnist" or not s.short]
        keys += [(name, start, seed) for start in starts for seed in seeds]
    return Plan(keys=tuple(keys), skipped=skipped)


@functools.lru_cache(maxsize=2)
def images(name: str, folder: Path | None) -> tuple[Pair, Pair]:
    """Return MNIST, or the small digits that need no folder."""
    return small_digits() if name == "digits" else mnist(folder)


def _rows(name: str, folder: Path | None) -> Any:
    return images(name, folder) if name in ("mnist", "digits") else real_table(name, folder)


def _run(setup: Setup, key: Key) -> Tables:
    """Train one network from one start."""
    name, start, seed = key
    pictures = name in ("mnist", "digits")
    if pictures:
        rows, test = images(name, setup.data)
        recipe = Recipe(epochs=1 if setup.smoke else Recipe().epochs)
        widths = MNIST_WIDTHS if name == "mnist" else (64, 8, 10)
    else:
        rows, test = _table(*real_table(name, setup.data), seed)
        recipe = _table_recipe(len(rows[0]))
        widths = (rows[0].shape[1], HIDDEN, 1)
    weights = STARTS_BY_NAME[start]
    draw = torch.Generator().manual_seed(seed)
    model = KAN(widths, extrapolation=weights.beyond, generator=draw)
    epochs = min(recipe.epochs, SHORT) if weights.short else recipe.epochs
    recipe = dataclasses.replace(recipe, base=weights.base, scaler=weights.scaler, epochs=epochs)
    began = time.perf_counter()
    trained = train(model, rows, test, recipe, generator=draw)
    row = dict(zip(KEYS, key, strict=True))
    row |= {"metric": "accuracy" if pictures else "R2", "score": trained.scores[-1]}
    row |= {"first": trained.scores[0], "third": trained.scores[:SHORT][-1]}
    row |= {"best": max(trained.scores), "epochs": recipe.epochs}
    row |= {"parameters": parameters(model), "seconds": time.perf_counter() - began}
    where = {name: value for name, value in stamp().items() if name in STAMP}
    return {"sparsity-starts": [{**row, **where}]}


def _table(x: torch.Tensor, y: torch.Tensor, seed: int) -> tuple[Pair, Pair]:
    """Part a table at random; scale features to [-1, 1] and the target to deviation 1.

    A feature with one value in all rows to train on is only moved to -1.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    count = min(TABLE_ROWS, int(0.8 * len(x)))
    train, test = order[:count], order[count:]
    low, high = x[train].amin(0), x[train].amax(0)
    x = (2 * (x - low) / torch.where(high > low, high - low, 1.0) - 1).float()
    y = ((y - y[train].mean()) / y[train].std()).float()
    return (x[train], y[train]), (x[test], y[test])


def _table_recipe(rows: int) -> Recipe:
    """Return MNIST's recipe, with passes for as many steps and the same fall of the rate."""
    epochs = max(1, round(TABLE_STEPS * Recipe().batch / rows))
    return Recipe(epochs=epochs, gamma=Recipe().gamma ** (Recipe().epochs / epochs))


_COLUMNS = ("metric", "score", "first", "third", "best", "epochs", "parameters", "seconds")

STARTS = Experiment(
    name="starts",
    question="Do constant initial weights keep a network from learning?",
    columns={"sparsity-starts": (*KEYS, *_COLUMNS, *STAMP)},
    keys=KEYS,
    plan=_plan,
    run=_run,
)
