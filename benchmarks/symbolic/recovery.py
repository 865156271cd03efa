"""How many known equations, and formulas of drawn structure, `discover` finds from their data.

Every equation from three seeds without noise, and every third with 0.1 and 1 % of it. Recovered:
the difference to the truth is constant, or the ratio, to 1e-6 on fresh rows and on ranges twice as
wide. Noise leaves room for numbers, so that there is a second column, `rounded`, for which they are
rounded first, as SRBench does. `equivalence` has both, and the reasons of failures. Of
the two suites of drawn formulas the search was tuned with one, and the other judges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch

from benchmarks.equations import Equation, equations_of, sample, thirds
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.symbolic.drawn import SUITES, drawn, names_of
from benchmarks.symbolic.equivalence import VERDICT, judge
from kanlens.discovery._discover import discover

if TYPE_CHECKING:
    import pandas as pd

SEEDS = 3
TIME_LIMIT, SMOKE_LIMIT = 60.0, 10.0
SMOKE_COUNT = 1  # drawn formulas of a suite
NOISES = (0.0, 0.001, 0.01)
COLUMNS = (
    *("tier", "shape", "rows"),
    *VERDICT[:-2],
    *("seconds", "reason", "stopped", "formula"),
)
TEXT = ("source", "name", "tier", "shape", "formula")
LEFT_OUT = {"equations": "no feynman.csv in the folder of the data"}


def _plan(setup: Setup) -> Units:
    found = equations_of(setup)
    if not found:
        return Units(keys=(), skipped=LEFT_OUT)
    seeds = setup.seeds[: 1 if setup.smoke else SEEDS]
    keys = [(*key, 0.0, seed) for seed in seeds for key in found]
    if not setup.smoke:
        third = thirds(setup)
        keys += [(*key, noise, seed) for noise in NOISES[1:] for seed in seeds for key in third]
    return Units(keys=tuple(keys))


def _run(setup: Setup, key: Key) -> Rows:
    """Look for one equation."""
    source, name, noise, seed = key
    equation = equations_of(setup)[(source, name)]
    return look_for(equation, float(noise), int(seed), SMOKE_LIMIT if setup.smoke else TIME_LIMIT)


def look_for(equation: Equation, noise: float, seed: int, limit: float) -> Rows:
    """Draw the data of an equation and return what `discover` makes of it in so many seconds."""
    x, y = sample(equation, noise, seed)
    generator = torch.Generator()
    generator.manual_seed(seed)
    found = discover(
        x, y, equation.variables, time_limit=limit, generator=generator, progress=False
    )
    row = {
        "tier": equation.tier,
        "shape": equation.shape,
        "rows": len(x),
        "seconds": found.seconds,
        "stopped": found.stopped_because,
    }
    return [{**row, **judge(found.sympy(), equation, found.stopped_because, seed)}]


def shares(frame: pd.DataFrame, by: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return shares and seconds of the runs in every group and tier, and failures by reason."""
    frame = frame.astype(dict.fromkeys(["recovered", "rounded", "accurate", "seconds"], float))
    groups = frame.groupby([*by, "tier"], dropna=False, sort=False)
    found = groups[["recovered", "rounded", "accurate"]].mean().round(3)
    found = found.assign(runs=groups.size())
    seconds = groups["seconds"].agg(["median", "max"]).add_suffix(" seconds")
    missed = frame[frame["recovered"] == 0]
    failed = missed.groupby([*by, "reason"]).size().unstack(fill_value=0)
    return found.join(seconds).reset_index(), failed.reset_index()


def _summary(name: str, by: list[str], frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Return the shares that were found by group and tier, and the runs that failed."""
    found, failed = shares(frame, by)
    columns = [*by, "name", "reason", "rounded", "r2", "seconds", "formula"]
    missed = frame[frame["recovered"] == 0][columns]
    return {name: found, f"{name}: reasons": failed, f"{name}: not recovered": missed}


RECOVERY = Experiment(
    name="recovery",
    question="How many known equations does discover find from their data?",
    tables={"symbolic-recovery": COLUMNS},
    keys=("source", "name", "noise", "seed"),
    text=TEXT,
    plan=_plan,
    run=_run,
    summary=partial(_summary, "recovery", ["source", "noise"]),
)


def _plan_drawn(setup: Setup) -> Units:
    chosen = names_of(SMOKE_COUNT) if setup.smoke else names_of()
    seed = setup.seeds[0]
    return Units(keys=tuple((suite, name, seed) for suite in SUITES for name in chosen))


def _run_drawn(setup: Setup, key: Key) -> Rows:
    """Look for one formula."""
    suite, name, seed = key
    equation = drawn(str(suite), str(name))
    return look_for(equation, 0.0, int(seed), SMOKE_LIMIT if setup.smoke else TIME_LIMIT)


DRAWN = Experiment(
    name="drawn",
    question="How many formulas of drawn structure does discover find from their data?",
    tables={"symbolic-drawn": COLUMNS},
    keys=("source", "name", "seed"),
    text=TEXT,
    plan=_plan_drawn,
    run=_run_drawn,
    summary=partial(_summary, "formulas of drawn structure", ["source"]),
)
