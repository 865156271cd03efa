"""The whole way on a table of houses, each step a command of its own."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data import TABLES, table_file, there
from benchmarks.harness import Experiment, Key, Setup, Tables, Units
from kanlens.errors import KanlensError

if TYPE_CHECKING:
    import pandas as pd

NAME = "california_housing"
STEPS = {
    "train": "train houses.csv --target {target} --impute median --hidden 8 --grid-size 8 "
    "--steps {steps} --learning-rate 0.02 --penalty weight_l1 --strength 0.0003 --holdout 0.2 "
    "--seed 0",
    "prune": "prune model.safetensors model.train.csv --budget 0.02 --test model.test.csv "
    "-o small.safetensors",
    "read": "symbolize small.safetensors model.train.csv --seed 0",
    "attribute": "attribute small.safetensors model.test.csv --max-rows 20 --max-background 20",
    "compare": "compare small.safetensors model.test.csv --max-rows 10 --max-background 10 "
    "--seed 0",
    "report": "report small.safetensors model.test.csv --seed 0",
}
SMOKE_STEPS = 5  # of training, with the first two commands


def _plan(setup: Setup) -> Units:
    found, missing = there([NAME], lambda name: table_file(name, setup.data))
    return Units(keys=tuple((name,) for name in found), skipped=missing)


def _run(setup: Setup, key: Key) -> Tables:
    """Run every command in a folder of its own; tell seconds, and what came of it."""
    (name,) = key
    rows, found = [], {}
    with tempfile.TemporaryDirectory() as folder:
        data = table_file(name, setup.data).read_bytes()
        (Path(folder) / "houses.csv").write_bytes(data)
        for step in [*STEPS][: 2 if setup.smoke else None]:
            command = STEPS[step].format(
                target=TABLES[name], steps=SMOKE_STEPS if setup.smoke else 60
            )
            start = time.perf_counter()
            found[step] = answer(command, Path(folder))
            seconds = time.perf_counter() - start
            words = {"step": step, "command": f"kanlens {command}", "seconds": seconds}
            rows.append({**words, "result": RESULTS[step](found[step])})
    scores = found.get("compare", {"methods": []})["methods"]
    kept = ("method", "baseline", "relative_gap", "shapley_error")
    methods = [{name: row.get(name) for name in kept} for row in scores]
    return {"workflow-steps": rows, "workflow-methods": methods}


def answer(command: str, folder: Path) -> dict[str, Any]:
    """Run a command of kanlens in a folder and return what it prints as JSON.

    Raises
    ------
    KanlensError
        If it fails.
    """
    words = [sys.executable, "-m", "kanlens", *shlex.split(command), "--json", "--quiet"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        got = f"exit code {done.returncode}, {done.stderr.strip()[-300:]!r}"
        raise KanlensError(f"kanlens {command}", "exit code 0", got, "See its line")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _trained(found: dict[str, Any]) -> str:
    edges = sum(a * b for a, b in zip(found["widths"], found["widths"][1:], strict=False))
    return f"test R2 {found['test_R2']:.3f}, {edges} edges"


def _pruned(found: dict[str, Any]) -> str:
    gone = len(found["dropped_features"])
    features = f", {gone} features less" if gone else ", with every feature"
    edges = f"{found['edges_after']} of {found['edges_before']} edges"
    return f"test R2 {found['test_R2_after']:.3f}, {edges}{features}"


def _read(found: dict[str, Any]) -> str:
    receipt = found["receipt"]
    warns = "; the receipt warns" if "WARNING" in receipt["summary"] else ""
    return (
        f"R2 {receipt['r2']:.3f} on {receipt['rows']} rows held out (the model "
        f"{receipt['model_r2']:.3f}), {len(receipt['spline_edges'])} edges stay splines{warns}"
    )


def _attributed(found: dict[str, Any]) -> str:
    gap = float(found["largest_relative_gap"])
    return f"{found['remark']}; relative completeness gap {gap:.0e}"


RESULTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "train": _trained,
    "prune": _pruned,
    "read": _read,
    "attribute": _attributed,
    "compare": lambda found: f"{len(found['methods'])} methods, the table below",
    "report": lambda found: f"{found['report']} and its twin {found['json']}",
}


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"the whole way": frame[["step", "result", "seconds"]]}


HOUSING = Experiment(
    name="housing",
    question="What does the whole way give on a table, and how long does it take?",
    keys=("table",),
    tables={
        "workflow-steps": ("step", "command", "result", "seconds"),
        "workflow-methods": ("method", "baseline", "relative_gap", "shapley_error"),
    },
    plan=_plan,
    run=_run,
    summary=_summary,
    alone=True,
)
