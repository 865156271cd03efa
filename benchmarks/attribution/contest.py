"""The part ``planted``: every method on every planted network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.attribution.sample import CASES, SEED, Sample, draw_sample
from benchmarks.attribution.scoring import PATHS, SHAPLEY, score_importance, score_local
from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.machine import version_of
from kanlens.attribution.dispatch import attribute
from kanlens.attribution.problem import Baseline
from kanlens.attribution.registry import METHODS
from kanlens.attribution.result import Attribution, Importance
from kanlens.attribution.runs import RANDOM
from kanlens.errors import KanlensError
from kanlens.resources import one_thread

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PLANTED", "RANDOM", "run_method"]

ROWS, BACKGROUND = 20, 25
MANY = 1024  # rows and background of global methods
TRIAL = 2  # rows of a first call; some methods compare rows with each other
LIMIT = 60.0  # seconds; a method that needs more for all rows is given fewer
_SMOKE_CASES = ("bilinear", "exp_sin")
_SMOKE_METHODS = ("shapley", "secant", "captum_feature_ablation", "sobol_total", RANDOM)
_SCORES = (
    *("shapley_error", "ig_error", "interaction_error", "covered"),
    *("rank_agreement", "sign_agreement", "leakage", "gap", "sobol_rank", "sobol_error"),
)

_SUMMARIES = {  # columns, and how the networks are put together
    "local": {
        "shapley_error": ("shapley_error", "median"),
        "ig_error": ("ig_error", "median"),
        "worst_of_what_it_claims": ("claimed", "max"),
        "mean_rank_agreement": ("rank_agreement", "mean"),
        "sign_agreement": ("sign_agreement", "median"),
        "gap": ("gap", "median"),
        "worst_leakage": ("leakage", "max"),
        "seconds_per_row": ("seconds_per_row", "median"),
    },
    "global": {
        "mean_sobol_rank": ("sobol_rank", "mean"),
        "worst_sobol_rank": ("sobol_rank", "min"),
        "sobol_error": ("sobol_error", "median"),
        "worst_leakage": ("leakage", "max"),
        "seconds": ("seconds", "median"),
    },
}


def _plan(setup: Setup) -> Units:
    names = [*METHODS, RANDOM]
    if setup.smoke:
        chosen = [name for name in names if name in _SMOKE_METHODS]
        return Units(keys=tuple((case, name) for case in _SMOKE_CASES for name in chosen))
    return Units(keys=tuple((case, name) for case in CASES for name in names))


def _run(setup: Setup, key: Key) -> Rows:
    """Run one method on one network; what it refuses is a row too."""
    case, name = key
    rows, background, many = (4, 5, 64) if setup.smoke else (ROWS, BACKGROUND, MANY)
    everywhere = name in METHODS and METHODS[name].scope == "global"
    sample = draw_sample(case, *((many, many) if everywhere else (rows, background)))
    row: dict[str, Any] = {
        "captum": version_of("captum"),
        "scope": "global" if everywhere else "local",
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
    """Run a method, as often as it takes to time it, and score what it found.

    Parameters
    ----------
    name : str
        Key of ``METHODS``, or "random".
    sample : Sample
        Rows of a planted network.

    Returns
    -------
    dict
        Columns of the table.

    Examples
    --------
    >>> from benchmarks.attribution.sample import draw_sample
    >>> run_method("shapley", draw_sample("bilinear", 3, 4))["shapley_error"] < 1e-12
    True
    """
    everywhere = name in METHODS and METHODS[name].scope == "global"
    rows = len(sample.x)
    if not everywhere:
        rows = _affordable(name, sample)
    found, seconds = _timed(name, sample, rows)
    reason = ""
    if rows < len(sample.x):
        reason = f"on fewer rows than others: all would take over {LIMIT:.0f} s"
    row: dict[str, Any] = {"rows": rows, "seconds": seconds}
    if isinstance(found, Importance):
        scores = score_importance(name, found, sample)
    else:
        row |= {"seconds_per_row": seconds / rows, "remark": found.remark}
        if found.values.shape[1] != sample.case.inputs or found.x is None:
            text = "attributes to hidden nodes, of which the formula knows nothing"
            return {**row, "status": "no features", "reason": text}
        scores = score_local(name, found, sample)
    return {**row, "status": "scored", "reason": reason, **scores}


def _affordable(name: str, sample: Sample) -> int:
    """Return how many rows a method can do in time; a first call warms it up."""
    for _ in range(2):  # the first time of all may have to compile something
        _, seconds = _timed(name, sample, TRIAL)
        if seconds * len(sample.x) / TRIAL <= LIMIT:
            return len(sample.x)
    return max(TRIAL, int(LIMIT * TRIAL / seconds))


def _timed(name: str, sample: Sample, rows: int) -> tuple[Attribution | Importance, float]:
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
    return found, time.perf_counter() - started


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
    """Return one row per method for local and for global ones, and what could not be scored."""
    import pandas as pd

    tables = {}
    for scope, scored in frame[frame["status"] == "scored"].groupby("scope", sort=False):
        columns = (*_SCORES, "seconds", "seconds_per_row")
        numbers = scored.assign(**{name: pd.to_numeric(scored[name]) for name in columns})
        own = {SHAPLEY: numbers["shapley_error"], PATHS: numbers["ig_error"]}
        claimed = pd.Series(float("nan"), index=numbers.index)
        for aim, errors in own.items():
            claimed = claimed.where(numbers["aims_at"] != aim, errors)
        by_method = numbers.assign(claimed=claimed).groupby("method", sort=False)
        summary = {"networks": ("case", "size"), **_SUMMARIES[scope]}
        title = f"planted networks, {scope} methods (medians where nothing else is said)"
        tables[title] = by_method.agg(**summary).reset_index()
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
