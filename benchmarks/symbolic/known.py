"""Functions that KANs are shown with: found by networks, and found by `discover`.

``exp(sin(pi*x) + y**2)`` from ten seeds, the others from three, 1000 rows each. "networks" is what
`KANSymbolicRegressor` does, with its default settings; `discover` has a minute. The functions are
those of pykan's documentation but for the one with a Bessel function, which no formula here has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.equations import (
    Array,
    Equation,
    evaluate,
    sample,
    uniform,
    written,
)
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.symbolic.equivalence import judge
from benchmarks.symbolic.recovery import SMOKE_LIMIT, TIME_LIMIT
from kanlens.discovery._discover import discover
from kanlens.estimators import KANSymbolicRegressor

if TYPE_CHECKING:
    import pandas as pd

WAYS = ("networks", "discover")
MANY, FEW = 10, 3  # seeds of the first function by networks, and of all else
SMOKE_ROWS = 200
_FRESH = 5000
_CLOSE = 1e-9
_ALL = (
    ("exponential", "exp(sin(pi*x) + y**2)", "x y", -1.0, 1.0),
    ("product", "x*y", "x y", -1.0, 1.0),
    ("length", "sqrt(x**2 + y**2)", "x y", -1.0, 1.0),
    ("velocities", "(u + v)/(1 + u*v)", "u v", -0.9, 0.9),
    ("logarithms", "sin(2*(log(x) + log(y)))", "x y", 0.2, 5.0),
    ("four", "exp((sin(pi*(a**2 + b**2)) + sin(pi*(c**2 + d**2)))/2)", "a b c d", -1.0, 1.0),
)
EQUATIONS = {each[0]: written("known", *each) for each in _ALL}


def _plan(setup: Setup) -> Units:
    if setup.smoke:
        return Units(keys=tuple((way, "product", 0) for way in WAYS))
    first = next(iter(EQUATIONS))
    return Units(
        keys=tuple(
            (way, name, seed)
            for name in EQUATIONS
            for way in WAYS
            for seed in range(MANY if (way, name) == (WAYS[0], first) else FEW)
        )
    )


def _run(setup: Setup, key: Key) -> Rows:
    """Find one function in one way."""
    way, name, seed = key
    equation = EQUATIONS[name]
    x, y = sample(equation, 0.0, int(seed))
    if setup.smoke:
        x, y = x[:SMOKE_ROWS], y[:SMOKE_ROWS]
    start = time.perf_counter()
    formula, stopped = _found(way, equation, x, y, int(seed), setup.smoke)
    seconds = time.perf_counter() - start
    fresh = uniform(equation.ranges, _FRESH, np.random.default_rng([int(seed), 4]))
    gap = evaluate(formula, equation.variables, fresh) - equation.values(fresh)
    rmse = float(np.sqrt(np.mean(np.square(gap))))
    row = {
        "rows": len(x),
        "exact": int(is_exact(formula, equation)),
        "rmse": rmse if np.isfinite(rmse) else None,
        "seconds": seconds,
    }
    return [{**row, **judge(formula, equation, stopped, int(seed))}]


def _found(
    way: str, equation: Equation, x: Array, y: Array, seed: int, smoke: bool
) -> tuple[Any, str]:
    """Return a formula, and why the search ended."""
    import pandas as pd

    names = list(equation.variables)
    if way == "discover":
        generator = torch.Generator().manual_seed(seed)
        limit = SMOKE_LIMIT if smoke else TIME_LIMIT
        result = discover(x, y, names, time_limit=limit, generator=generator, progress=False)
        return result.sympy(), result.stopped_because
    estimator = KANSymbolicRegressor(starts=1 if smoke else 8, random_state=seed)
    return estimator.fit(pd.DataFrame(x, columns=names), y).sympy(), ""


def is_exact(formula: Any, equation: Equation) -> bool:
    """Return whether a formula is an equation to the last number, none of them with a point."""
    import sympy

    if formula.atoms(sympy.Float):
        return False
    x = uniform(equation.wider(), _FRESH, np.random.default_rng(5))
    truth = equation.values(x)
    finite = np.isfinite(truth)
    gap = np.abs(evaluate(formula, equation.variables, x) - truth)[finite]
    return bool((gap <= _CLOSE * (1 + np.abs(truth[finite]))).all())


def _summary(frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Return the outcomes for each function in each way, with the first exact formula."""
    groups = frame.sort_values("exact", ascending=False, kind="stable").groupby(
        ["name", "way"], sort=False
    )
    table = groups.agg(
        runs=("seed", "size"),
        exact=("exact", "sum"),
        accurate=("accurate", "sum"),
        rmse=("rmse", "max"),
        seconds=("seconds", "median"),
        most_seconds=("seconds", "max"),
        formula=("formula", "first"),
    )
    return {"functions that KANs are shown with": table.reset_index()}


KNOWN = Experiment(
    name="known",
    question="Are the functions that KANs are shown with found?",
    tables={
        "symbolic-known": (
            *("rows", "exact", "recovered", "rounded", "accurate"),
            *("r2", "rmse", "seconds", "reason", "formula"),
        )
    },
    keys=("way", "name", "seed"),
    text=("formula",),
    plan=_plan,
    run=_run,
    summary=_summary,
)
