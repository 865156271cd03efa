"""The part ``planted``: every method on every planted network."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, cast

import torch

from benchmarks.attribution.cases import CASES
from benchmarks.attribution.scoring import PATHS, SEED, SHAPLEY, Sample, draw_sample, score_local
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import version_of
from kanlens._resources import one_thread
from kanlens.attribution._attribute import METHODS, attribute
from kanlens.attribution._method_runs import RANDOM
from kanlens.attribution._problem import Baseline
from kanlens.attribution._result import Attribution
from kanlens.errors import KanlensError

if TYPE_CHECKING:
    import pandas as pd

ROWS, BACKGROUND = 20, 25
TRIAL = 2  # rows of a first call; some methods compare rows with each other
LIMIT = 60.0  # seconds; a method that needs more for all rows is given fewer
_SMOKE = ("shapley", "secant", "captum_feature_ablation", RANDOM)
_SCORES = (
    *("shapley_error", "ig_error", "covered"),
    *("rank_agreement", "sign_agreement", "leakage", "gap"),
)
LOCAL = [name for name, method in METHODS.items() if method.scope == "local"]


def _plan(setup: Setup) -> Units:
    cases, methods = (("bilinear", "exp_sin"), _SMOKE) if setup.smoke else (CASES, [*LOCAL, RANDOM])
    return Units(keys=tuple(itertools.product(cases, methods)))


def _run(setup: Setup, key: Key) -> Rows:
    """Run one method on one network; a refusal is a row too."""
    case, name = key
    sample = draw_sample(case, *((4, 5) if setup.smoke else (ROWS, BACKGROUND)))
    row: dict[str, Any] = {
        "captum": version_of("captum"),
        "scope": "local",
        "inputs": sample.case.inputs,
        "layers": len(sample.case.sheets),
        "background": len(sample.background),
        "spline_error": sample.spline_error,
    }
    try:
        with one_thread():
            row |= run_method(name, sample)
    except KanlensError as error:
        row |= {"status": "refused", "reason": str(error)}
    except Exception as error:  # noqa: BLE001 - a method that fails is a row, not the end
        row |= {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return [row]


def run_method(name: str, sample: Sample) -> dict[str, Any]:
    """Run a method of ``METHODS``, or "random", on a sample, time it, and score its values."""
    rows = _affordable(name, sample)
    found, seconds = _timed(name, sample, rows)
    row: dict[str, Any] = {"rows": rows, "seconds": seconds, "seconds_per_row": seconds / rows}
    row["remark"] = found.remark
    if found.values.shape[1] != sample.case.inputs or found.x is None:
        text = "attributes to hidden nodes, of which the formula knows nothing"
        return {**row, "status": "no features", "reason": text}
    few = f"on fewer rows than others: all would take over {LIMIT:.0f} s"
    reason = few if rows < len(sample.x) else ""
    return {**row, "status": "scored", "reason": reason, **score_local(name, found, sample)}


def _affordable(name: str, sample: Sample) -> int:
    """Return how many rows a method can do in time; a first call warms it up."""
    for _ in range(2):  # the first time of all may have to compile something
        _, seconds = _timed(name, sample, TRIAL)
        if seconds * len(sample.x) / TRIAL <= LIMIT:
            return len(sample.x)
    return max(TRIAL, int(LIMIT * TRIAL / seconds))


def _timed(name: str, sample: Sample, rows: int) -> tuple[Attribution, float]:
    generator = torch.Generator().manual_seed(SEED)
    started = time.perf_counter()
    if name == RANDOM:
        return _random(sample, rows, generator), time.perf_counter() - started
    found = attribute(
        sample.case.model,
        sample.x[:rows],
        method=name,
        background=sample.background,
        generator=generator,
        progress=False,
    )
    return cast("Attribution", found), time.perf_counter() - started


def _random(sample: Sample, rows: int, generator: torch.Generator) -> Attribution:
    """Return the floor: normal draws of the right size that mean nothing.

    They are shifted so that they add up to the change, so that only errors tell them from methods.
    """
    model, x = sample.case.model, sample.x[:rows]
    with torch.no_grad():
        output, reference = model(x)[:, 0], model(sample.background)[:, 0].mean()
    change = output - reference
    draws = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    draws *= change.abs().mean() / x.shape[1] ** 0.5
    return Attribution(
        values=draws + ((change - draws.sum(1)) / x.shape[1])[:, None],
        output=output,
        reference=reference.expand(rows),
        baseline=Baseline.MEAN_OUTPUT,
        method=RANDOM,
        features=model.feature_names,
        target=model.output_names[0],
        x=x,
    )


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return one row per method over all networks, and the methods that could not be scored."""
    import pandas as pd

    local = frame[(frame["status"] == "scored") & (frame["scope"] == "local")]
    numbers = local.assign(**{c: pd.to_numeric(local[c]) for c in (*_SCORES, "seconds_per_row")})
    claimed = numbers["shapley_error"].where(numbers["aims_at"] == SHAPLEY)
    claimed = claimed.fillna(numbers["ig_error"].where(numbers["aims_at"] == PATHS))
    groups = numbers.assign(claimed=claimed).groupby("method", sort=False)
    middle = groups[["shapley_error", "ig_error", "gap", "seconds_per_row"]].median()
    worst = groups[["claimed", "leakage"]].max().add_prefix("worst ")
    means = groups[["rank_agreement", "sign_agreement"]].mean()
    title = "planted networks (medians where nothing else is said)"
    tables = {title: pd.concat([middle, worst, means], axis=1).reset_index()}
    others = frame[frame["status"] != "scored"]
    if len(others):
        counts = others.groupby(["method", "status"], sort=False)
        table = counts.agg(networks=("case", "size"), first_reason=("reason", "first"))
        tables["planted networks: not scored"] = table.reset_index()
    return tables


PLANTED = Experiment(
    name="planted",
    question="How far is every method from what is true of networks written down from formulas?",
    tables={
        "attribution-planted": (
            *("captum", "scope", "status", "reason", "inputs", "layers"),
            *("rows", "background", "spline_error", "baseline", "aims_at"),
            *_SCORES,
            *("seconds", "seconds_per_row", "evaluations", "remark"),
        )
    },
    keys=("case", "method"),
    plan=_plan,
    run=_run,
    summary=_summary,
    text=("captum", "reason", "remark"),
    alone=True,
)
