"""Time and memory of one training step under each penalty.

Run as a module with a question in JSON it measures the memory of one step in a process of its own.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.interleaved_timing import Schedule, interleave, quartiles
from benchmarks.processes import ask, peak_memory
from kanlens.model.network import KAN
from kanlens.sparsity import PENALTIES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COSTS"]

SHAPES = ((600, 8), (1024, 64), (2048, 256))  # rows, and width of all three layers of nodes
NORMS = ("none", "weight_l1", "raw_l1", "activation_l1", "activation_l2")


def _plan(setup: Setup) -> Units:
    return Units(keys=SHAPES[:1] if setup.smoke else SHAPES)


def _run(setup: Setup, key: Key) -> Rows:
    """Time one forward and backward pass under each penalty, in turns, and ask for the memory."""
    rows, width = key
    steps = {norm: _step(rows, width, norm) for norm in NORMS}
    for step in steps.values():
        step()  # whatever compiles has compiled
    schedule = Schedule(
        rounds=3 if setup.smoke else 15, least=3, seconds=0.1 if setup.smoke else 15
    )
    found = interleave(steps, schedule, generator=torch.Generator().manual_seed(0))
    table = []
    for norm in NORMS:
        low, middle, high = (1000 * value for value in quartiles(found[norm]))
        question = {"rows": rows, "width": width, "norm": norm}
        memory = {} if setup.smoke else ask("benchmarks.sparsity.costs", question)
        times = {"ms": middle, "ms_low": low, "ms_high": high}
        ratio = {"passes": quartiles(found[norm] / found["none"])[1]}
        megabytes = {"mib": memory.get("extra", math.nan)}
        row = {
            "penalty": norm,
            **times,
            **ratio,
            **megabytes,
        }
        table.append(row)
    return table


def _step(rows: int, width: int, norm: str) -> Callable[[], None]:
    """Return one forward and backward pass of a loss and a penalty."""
    draw = torch.Generator().manual_seed(0)
    model = KAN([width, width, width], generator=draw)
    x = torch.rand(rows, width, generator=draw) * 2 - 1

    def step() -> None:
        model.zero_grad()
        loss, reached = x.new_zeros(()), x
        for layer in model.layers:
            if norm != "none":
                loss = loss + PENALTIES[norm].norm(layer, reached).sum().to(x)
            reached = layer(reached)
        (reached.square().mean() + loss).backward()

    return step


def memory_of(rows: int, width: int, norm: str) -> float:
    """Return the peak memory of one step beyond what is held before it, in MiB.

    Examples
    --------
    >>> memory_of(10, 2, "none") >= 0
    True
    """
    step = _step(rows, width, norm)
    step()
    with peak_memory() as reading:
        step()
    return reading.extra


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    shown = frame[["rows", "width", "penalty", "ms", "passes", "mib"]]
    return {"cost of one forward and backward pass": shown.reset_index(drop=True)}


COSTS = Experiment(
    name="costs",
    question="What does one training step cost under each penalty?",
    keys=("rows", "width"),
    tables={"sparsity-costs": ("penalty", "ms", "ms_low", "ms_high", "passes", "mib")},
    plan=_plan,
    run=_run,
    summary=_summary,
    alone=True,
)

if __name__ == "__main__":
    answer: dict[str, Any] = {"extra": memory_of(**json.loads(sys.argv[1]))}
    sys.stdout.write(json.dumps(answer) + "\n")
