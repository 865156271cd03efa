"""The part ``trained``: the well-known methods on networks trained on tables."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import data
from benchmarks.data import TABLES, table_file, there
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import version_of
from kanlens.attribution._compare import DEFAULT_METHODS, compare
from kanlens.data._table_reader import read_table
from kanlens.data._tables import Table
from kanlens.model._network import KAN
from kanlens.training import fit

if TYPE_CHECKING:
    import pandas as pd

BUNDLED = ("diabetes", "breast_cancer", "wine")  # come with scikit-learn
HIDDEN, STEPS = 5, 60
TRAINING, EXPLAINED, BACKGROUND = 1000, 30, 30  # rows
_SCORES = (
    *("relative_gap", "dummy", "shapley_error", "shapley_rank", "faithfulness_correlation"),
    *("infidelity", "deletion", "insertion", "gini", "effective_features"),
)
_SMOKE_METHODS = ("shapley", "secant", "captum_feature_ablation")


def _plan(setup: Setup) -> Units:
    if setup.smoke:
        return Units(keys=(("wine", 0),))
    found, missing = there(TABLES, lambda name: table_file(name, setup.data))
    keys = itertools.product([*BUNDLED, *found], setup.seeds)
    return Units(keys=tuple(keys), skipped=missing)


def _table(name: str, folder: Path | None) -> Table:
    """Return a table by name: one that scikit-learn brings, or a file."""
    from sklearn import datasets

    if name in BUNDLED:
        bunch = getattr(datasets, f"load_{name}")(as_frame=True)
        frame = bunch.frame.rename(columns=str)
        if name != "diabetes":
            frame["target"] = frame["target"].map(dict(enumerate(map(str, bunch.target_names))))
        return read_table(frame, target="target")
    return data.table(name, folder)


def _run(setup: Setup, key: Key) -> Rows:
    """Train a network on a table, and compare the methods on rows it has not seen."""
    name, seed = key
    table = _table(name, setup.data)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(table.rows, generator=generator)
    few = 5 if setup.smoke else EXPLAINED
    shown, seen = order[:few], order[few : few + TRAINING]
    training = table.take(seen)
    n_in, n_out = len(table.schema.features), len(table.schema.outputs)
    model = KAN([n_in, HIDDEN, n_out], generator=generator).double()
    steps = 3 if setup.smoke else STEPS
    result = fit(model, training, steps=steps, generator=generator, progress=False)
    comparison = compare(
        model,
        table.x[shown],
        background=training.x[:few] if setup.smoke else training.x[:BACKGROUND],
        target=0,
        methods=_SMOKE_METHODS if setup.smoke else DEFAULT_METHODS,
        metrics=_SCORES,
        generator=generator,
        progress=False,
    )
    facts = {
        "captum": version_of("captum"),
        "rows": len(training.x),
        "features": n_in,
        "outputs": n_out,
        "metric": result.metric,
    }
    return [{**facts, **row} for row in _rows(comparison)]


def _rows(comparison: Any) -> list[dict[str, Any]]:
    found = []
    for record in comparison.frame.to_dict(orient="records"):
        values = comparison.attributions[record["method"]].values
        sizes = values.abs().mean(0).tolist()
        found.append({**record, "importance": json.dumps([float(f"{v:.6g}") for v in sizes])})
    return found


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return one row per method: medians over tables and seeds, and agreement of seeds."""
    import pandas as pd

    wanted = ["relative_gap", "shapley_error", "shapley_rank", "infidelity", "deletion"]
    wanted += ["evaluations", "seconds"]
    numbers = frame.assign(**{name: pd.to_numeric(frame[name]) for name in wanted})
    table = numbers.groupby("method", sort=False)[wanted].median()
    groups = frame.groupby("method", sort=False)
    table["seeds_agree"] = pd.Series({method: seeds_agree(part) for method, part in groups})
    return {"trained networks: medians over tables and seeds": table.reset_index()}


def seeds_agree(part: pd.DataFrame) -> float:
    """Return the rank agreement of a method's importance between seeds, median over tables."""
    import numpy as np
    import pandas as pd

    found = []
    for _, rows in part.groupby("table"):
        ranks = pd.DataFrame(map(json.loads, rows["importance"])).rank(axis=1).T.corr().to_numpy()
        pairs = ranks[np.triu_indices(len(ranks), 1)]
        found += [pairs.mean()] if len(pairs) else []
    return float(np.nanmedian(found)) if found else float("nan")


TRAINED = Experiment(
    name="trained",
    question="How do the well-known methods do on networks trained on tables?",
    tables={
        "attribution-trained": (
            *("captum", "rows", "features", "outputs", "metric"),
            *("method", "exact", "complete", "baseline"),
            *_SCORES,
            *("offgrid", "evaluations", "seconds", "verdict", "importance"),
        )
    },
    keys=("table", "seed"),
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("captum", "verdict", "importance"),
    alone=True,
)
