"""Weight L1 against activation L1: which penalty finds the true structure, and at what error."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import Experiment, Key, Setup, Tables, Units
from benchmarks.sparsity.cutting import Candidate, Cut, Cutter, best, choose
from benchmarks.sparsity.paths import ARMS, Arm, Effort, Stage, deviations, norms, path
from benchmarks.sparsity.problems import Data, RowCounts, SparsityProblem, plan_problems, problem
from benchmarks.sparsity.structure import Recovery, recovered_edges, recovered_inputs
from benchmarks.statistics import compare, grouped
from kanlens.model.network import KAN

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PENALTIES"]

SCORES = ("precision", "recall", "f1")
PAIRS = (
    ("activation_l1", "weight_l1"),
    ("activation_l1", "raw_l1"),
    ("weight_l1", "raw_l1"),
    ("weight_l1", "none"),
    ("activation_l1", "none"),
    ("raw_l1", "none"),
    ("activation_l2", "activation_l1"),
    ("activation_l1 + entropy", "activation_l1"),
)
EMPTY = 0.9  # share of the variance; a network that leaves more unexplained has nothing to cut
TINY = Effort(
    rows=RowCounts(train=60, validation=30, test=60),
    first=1,
    steps=1,
    shares=(0.1, 10.0),
    tuning=1,
    finalists=1,
    sizes=(2,),
)


def _plan(setup: Setup) -> Units:
    if setup.smoke:
        return plan_problems(setup, ["weight_l1", "activation_l1"], names=["composed"])
    return plan_problems(setup, list(ARMS))


def _run(setup: Setup, key: Key) -> Tables:
    """Train one path, cut every network of it, and say what was found and what it costs."""
    name, arm, seed = key
    effort = TINY if setup.smoke else Effort()
    task = problem(name, setup.data)
    data = task.data(seed, effort.rows)
    model = KAN(task.widths, generator=torch.Generator().manual_seed(seed)).double()
    started = time.perf_counter()
    stages = list(path(model, data.train, ARMS[arm], effort))
    seconds = time.perf_counter() - started
    found = _cut_all(stages, ARMS[arm], data, task, effort)
    return {
        "sparsity-penalties": [
            {
                **_chosen(found["tuned"], task, data),
                **_at_true(found["tuned"], task, data, ""),
                **_at_true(found["by deviation"], task, data, "_by_deviation"),
                "seconds": seconds,
            }
        ],
        "sparsity-curves": [
            {"tuned": tuned, **row}
            for tuned, each in {"no": found["plain"], "yes": found["tuned"]}.items()
            for row in _curve(each, task, data)
        ],
        "sparsity-paths": [_step(stage, data) for stage in stages],
    }


def _sizes(task: SparsityProblem, effort: Effort) -> list[int]:
    widths = zip(task.widths[:-1], task.widths[1:], strict=True)
    most = sum(in_ * out for in_, out in widths)
    return [*(size for size in effort.sizes if size < most), most]


def _cut_all(
    stages: Sequence[Stage], arm: Arm, data: Data, task: SparsityProblem, effort: Effort
) -> dict[str, list[Candidate]]:
    """Cut every network by the norm that was penalised, and by the deviations of its edges.

    Returns what the norm leaves, as it is and tuned, and what deviations leave, tuned.
    """
    cutter, x = Cutter(data, effort), data.train[0]
    sizes = _sizes(task, effort)
    own: list[tuple[Candidate, Candidate]] = []
    other: list[tuple[Candidate, Candidate]] = []
    for stage in stages:
        if stage.loss < EMPTY or stage is stages[0]:
            own += cutter.candidates(stage, norms(stage.model, x, arm), sizes)
            other += cutter.candidates(stage, deviations(stage.model, x), [task.true_edges])
    return {
        "plain": [plain for plain, _ in own],
        "tuned": cutter.tuned([rescaled for _, rescaled in own]),
        "by deviation": cutter.tuned([rescaled for _, rescaled in other]),
    }


def _chosen(found: list[Candidate], task: SparsityProblem, data: Data) -> dict[str, Any]:
    """Describe the network a user would keep."""
    kept, sizes = choose(found), best(found)
    return {
        "edges": kept.shape.kept,
        "share": kept.shape.share,
        "test": kept.cut.error(*data.test),
        **_structure(kept, task),
        "test_all": sizes[max(sizes)].cut.error(*data.test),
    }


def _at_true(
    found: list[Candidate], task: SparsityProblem, data: Data, which: str
) -> dict[str, Any]:
    """Describe the network with as many edges as are true."""
    sizes, true = best(found), task.true_edges
    if true not in sizes:
        return {}
    return {
        "true_edges": true,
        f"test_at_true{which}": sizes[true].cut.error(*data.test),
        f"edge_f1_at_true{which}": _structure(sizes[true], task)["edge_f1"],
    }


def _structure(each: Candidate, task: SparsityProblem) -> dict[str, float]:
    """Return precision, recall and F1 of inputs, and of edges where the true ones are known."""
    inputs = recovered_inputs(each.shape.masks, task.relevant)
    edges = None if task.masks is None else recovered_edges(each.shape.masks, task.masks)
    return _scores("input", inputs) | _scores("edge", edges)


def _scores(what: str, found: Recovery | None) -> dict[str, float]:
    return {f"{what}_{how}": math.nan if found is None else getattr(found, how) for how in SCORES}


def _curve(found: list[Candidate], task: SparsityProblem, data: Data) -> list[dict[str, Any]]:
    return [
        {
            "size": size,
            "edges": each.shape.kept,
            "share": each.shape.share,
            "validation": math.sqrt(each.validation),
            "test": each.cut.error(*data.test),
            "edge_f1": _structure(each, task)["edge_f1"],
        }
        for size, each in best(found).items()
    ]


def _step(stage: Stage, data: Data) -> dict[str, Any]:
    alive = [norm > 0.01 for norm in deviations(stage.model, data.train[0])]
    whole = Cut(model=stage.model, columns=tuple(range(data.train[0].shape[1])))
    return {
        "share": stage.share,
        "strength": stage.strength,
        "loss": stage.loss,
        "penalty_term": stage.penalty,
        "alive": sum(int(each.sum()) for each in alive),
        "test": whole.error(*data.test),
        "seconds": stage.seconds,
    }


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    import pandas as pd

    columns = {
        "edge F1": ("edge_f1", False),
        "precision": ("edge_precision", False),
        "recall": ("edge_recall", False),
        "edge F1 at true size": ("edge_f1_at_true", False),
        "... cut by deviation": ("edge_f1_at_true_by_deviation", False),
        "input F1": ("input_f1", False),
        "edges": ("edges", False),
        "test error": ("test", True),
        "seconds": ("seconds", True),
    }
    table = grouped(frame, ["penalty"], columns)
    wide = {
        f"{what} by problem": frame.dropna(subset=[column])
        .pivot_table(index="problem", columns="penalty", values=column, sort=False)
        .round(3)
        .reset_index()
        for what, column in {"edge F1": "edge_f1", "input F1": "input_f1"}.items()
    }
    pairs = [
        _pair(frame, *ways, value) for value in ("edge_f1", "input_f1", "test") for ways in PAIRS
    ]
    known = pd.DataFrame([pair for pair in pairs if pair])
    return {"penalties": table, **wide, "penalties compared": known}


def _pair(frame: pd.DataFrame, first: str, second: str, value: str) -> dict[str, Any]:
    """Compare two penalties; errors by their logarithms to the base 2."""
    import numpy as np

    if not {first, second} <= set(frame["penalty"]):
        return {}
    if value == "test":
        frame = frame.assign(test=np.log2(frame["test"].astype(float)))
    found = compare(frame, "penalty", (first, second), value)
    return {
        "of": "log2 test error" if value == "test" else value,
        "first": first,
        "second": second,
        "first - second": found.difference.text(2),
        "first larger": f"{found.better} of {found.pairs}, {found.equal} equal",
        "Wilcoxon p": f"{found.p:.2g}",
    }


_CHOSEN = ("edges", "true_edges", "share", "test", "test_all")
_STRUCTURE = tuple(f"{what}_{how}" for what in ("edge", "input") for how in SCORES)
_AT_TRUE = (
    "test_at_true",
    "edge_f1_at_true",
    "test_at_true_by_deviation",
    "edge_f1_at_true_by_deviation",
    "seconds",
)
_CURVE = ("tuned", "size", "edges", "share", "validation", "test", "edge_f1")
_PATH = ("share", "strength", "loss", "penalty_term", "alive", "test", "seconds")

PENALTIES = Experiment(
    name="penalties",
    question="Which penalty finds the true edges, and what error do the edges kept have?",
    keys=("problem", "penalty", "seed"),
    tables={
        "sparsity-penalties": (*_CHOSEN, *_STRUCTURE, *_AT_TRUE),
        "sparsity-curves": _CURVE,
        "sparsity-paths": _PATH,
    },
    plan=_plan,
    run=_run,
    summary=_summary,
)
