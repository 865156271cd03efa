"""What improves a network of the same size on MNIST: one change at a time, then all together.

The changes were chosen by networks trained on the first 50,000 images and tested on the other
10,000 of the training set, one seed each.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.data import there
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.sparsity.recipes import Recipe, parameters, train
from benchmarks.sparsity.starts import MNIST_SEEDS, MNIST_WIDTHS, images
from benchmarks.statistics import grouped
from kanlens.model.network import KAN

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DIGITS"]

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


def _plan(setup: Setup) -> Units:
    if setup.smoke:
        return Units(keys=(("digits", list(RECIPES)[-1], 0),))
    found, skipped = there(["mnist"], lambda name: images(name, setup.data))
    seeds = setup.seeds[:MNIST_SEEDS]
    return Units(keys=tuple(itertools.product(found, RECIPES, seeds)), skipped=skipped)


def _run(setup: Setup, key: Key) -> Rows:
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
    row = {"accuracy": trained.scores[-1], "best": max(trained.scores), "epochs": recipe.epochs}
    row |= {"parameters": parameters(model), "seconds": time.perf_counter() - began}
    return [row]


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {
        "accuracy": ("accuracy", False),
        "epochs": ("epochs", False),
        "parameters": ("parameters", False),
        "seconds": ("seconds", True),
    }
    return {"recipes for digits": grouped(frame, ["problem", "recipe"], columns)}


DIGITS = Experiment(
    name="digits",
    question="What takes a network of this size beyond 97.5 % on MNIST?",
    keys=("problem", "recipe", "seed"),
    tables={"sparsity-digits": ("accuracy", "best", "epochs", "parameters", "seconds")},
    plan=_plan,
    run=_run,
    summary=_summary,
)
