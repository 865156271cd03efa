"""How many known equations `discover` finds again from their data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kanlens.benchmarks.symbolic.part import STAMP, Key, Part, Plan, Rows, Setup, marks
from kanlens.benchmarks.symbolic.recovery_equations import (
    Equation,
    is_recovered,
    r2_score,
    read_equations,
)
from kanlens.symbolic import discover

if TYPE_CHECKING:
    import pandas as pd

FILES = {"feynman": "feynman.csv", "univariate": "univariate.csv"}
SEEDS = 3
TIME_LIMIT, SMOKE_LIMIT = 60.0, 10.0
NOISES = (0.0, 0.001, 0.01)
_EVERY = 3  # equations of which one gets noise
_ACCURATE = 0.999
COLUMNS = (
    *STAMP,
    "source",
    "name",
    "tier",
    "shape",
    "noise",
    "seed",
    "rows",
    "recovered",
    "accurate",
    "r2",
    "seconds",
    "reason",
    "stopped",
    "formula",
)
_BUILT_IN = (
    Equation(
        source="smoke",
        name="product",
        text="a*b/c",
        variables=("a", "b", "c"),
        ranges=((1.0, 5.0),) * 3,
    ),
    Equation(
        source="smoke", name="wave", text="a*sin(b)", variables=("a", "b"), ranges=((1.0, 5.0),) * 2
    ),
    Equation(
        source="smoke",
        name="length",
        text="sqrt(a**2 + b**2)",
        variables=("a", "b"),
        ranges=((1.0, 5.0),) * 2,
    ),
    Equation(
        source="smoke", name="decay", text="exp(-a**2/2)", variables=("a",), ranges=((1.0, 3.0),)
    ),
    Equation(
        source="smoke",
        name="mean",
        text="(a*b + c*d)/(a + c)",
        variables=("a", "b", "c", "d"),
        ranges=((1.0, 5.0),) * 4,
    ),
)


def equations_of(setup: Setup) -> dict[tuple[str, str], Equation]:
    """Return the equations by source and name; for a smoke run five that need no file.

    Examples
    --------
    >>> len(equations_of(Setup(smoke=True)))
    5
    """
    if setup.smoke:
        every = list(_BUILT_IN)
    elif setup.data is None:
        every = []
    else:
        paths = {source: setup.data / name for source, name in FILES.items()}
        every = [
            equation
            for source, path in paths.items()
            if path.exists()
            for equation in read_equations(path, source)
        ]
    return {(equation.source, equation.name): equation for equation in every}


def _plan(setup: Setup) -> Plan:
    found = equations_of(setup)
    if not found:
        return Plan(keys=(), skipped={"equations": "no feynman.csv in the folder of the data"})
    seeds = 1 if setup.smoke else min(setup.seeds, SEEDS)
    keys = [(*key, 0.0, seed) for seed in range(seeds) for key in found]
    if not setup.smoke:
        third = [key for place, key in enumerate(found) if place % _EVERY == 0]
        keys += [
            (*key, noise, seed) for noise in NOISES[1:] for seed in range(seeds) for key in third
        ]
    return Plan(keys=tuple(keys))


def _run(setup: Setup, key: Key) -> Rows:
    """Look for one equation."""
    source, name, noise, seed = key
    equation = equations_of(setup)[(source, name)]
    numbers = np.random.default_rng([int(seed), 1])
    x = equation.draw(numbers)
    truth = equation.values(x)
    x, truth = x[np.isfinite(truth)], truth[np.isfinite(truth)]
    size = float(np.sqrt(np.mean(np.square(truth))))
    y = truth + float(noise) * size * numbers.normal(size=len(truth))
    generator = torch.Generator()
    generator.manual_seed(int(seed))
    limit = SMOKE_LIMIT if setup.smoke else TIME_LIMIT
    found = discover(
        x, y, equation.variables, time_limit=limit, generator=generator, progress=False
    )
    formula = found.sympy()
    recovered = is_recovered(formula, equation, np.random.default_rng([int(seed), 2]))
    r2 = r2_score(formula, equation, np.random.default_rng([int(seed), 3]))
    row = {
        "source": source,
        "name": name,
        "tier": equation.tier,
        "shape": equation.shape,
        "noise": noise,
        "seed": seed,
        "rows": len(x),
        "recovered": int(recovered),
        "accurate": int(r2 > _ACCURATE),
        "r2": r2 if np.isfinite(r2) else None,
        "seconds": found.seconds,
        "reason": "" if recovered else reason(formula, equation, r2, found.stopped_because),
        "stopped": found.stopped_because,
        "formula": str(formula),
    }
    return [{**marks(), **row}]


def reason(formula: Any, equation: Equation, r2: float, stopped: str) -> str:
    """Say why a formula is not the equation.

    Returns
    -------
    str
        "constants" where it is but for its numbers, "edge family" where it has other functions of
        the same variables and follows the equation, "time" where the search ended early, else
        "structure".

    Examples
    --------
    >>> import sympy
    >>> line = Equation(source="", name="", text="2*sin(a)", variables=("a",), ranges=((1, 2),))
    >>> reason(sympy.sympify("2.01*sin(a)"), line, 0.99, "every way was tried")
    'constants'
    """
    if _skeleton(formula) == _skeleton(equation.expression):
        return "constants"
    if "time" in stopped and r2 <= _ACCURATE:
        return "time"
    names = {s.name for s in formula.free_symbols} == {
        s.name for s in equation.expression.free_symbols
    }
    return "edge family" if names and r2 > _ACCURATE else "structure"


def _skeleton(expression: Any) -> str:
    """Return an expression's form without its numbers."""
    import sympy

    def bare(node: Any) -> str:
        if node.is_Symbol:
            return str(node.name)
        if not node.free_symbols:
            return "#"
        parts = sorted(bare(arg) for arg in node.args)
        if isinstance(node, (sympy.Mul, sympy.Add)):
            parts = [part for part in parts if part != "#"]
        if len(parts) == 1 and isinstance(node, (sympy.Mul, sympy.Add)):
            return parts[0]
        return f"{type(node).__name__}({','.join(parts)})"

    return bare(expression)


def _summary(frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Return the shares that were found by source, tier and noise, and what was not."""
    import pandas as pd

    table = []
    tiers = [("all", frame)] + [(tier or "-", part) for tier, part in frame.groupby("tier")]
    for tier, part in tiers:
        for (source, noise), group in part.groupby(["source", "noise"]):
            shapes = group.groupby("shape")["recovered"].min()
            table.append(
                {
                    "source": source,
                    "tier": tier,
                    "noise": noise,
                    "runs": len(group),
                    "recovered": f"{group['recovered'].mean():.1%}",
                    "R2 > 0.999": f"{group['accurate'].mean():.1%}",
                    "shapes": f"{int(shapes.sum())} of {len(shapes)}",
                    "median seconds": float(group["seconds"].median()),
                    "most seconds": float(group["seconds"].max()),
                }
            )
    failed = frame[frame["recovered"] == 0]
    columns = ["source", "name", "noise", "seed", "reason", "r2", "seconds", "formula"]
    return {"recovery": pd.DataFrame(table), "not recovered": failed[columns]}


RECOVERY = Part(
    name="recovery",
    question="How many known equations does discover find from their data?",
    columns=COLUMNS,
    keys=("source", "name", "noise", "seed"),
    text=(*STAMP, "source", "name", "tier", "shape", "reason", "stopped", "formula"),
    plan=_plan,
    run=_run,
    summary=_summary,
)
