"""What improves a network of the same size on MNIST: one change at a time, then all together.

The changes were chosen by networks trained on the first 50,000 images and tested on the other
10,000 of the training set, one seed each.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch

from benchmarks.machine import stamp
from benchmarks.sparsity.experiment import STAMP, Experiment, Key, Plan, Setup, Tables
from benchmarks.sparsity.recipes import Recipe, parameters, train
from benchmarks.sparsity.starts import MNIST_SEEDS, MNIST_WIDTHS, images
from kanlens.core.network import KAN
from kanlens.errors import MissingFileError

__all__ = ["DIGITS"]

KEYS = ("problem", "recipe", "seed")
SCHEDULE: dict[str, Any] = {"rate": 2e-3, "schedule": "cosine", "warmup": 0.5}
RECIPES: dict[str, Recipe] = {
    "as reported": Recipe(),
    "splines go on straight": Recipe(),
    "labels smoothed by 0.1": Recipe(smoothing=0.1),
    "rate 0.002 along a cosine": Recipe(**SCHEDULE),
    "these three": Recipe(smoothing=0.1, **SCHEDULE),
    "these three, images shifted": Recipe(smoothing=0.1, shift=1, **SCHEDULE),
}
STRAIGHT = ("splines go on straight", "these three", "these three, images shifted")


def _plan(setup: Setup) -> Plan:
    if setup.smoke:
        return Plan(keys=(("digits", list(RECIPES)[-1], 0),), skipped={})
    try:
        images("mnist", setup.data)
    except MissingFileError as error:
        return Plan(keys=(), skipped={"mnist": str(error)})
    seeds = setup.seeds[:MNIST_SEEDS]
    keys = [("mnist", name, seed) for name in RECIPES for seed in seeds]
    return Plan(keys=tuple(keys), skipped={})


def _run(setup: Setup, key: Key) -> Tables:
    """Train one network by one recipe."""
    name, chosen, seed = key
    rows, test = images(name, setup.data)
    recipe = RECIPES[chosen]
    if setup.smoke:
        recipe = dataclasses.replace(recipe, epochs=1)
    draw = torch.Generator().manual_seed(seed)
    widths = MNIST_WIDTHS if name == "mnist" else (64, 8, 10)
    beyond = "linear" if chosen in STRAIGHT else "zero"
    model = KAN(widths, generator=draw, extrapolation=beyond)
    began = time.perf_counter()
    trained = train(model, rows, test, recipe, generator=draw)
    row = dict(zip(KEYS, key, strict=True))
    row |= {"accuracy": trained.scores[-1], "best": max(trained.scores), "epochs": recipe.epochs}
    row |= {"parameters": parameters(model), "seconds": time.perf_counter() - began}
    where = {name: value for name, value in stamp().items() if name in STAMP}
    return {"sparsity-digits": [{**row, **where}]}


_COLUMNS = ("accuracy", "best", "epochs", "parameters", "seconds")

DIGITS = Experiment(
    name="digits",
    question="What takes a network of this size beyond 97.5 % on MNIST?",
    columns={"sparsity-digits": (*KEYS, *_COLUMNS, *STAMP)},
    keys=KEYS,
    plan=_plan,
    run=_run,
)
