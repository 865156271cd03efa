"""Real tables pruned to a budget: how many edges are left, and what they cost on fresh rows."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.data import rows_of, table_file, there
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.sparsity.planted import PLANTED
from benchmarks.sparsity.planted import Rows as Data
from benchmarks.statistics import grouped
from kanlens.model._network import KAN
from kanlens.pruning import prune
from kanlens.pruning._scores import SCORES
from kanlens.training import fit

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("concrete", "california_housing")
SHARES = (0.005, 0.01, 0.02, 0.05)
HIDDEN = 8  # 112 edges on california_housing
STEPS = 20  # of LBFGS
ARMS: dict[str, Mapping[str, Any]] = {
    **{name: {"score": name} for name in SCORES},
    "damage, tuned": {"score": "damage", "finetune": 5},
}


def _plan(setup: Setup) -> Units:
    if setup.smoke:
        return Units(keys=(("composed", 0),))
    found, missing = there(NAMES, lambda name: table_file(name, setup.data))
    return Units(keys=tuple(itertools.product(found, setup.seeds)), skipped=missing)


def _run(setup: Setup, key: Key) -> Rows:
    """Train one network, prune it in every way on rows it has not seen, and judge on others.

    Tuning sees the rows of training, too; a fifth of all it gets is held out.
    """
    name, seed = key
    if setup.smoke:
        train, validation, test = PLANTED[name].draw(seed).values()
    else:
        train, validation, test = parts(*rows_of(name, setup.data), seed)
    generator = torch.Generator().manual_seed(seed)
    hidden, steps = (2, 2) if setup.smoke else (HIDDEN, STEPS)
    model = KAN([train[0].shape[1], hidden, 1], generator=generator).double()
    fit(model, train, steps=steps, progress=False, generator=generator)
    rows = []
    budgets = SHARES[-1:] if setup.smoke else SHARES
    for (arm, options), budget in itertools.product(ARMS.items(), budgets):
        tuned = [torch.cat(pair) for pair in zip(train, validation, strict=True)]
        x, y = tuned if "finetune" in options else validation
        draw = torch.Generator().manual_seed(seed)
        start = time.perf_counter()
        result = prune(model, x, y, budget=budget, progress=False, generator=draw, **options)
        rows.append(
            {
                "arm": arm,
                "budget": budget,
                "edges_before": result.edges_before,
                "edges": result.edges_after,
                "features": len(result.model.feature_names),
                "rise": result.loss_after / result.loss_before - 1,
                "test_before": _error(model, model, test),
                "test": _error(result.model, model, test),
                "seconds": time.perf_counter() - start,
            }
        )
    return rows


def parts(x: Tensor, y: Tensor, seed: int) -> tuple[Data, Data, Data]:
    """Part a table at random: 60 % to train on, 20 % to prune on, 20 % to judge by."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    groups = order.tensor_split((int(0.6 * len(x)), int(0.8 * len(x))))
    train, validation, test = ((x[rows], y[rows]) for rows in groups)
    return train, validation, test


@torch.no_grad()
def _error(model: KAN, whole: KAN, rows: Data) -> float:
    """Return the mean squared error in variances of y."""
    x, y = rows
    columns = [whole.feature_names.index(name) for name in model.feature_names]
    return float((model(x[:, columns]) - y).square().mean() / y.var(correction=0))


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    frame = frame.assign(ratio=frame["test"].astype(float) / frame["test_before"].astype(float))
    columns = {
        "edges": ("edges", False),
        "features": ("features", False),
        "test loss": ("test", False),
        "/ before": ("ratio", True),
        "seconds": ("seconds", True),
    }
    found = grouped(frame, ["problem", "arm", "budget"], columns)
    return {f"budgets on {name}": part for name, part in found.groupby("problem", sort=False)}


BUDGETS = Experiment(
    name="budgets",
    question="How many edges does a budget leave by each score, at what test loss?",
    keys=("problem", "seed"),
    tables={
        "sparsity-budgets": (
            *("arm", "budget", "edges_before", "edges", "features"),
            *("rise", "test_before", "test", "seconds"),
        )
    },
    plan=_plan,
    run=_run,
    summary=_summary,
)
