"""Share of new rows in intervals and sets of 90 %, and their width beside MAPIE's [1]_.

MAPIE refits the same estimator on five folds, for intervals by CV+ [2]_ and sets by probabilities
[3]_.

References
----------
.. [1] V. Taquet et al., MAPIE: an open-source library for distribution-free uncertainty
   quantification, 2022.
.. [2] R. Barber et al., Predictive inference with the jackknife+, 2021.
.. [3] M. Sadinle et al., Least ambiguous set-valued classifiers with bounded error levels, 2019.
"""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import kanlens
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import load, missing, version_of
from benchmarks.readable.models import training_digest
from benchmarks.readable.tables import Problem, bundled, present, problem

if TYPE_CHECKING:
    import pandas as pd

    from kanlens.data._cell_parsing import Array

LEVEL = 0.9
TESTED, MOST, NEW = 2000, 60, 200  # rows tested per table, most splits, new rows of a drawn table
COMPARED = 2  # splits on which MAPIE is fitted
MODELS: dict[str, dict[str, Any]] = {"default": {}, "additive": {"hidden": ()}}
DRAWN = {  # rows, columns
    "uneven noise": (600, 6),
    "heavy tails": (600, 6),
    "80 rows": (80, 6),
    "100 rows, wide": (100, 12),
    "two classes": (300, 6),
    "three classes": (400, 6),
    "80 rows, two classes": (80, 6),
}
BUNDLED = {"wine": partial(bundled, "wine", classes=True)}
SMOKE = ("80 rows", "80 rows, two classes")
Split: TypeAlias = "tuple[pd.DataFrame, Array, pd.DataFrame, Array]"  # x and y, and new ones


def draw(name: str, seed: int) -> Problem:
    """Draw a table of curves, a product, and noise, with 200 rows more than it has."""
    import pandas as pd

    generator, (rows, columns) = np.random.default_rng((11, seed)), DRAWN[name]
    rows += NEW
    x = generator.uniform(-1, 1, (rows, columns))
    y = np.sin(3 * x[:, 0]) + 2 * x[:, 1] ** 2 + x[:, 2] * x[:, 3]
    if "classes" in name:
        scores = [y, 2 * x[:, 4], -y] if name.startswith("three") else [np.ones(rows), 1.5 * y]
        y = np.argmax(np.stack(scores, 1) + generator.gumbel(size=(rows, len(scores))), 1)
    elif name == "heavy tails":
        y = y + 0.3 * generator.standard_t(2.5, size=rows)
    else:
        uneven = 0.1 + 0.6 * (x[:, 0] > 0) + 0.4 * np.abs(x[:, 1])
        y = y + (uneven if name == "uneven noise" else 0.4) * generator.normal(size=rows)
    frame = pd.DataFrame(x, columns=[f"x{column}" for column in range(columns)])
    return Problem(frame=frame.assign(y=y), target="y", classes="classes" in name)


def split(name: str, seed: int, setup: Setup) -> tuple[bool, Split]:
    """Return whether a table holds classes, and rows to train on and to judge by."""
    if name in DRAWN:
        own = draw(name, seed)
        parts = own.frame.iloc[:-NEW].reset_index(drop=True), own.frame.iloc[-NEW:]
    else:
        own = BUNDLED[name]() if name in BUNDLED else problem(name, setup.data)
        parts = own.split(seed)
    x, new = (part.drop(columns=own.target) for part in parts)
    y, truth = (part[own.target].to_numpy() for part in parts)
    return own.classes, (x, y, new, truth)


def judge(inside: Array, truth: Array, *, classes: bool) -> tuple[float, float]:
    """Return the share covered, and the median width or the mean size of sets.

    `inside` are sets (row, class), or the ends of intervals (row, 2).
    """
    if classes:
        return float(inside[np.arange(len(truth)), truth].mean()), float(inside.sum(1).mean())
    low, high = inside.T
    return float(((low <= truth) & (truth <= high)).mean()), float(np.median(high - low))


def own_intervals(model: Any, rows: Split, *, classes: bool) -> Array:
    """Return the sets or intervals of an estimator."""
    fitted = model.fit(*rows[:2])
    if classes:
        return np.asarray(fitted.predict_set(rows[2], LEVEL))
    return np.asarray(fitted.predict(rows[2], interval=LEVEL)[:, 1:])


def mapie_intervals(model: Any, rows: Split, *, classes: bool) -> Array:
    """Return the sets or intervals of MAPIE around an estimator."""
    x, y, new, _ = rows
    options = {"confidence_level": LEVEL, "cv": 5, "random_state": 0}
    if classes:
        module, kind = load("mapie.classification"), {"conformity_score": "lac"}
        other = module.CrossConformalClassifier(model, **kind, **options)
    else:
        module = load("mapie.regression")
        other = module.CrossConformalRegressor(model, method="plus", **options)
    fitted = other.fit_conformalize(x, y)
    ends = (fitted.predict_set if classes else fitted.predict_interval)(new)[1]
    return np.asarray(ends)[:, :, 0]


def _plan(setup: Setup) -> Units:
    found, lacking = present(setup)
    names = SMOKE if setup.smoke else (*found, *BUNDLED, *DRAWN)
    reason = missing("mapie")
    keys = tuple((name, model) for name in names for model in MODELS)
    return Units(keys=keys, skipped=lacking | ({"MAPIE": reason} if reason else {}))


def _run(setup: Setup, key: Key) -> Rows:
    """Measure the intervals of a model on splits of a table."""
    name, options = str(key[0]), MODELS[str(key[1])]
    own, others = list[tuple[float, float]](), list[tuple[float, float]]()
    count, tested = 1, 0
    while len(own) < count:
        seed = len(own)
        classes, rows = split(name, seed, setup)
        kind = kanlens.KANClassifier if classes else kanlens.KANRegressor
        model = kind(random_state=seed, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rows outside the training data
            own.append(judge(own_intervals(model, rows, classes=classes), rows[3], classes=classes))
            if seed < COMPARED and not missing("mapie"):
                ends = mapie_intervals(model, rows, classes=classes)
                others.append(judge(ends, rows[3], classes=classes))
        tested += len(rows[3])
        count = 1 if setup.smoke else min(MOST, math.ceil(TESTED / len(rows[3])))
    blank = [(math.nan, math.nan)]
    (covered, width), (mapie, other) = np.mean(own, 0), np.mean(others or blank, 0)
    ratio = np.mean([a[1] / b[1] for a, b in zip(own, others or blank, strict=False)])
    row = {"covered": covered, "width": width, "ratio": ratio}
    row |= {"mapie_covered": mapie, "mapie_width": other, "mapie": version_of("mapie")}
    row = {name: float(value) if name != "mapie" else value for name, value in row.items()}
    facts = {"classes": int(classes), "rows": len(rows[1]), "tested": tested, "splits": count}
    return [{**row, **facts, "version": training_digest()}]


def _current(setup: Setup, key: Key, rows: Rows) -> bool:
    return bool(rows) and rows[0]["version"] == training_digest()


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = ["table", "model", "covered", "ratio", "rows", "tested"]
    return {"share of new rows in 90 %, and width over MAPIE's": frame[columns]}


INTERVALS = Experiment(
    name="intervals",
    question="Do intervals of 90 % hold nine of ten new rows, and are they as short as MAPIE's?",
    keys=("table", "model"),
    tables={
        "tables-intervals": (
            *("classes", "covered", "width", "mapie_covered", "mapie_width", "ratio"),
            *("rows", "tested", "splits", "mapie", "version"),
        )
    },
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("table", "mapie", "version"),
    current=_current,
)
