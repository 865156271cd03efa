"""How time and memory grow: tasks at sizes of one axis at a time, and the exponents they follow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Benchmark, Experiment, Key, Rows, Setup, Units
from benchmarks.processes import ask
from benchmarks.scaling import processes
from benchmarks.scaling.pictures import PICTURES
from benchmarks.scaling.subject import SIZES

if TYPE_CHECKING:
    import pandas as pd

AXES = {
    "rows": (20_000, 40_000, 80_000, 160_000, 320_000),
    "features": (5, 10, 20),
    "width": (5, 10, 20),
    "grid": (5, 10, 20),
}
TASKS = {  # and the axes that matter to them
    "forward": tuple(AXES),
    "scan": ("rows", "features"),
    "train": tuple(AXES),
    "train from files": tuple(AXES),
    "attribute": ("rows", "width", "grid"),
    "prune": ("rows", "width", "grid"),
    "suggest": ("rows", "width"),
    "certify": ("features", "width", "grid"),
}
REPEATS = (0, 1)
TIMEOUT = 1800.0  # seconds


def _plan(setup: Setup) -> Units:
    found = []
    for task, axes in TASKS.items():
        for axis in axes[:1] if setup.smoke else axes:
            values = (2000, 4000) if setup.smoke and axis == "rows" else AXES[axis]
            values = values[:2] if setup.smoke else values
            repeats = REPEATS[:1] if setup.smoke else REPEATS
            found += [(task, axis, value, one) for value in values for one in repeats]
    return Units(keys=tuple(found), whole=not setup.smoke)


def _run(setup: Setup, key: Key) -> Rows:
    task, axis, value, _ = key
    sizes = {**SIZES, **({"rows": 2000} if setup.smoke else {}), axis: value}
    answer = ask("benchmarks.scaling.subject", {"task": task, "sizes": sizes}, timeout=TIMEOUT)
    if "failed" in answer:
        return [{"seconds": math.nan, "extra_mib": math.nan, "note": answer["failed"], **sizes}]
    return [{**answer, "note": "", **sizes, axis: value}]


def exponent(sizes: Any, numbers: Any) -> tuple[float, float]:
    """Return the slope of log(numbers) over log(sizes), and half the width of its 95% interval."""
    from scipy import stats

    found = stats.linregress(np.log(np.asarray(sizes)), np.log(np.asarray(numbers)))
    return float(found.slope), float(stats.t.ppf(0.975, len(sizes) - 2) * found.stderr)


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return medians at the largest size of every axis, with the exponent of the seconds."""
    import pandas as pd

    lines = []
    known = frame.dropna(subset=["seconds"])
    for (task, axis), part in known.groupby(["task", "axis"], sort=False):
        if part["value"].nunique() > 2:
            slope, half = exponent(part["value"], part["seconds"])
            last = part[part["value"] == part["value"].max()]
            medians = last[["value", "seconds", "extra_mib"]].median().to_dict()
            lines.append({"task": task, "axis": axis, **medians, "exponent": slope, "±": half})
    return {"growth": pd.DataFrame(lines)} if lines else {}


GROWTH = Experiment(
    name="growth",
    question="How do seconds and memory grow with rows, features, width and grid?",
    keys=("task", "axis", "value", "repeat"),
    tables={
        "scaling": ("rows", "features", "width", "grid", "seconds", "extra_mib", "way", "note")
    },
    plan=_plan,
    run=_run,
    summary=_summary,
    alone=True,
)

PROCESSES = Experiment(
    name="processes",
    question="How much faster are two ranks or workers than one, in how much memory?",
    keys=("task", "count"),
    tables={"scaling-processes": ("rows", "seconds", "peak_mib", "note")},
    plan=processes.plan,
    run=processes.run,
    summary=processes.summary,
    alone=True,
)

SCALING = Benchmark(name="scaling", experiments=(GROWTH, PROCESSES), pictures=PICTURES)
