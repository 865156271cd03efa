"""How many known equations other tools find, and kanlens on the same rows in the same time.

Every third equation, one seed, no noise and a hundredth; and by Operon, without noise, the formulas
of drawn structure that judge (`recovery.DRAWN` has kanlens's). Each run is a process of its own,
which ends when the time is over; what fails is a row that says why. Settings: `peer_methods`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.equations import thirds
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import missing, version_of
from benchmarks.processes import ask, ask_all
from benchmarks.symbolic.drawn import equation_of, names_of
from benchmarks.symbolic.peer_methods import METHODS
from benchmarks.symbolic.recovery import (
    COLUMNS,
    LEFT_OUT,
    TEXT,
    TIME_LIMIT,
    shares,
)

if TYPE_CHECKING:
    import pandas as pd

NOISES = (0.0, 0.01)
BESIDE = "operon"  # of the formulas of drawn structure
SMOKE_LIMIT = 4.0
MODULE = "benchmarks.symbolic.peer_methods"
_STARTING = 60.0  # seconds a process may take beside the search, for imports and the verdict
_UNKNOWN = {"recovered": 0, "rounded": 0, "accurate": 0, "r2": None, "formula": ""}


def _plan(setup: Setup) -> Units:
    chosen = thirds(setup)
    if not chosen:
        return Units(keys=(), skipped=LEFT_OUT)
    skipped = unusable()
    noises, judging = (NOISES[:1], ()) if setup.smoke else (NOISES, names_of())
    runs = [(*key, noise) for noise in noises for key in chosen]
    methods = [method for method in METHODS if method not in skipped]
    keys = [(method, *run) for run in runs for method in methods]
    keys += [(BESIDE, "judging", name, 0.0) for name in judging if BESIDE in methods]
    ordered = sorted(keys, key=lambda key: key[3])  # what has no noise comes first
    return Units(keys=tuple((*key, setup.seeds[0]) for key in ordered), skipped=skipped)


def unusable() -> dict[str, str]:
    """Return the methods that cannot be imported here, and why."""
    found = {name: missing(method.package) for name, method in METHODS.items()}
    there = [name for name, why in found.items() if not why]
    answers = ask_all(MODULE, [{"method": name} for name in there])
    found |= {
        name: f"cannot be imported: {each['failed']}"
        for name, each in zip(there, answers, strict=True)
        if "failed" in each
    }
    return {name: why for name, why in found.items() if why}


def _run(setup: Setup, key: Key) -> Rows:
    """Have one method look for one equation."""
    method, source, name, noise, seed = key
    equation = equation_of(setup, str(source), str(name))
    limit = SMOKE_LIMIT if setup.smoke else TIME_LIMIT
    question = {
        "method": method,
        "source": source,
        "name": name,
        "noise": float(noise),
        "seed": int(seed),
        "limit": limit,
        "data": str(setup.data) if setup.data else None,
        "smoke": setup.smoke,
    }
    found: dict[str, Any] = ask(MODULE, question, timeout=limit + _STARTING)
    if "failed" in found:
        late = bool(found.get("late"))
        found = {
            **_UNKNOWN,
            "reason": "time" if late else "failed",
            "seconds": limit if late else None,
            "stopped": found["failed"],
        }
    row = {
        "version": version_of(METHODS[method].distribution),
        "tier": equation.tier,
        "shape": equation.shape,
    }
    return [row | found]


def _summary(frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Return the shares that each method found, and why it missed the rest."""
    found, failed = shares(frame, ["method", "source", "noise"])
    return {
        "the same equations by other methods, one process and one thread each": found,
        "why other methods missed them": failed,
    }


PEERS = Experiment(
    name="peers",
    question="How many known equations do other tools find from the same rows?",
    tables={"symbolic-peers": ("version", *COLUMNS)},
    keys=("method", "source", "name", "noise", "seed"),
    text=("version", *TEXT),
    plan=_plan,
    run=_run,
    summary=_summary,
)
