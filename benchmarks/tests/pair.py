"""An experiment for tests of the harness, in a file that a process of the pool reads quickly."""

from __future__ import annotations

from benchmarks.harness import Experiment, Units


def double(setup, key):
    return {"first": [{"double": 2 * key[0]}], "second": [{}]}


def plan(setup):
    return Units(keys=tuple((seed,) for seed in setup.seeds), skipped={"that": "why"})


def total(frame):
    return {"total": frame[["double"]].sum().to_frame()}


PAIR = Experiment(
    name="pair",
    question="What is twice a seed?",
    keys=("n",),
    tables={"first": ("double",), "second": ()},
    plan=plan,
    run=double,
    summary=total,
)
