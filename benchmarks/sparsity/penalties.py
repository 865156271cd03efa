"""Which penalty finds the true edges: the question of sparsity-penalties.csv, asked once more.

Networks are trained along a path of strengths, pruned on rows of their own, and the smallest of
those that are nearly as good as the best is compared with the true graph. The stored file was made
with more problems, and with tuning at every size (figures/data/README.md names the commit).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.sparsity.planted import PLANTED, Edge, Planted, f1_of_edges
from benchmarks.sparsity.planted import Rows as Data
from benchmarks.statistics import grouped
from kanlens.model._network import KAN
from kanlens.model._trace import trace
from kanlens.pruning import PruneResult, prune
from kanlens.sparsity import penalty_value
from kanlens.training import fit, sparsity_path

if TYPE_CHECKING:
    import pandas as pd

ARMS = ("none", "weight_l1", "raw_l1", "activation_l1", "activation_l2")
SHARES = (0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # penalty at first, in variances of y
STEPS = 10  # of LBFGS, at first and for each strength
BUDGET = 0.05  # rise of the validation loss by pruning, and over the best of a path
QUIET: dict[str, Any] = {"validation": 0.0, "progress": False}


def _plan(setup: Setup) -> Units:
    problems, arms = (["composed"], ARMS[:2]) if setup.smoke else (list(PLANTED), ARMS)
    return Units(keys=tuple(itertools.product(problems, arms, setup.seeds)))


def path(model: KAN, rows: Data, penalty: str, steps: int) -> Iterator[KAN]:
    """Yield a network trained under every strength of a penalty, or as long without one."""
    fit(model, rows, steps=steps, grid_updates=3, **QUIET)
    options = {"steps": steps, "grid_updates": 1, **QUIET}
    if penalty == "none":
        yield fit(model, rows, **options).model
        return
    with torch.no_grad():
        inputs = trace(model, rows[0]).inputs
        size = float(penalty_value(tuple(model.layers), penalty, entropy_weight=0.0, inputs=inputs))
    strengths = [share / size for share in SHARES[:: 4 if steps < STEPS else 1]]
    yield from (
        step.model
        for step in sparsity_path(
            model, rows, penalty=penalty, strengths=strengths, **options
        ).steps
    )


def edges_left(model: KAN, result: PruneResult) -> list[set[Edge]]:
    """Return the edges of every layer that pruning has left, by the model's own indices."""
    left = [{(o, i) for o, i in (layer.mask != 0).nonzero().tolist()} for layer in model.layers]
    for record in result.removed:
        left[record["layer"]].discard((record["out"], record["in"]))
    return left


def _run(setup: Setup, key: Key) -> Rows:
    """Train a path, prune every network of it, and describe the smallest good one."""
    name, penalty, seed = key
    task = PLANTED[name]
    data = task.draw(seed)
    model = KAN(task.widths, generator=torch.Generator().manual_seed(seed)).double()
    pruned = [
        (each, prune(each, *data["validation"], budget=BUDGET, progress=False))
        for each in path(model, data["train"], penalty, 2 if setup.smoke else STEPS)
    ]
    limit = (1 + BUDGET) * min(result.loss_after for _, result in pruned)
    near = [pair for pair in pruned if pair[1].loss_after <= limit]
    return [_described(task, *min(near, key=lambda pair: pair[1].edges_after), data["test"])]


@torch.no_grad()
def _described(task: Planted, model: KAN, result: PruneResult, test: Data) -> dict[str, Any]:
    x, y = test
    columns = [model.feature_names.index(name) for name in result.model.feature_names]
    error = (result.model(x[:, columns]) - y).square().mean() / y.var(correction=0)
    return {
        "edges": result.edges_after,
        "true_edges": sum(map(len, task.edges)),
        "edge_f1": f1_of_edges(edges_left(model, result), task.edges, task.widths),
        "test": float(error.sqrt()),
    }


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {"F1": ("edge_f1", False), "edges": ("edges", False), "test error": ("test", True)}
    return {"penalties": grouped(frame, ["penalty"], columns)}


PENALTIES = Experiment(
    name="penalties",
    question="Which penalty finds the true edges?",
    keys=("problem", "penalty", "seed"),
    tables={"sparsity-true-edges": ("edges", "true_edges", "edge_f1", "test")},
    plan=_plan,
    run=_run,
    summary=_summary,
)
