"""Scores on rows held out, sizes and seconds of small networks and of boosted additive models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Benchmark, Experiment, Key, Rows, Setup, Units
from benchmarks.readable.constraints import DRAWN_SHAPES
from benchmarks.readable.directions import DIRECTIONS
from benchmarks.readable.imitation import IMITATION
from benchmarks.readable.losses import LOSSES
from benchmarks.readable.models import PEERS, taking_part
from benchmarks.readable.pictures import PICTURES
from benchmarks.readable.planted import PAIRS
from benchmarks.readable.tables import MAX_ROWS, SMOKE_ROWS, present, problem

if TYPE_CHECKING:
    import pandas as pd

LEAST = 1e-7  # probability of a class


def _plan(setup: Setup) -> Units:
    names, lacking = present(setup)
    peers, absent = taking_part()
    keys = [(name, seed, peer) for peer in peers for seed in setup.seeds for name in names]
    return Units(keys=tuple(keys), skipped=lacking | absent)


def _run(setup: Setup, key: Key) -> Rows:
    """Fit a model to four fifths of a table, and judge it by the others."""
    from sklearn.metrics import log_loss, r2_score

    name, seed, peer = str(key[0]), int(key[1]), PEERS[str(key[2])]
    own = problem(name, setup.data)
    train, test = own.split(seed, SMOKE_ROWS if setup.smoke else MAX_ROWS)
    found = peer.fit(own, train, test, seed, **(peer.brief if setup.smoke else {}))
    true = test[own.target].to_numpy()
    if own.classes:
        metric = "log loss"
        score = -log_loss(true, np.clip(found.predicted, LEAST, 1 - LEAST))
    else:
        metric, score = "R2", r2_score(true, found.predicted)
    row = {"metric": metric, "score": score, "size": found.size, "seconds": found.seconds}
    shape = {"rows": len(train), "columns": train.shape[1] - 1}
    return [{**row, **shape, "version": peer.version()}]


def _current(setup: Setup, key: Key, rows: Rows) -> bool:
    """Return whether a model was measured as it is now."""
    return bool(rows) and rows[0]["version"] == PEERS[str(key[2])].version()


def means(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return means of a column by table and peer, over the splits that all peers have."""
    splits = frame.pivot_table(value, ["table", "seed"], "peer", sort=False).dropna()
    return splits.groupby("table", sort=False).mean()


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    titles = {
        "score": "R2, or minus log loss, on rows held out",
        "size": "edges or terms",
        "seconds": "seconds of one processor",
    }
    return {title: means(frame, value).reset_index() for value, title in titles.items()}


SCORES = Experiment(
    name="tables",
    question="How well do networks of few edges predict, beside boosted additive models?",
    keys=("table", "seed", "peer"),
    tables={
        "readable-tables": (*("metric", "score", "size", "seconds", "rows", "columns", "version"),)
    },
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("version",),
    current=_current,
)

READABLE = Benchmark(
    name="readable",
    experiments=(SCORES, PAIRS, IMITATION, DRAWN_SHAPES, DIRECTIONS, LOSSES),
    pictures=PICTURES,
)
