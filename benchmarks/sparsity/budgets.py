"""Real tables pruned to a budget: how many edges are left, and what they cost on fresh rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.data import rows_of
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.sparsity.problems import Pair, RowCounts, plan_problems, problem
from benchmarks.statistics import grouped
from kanlens.model.network import KAN
from kanlens.pruning import PruneResult, prune
from kanlens.pruning.scores import SCORES
from kanlens.training import fit

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ARMS", "BUDGETS", "SHARES", "parts"]

NAMES = ("concrete", "california_housing")
SHARES = (0.005, 0.01, 0.02, 0.05)
HIDDEN = 8  # 112 edges on california_housing
STEPS = 20  # of LBFGS
TUNING = 5
ARMS: dict[str, Mapping[str, Any]] = {
    **{name: {"score": name} for name in SCORES},
    "damage, tuned": {"score": "damage", "finetune": TUNING},
}


def _plan(setup: Setup) -> Units:
    return plan_problems(setup, names=["composed"] if setup.smoke else NAMES)


def _run(setup: Setup, key: Key) -> Rows:
    """Train one network, prune it in every way on rows it has not seen, and judge on others.

    Tuning sees the rows of training, too; a fifth of all it gets is held out.
    """
    name, seed = key
    train, validation, test = _rows(setup, name, seed)
    generator = torch.Generator().manual_seed(seed)
    hidden, steps = (2, 2) if setup.smoke else (HIDDEN, STEPS)
    model = KAN([train[0].shape[1], hidden, 1], generator=generator).double()
    fit(model, train, steps=steps, progress=False, generator=generator)
    whole = _error(model, model, test)
    rows = []
    for arm, options in ARMS.items():
        tuned = [torch.cat(pair) for pair in zip(train, validation, strict=True)]
        x, y = tuned if "finetune" in options else validation
        for budget in SHARES[-1:] if setup.smoke else SHARES:
            started = time.perf_counter()
            draw = torch.Generator().manual_seed(seed)
            result = prune(model, x, y, budget=budget, progress=False, generator=draw, **options)
            row: dict[str, Any] = {"arm": arm, "budget": budget, "test_before": whole}
            row |= {"seconds": time.perf_counter() - started, **_outcome(result, model, test)}
            rows.append(row)
    return rows


def _rows(setup: Setup, name: str, seed: int) -> tuple[Pair, Pair, Pair]:
    """Return rows to train on, to prune on and to judge by."""
    if setup.smoke:
        data = problem(name).data(seed, RowCounts(train=60, validation=30, test=60))
        return data.train, data.validation, data.test
    return parts(*rows_of(name, setup.data), seed)


def parts(x: torch.Tensor, y: torch.Tensor, seed: int) -> tuple[Pair, Pair, Pair]:
    """Part a table at random: 60 % to train on, 20 % to prune on, 20 % to judge by.

    Examples
    --------
    >>> [len(x) for x, _ in parts(torch.rand(50, 2), torch.rand(50, 1), 0)]
    [30, 10, 10]
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    first, second = int(0.6 * len(x)), int(0.8 * len(x))
    groups: Sequence[torch.Tensor] = order.tensor_split((first, second))
    train, validation, test = ((x[rows], y[rows]) for rows in groups)
    return train, validation, test


@torch.no_grad()
def _error(model: KAN, whole: KAN, rows: Pair) -> float:
    """Return the mean squared error in variances of y."""
    x, y = rows
    columns = [whole.feature_names.index(name) for name in model.feature_names]
    return float((model(x[:, columns]) - y).square().mean() / y.var(correction=0))


def _outcome(result: PruneResult, whole: KAN, test: Pair) -> dict[str, Any]:
    return {
        "edges_before": result.edges_before,
        "edges": result.edges_after,
        "features": len(result.model.feature_names),
        "rise": result.loss_after / result.loss_before - 1,
        "test": _error(result.model, whole, test),
    }


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


_COLUMNS = ("edges_before", "edges", "features", "rise", "test_before", "test", "seconds")

BUDGETS = Experiment(
    name="budgets",
    question="How many edges does a budget leave by each score, at what test loss?",
    keys=("problem", "seed"),
    tables={"sparsity-budgets": ("arm", "budget", *_COLUMNS)},
    plan=_plan,
    run=_run,
    summary=_summary,
)
