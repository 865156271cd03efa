"""Scores of edges against true damage: what an edge that scores high costs when it goes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.sparsity.problems import Pair, RowCounts, plan_problems, problem
from benchmarks.statistics import grouped
from kanlens.model.network import KAN
from kanlens.pruning.propagation import Propagation
from kanlens.pruning.scores import SCORES, edge_scores
from kanlens.training import fit

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DAMAGE", "agreement", "true_damage"]

STEPS = 25  # of LBFGS


def _plan(setup: Setup) -> Units:
    return plan_problems(setup, **({"names": ["composed"]} if setup.smoke else {}))


def _run(setup: Setup, key: Key) -> Rows:
    """Train a network, score its edges on rows it has not seen, and remove each on the test rows.

    Means are over the rows of the scores, as they are when a network is pruned on those.
    """
    name, seed = key
    task = problem(name, setup.data)
    data = task.data(
        seed, RowCounts(train=60, validation=30, test=60) if setup.smoke else RowCounts()
    )
    model = KAN(task.widths, generator=torch.Generator().manual_seed(seed)).double()
    fit(
        model,
        data.train,
        steps=2 if setup.smoke else STEPS,
        validation=0.0,
        grid_updates=3,
        progress=False,
        generator=torch.Generator(),  # nothing is drawn
    )
    frame = edge_scores(model, *data.validation)
    true = true_damage(model, data.validation[0], data.test)
    return [
        {
            "score": score.name,
            "spearman": agreement(frame[score.column].tolist(), true),
            "edges": len(true),
        }
        for score in SCORES.values()
    ]


@torch.no_grad()
def true_damage(model: KAN, x: torch.Tensor, test: Pair) -> list[float]:
    """Return the rise of the test error when each edge alone is replaced by its mean over x.

    Parameters
    ----------
    model : KAN
        Left as it is.
    x : Tensor, shape (batch, in)
        Rows that means are taken over.
    test : (Tensor, Tensor)
        Rows that the mean squared error is of, in variances of their y.

    Returns
    -------
    list of float
        One per live edge, in the order of `kanlens.edge_scores`.

    Examples
    --------
    >>> model, x = KAN([2, 1]), torch.rand(9, 2)
    >>> len(true_damage(model, x, (x, model(x).detach())))
    2
    """
    cut = copy.deepcopy(model)
    state = Propagation(cut, x)
    rows, y = test
    before, found = float((cut(rows) - y).square().mean()), []
    for index, layer in enumerate(cut.layers):
        for out, in_ in (layer.mask != 0).nonzero().tolist():
            state.remove((index, out, in_))
            found.append(float((cut(rows) - y).square().mean()) - before)
            state.undo()
    return [rise / float(y.var(correction=0)) for rise in found]


def agreement(scores: list[float], true: list[float]) -> float:
    """Return Spearman's rank correlation of scores with true damage.

    Examples
    --------
    >>> agreement([1.0, 5.0, 2.0], [0.1, 0.3, 0.2])
    1.0
    """
    from scipy import stats

    return round(float(stats.spearmanr(scores, true).statistic), 12)


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    by_problem = frame.pivot_table(index="problem", columns="score", values="spearman", sort=False)
    return {
        "rank correlation with true damage": grouped(
            frame, ["score"], {"Spearman": ("spearman", False)}
        ),
        "rank correlation by problem": by_problem.round(3).reset_index(),
    }


DAMAGE = Experiment(
    name="damage",
    question="Which score tells how much the loss rises when an edge goes?",
    keys=("problem", "seed"),
    tables={"sparsity-damage": ("score", "spearman", "edges")},
    plan=_plan,
    run=_run,
    summary=_summary,
)
