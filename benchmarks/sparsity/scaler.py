"""The standalone spline scale on and off: accuracy, conditioning and speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.machine import stamp
from benchmarks.rounds import Schedule, interleave, quartiles
from benchmarks.sparsity.conditioning import jacobian, spectrum
from benchmarks.sparsity.cutting import Cut
from benchmarks.sparsity.experiment import (
    STAMP,
    Experiment,
    Key,
    Plan,
    Setup,
    Tables,
    plan_problems,
)
from benchmarks.sparsity.problems import Pair, Rows, problem
from kanlens.core.network import KAN
from kanlens.training import FitResult, fit

__all__ = ["SCALER"]

KEYS = ("problem", "optimizer", "seed")
STEPS = {"lbfgs": 25, "adam": 100}  # ten iterations, or one pass, each
REACHED = 1.1  # of the larger of both final losses: the loss that steps are counted to
JACOBIAN_ROWS = 400


def _plan(setup: Setup) -> Plan:
    names = {"names": ["composed"]} if setup.smoke else {}
    return plan_problems(setup, list(STEPS), **names)


def _run(setup: Setup, key: Key) -> Tables:
    """Train the same network with and without the scale, from the same seed."""
    name, optimizer, seed = key
    task = problem(name, setup.data)
    data = task.data(seed, Rows(train=60, validation=1, test=60) if setup.smoke else Rows())
    steps = 2 if setup.smoke else STEPS[optimizer]
    models, starts = {}, {}
    for scale in (True, False):
        draw = torch.Generator().manual_seed(seed)
        widths = task.widths
        models[scale] = KAN(widths, enable_standalone_scale_spline=scale, generator=draw).double()
        _settle(models[scale], data.train)
        starts[scale] = _conditioning(models[scale], data.train, "start")
    results = {scale: _fit(models[scale], data.train, optimizer, steps) for scale in models}
    target = REACHED * max(result.loss for result in results.values())
    times = _times(models, data.train, setup)
    where = {name: value for name, value in stamp().items() if name in STAMP}
    rows = []
    for scale, result in results.items():
        whole = Cut(model=models[scale], columns=tuple(range(task.widths[0])))
        row = {
            **dict(zip(KEYS, key, strict=True)),
            "scale": "on" if scale else "off",
            "loss": result.loss,
        }
        row |= {"test": whole.error(*data.test), "steps": steps_to(result.history, target)}
        row |= starts[scale] | _conditioning(models[scale], data.train, "end")
        rows.append({**row, "ms": times[scale], "seconds": result.seconds, **where})
    return {"sparsity-scaler": rows}


def _settle(model: KAN, rows: Pair) -> None:
    """Set the scaling, and nothing else."""
    fit(model, rows, steps=0, validation=0.0, progress=False, generator=torch.Generator())


def _fit(model: KAN, rows: Pair, optimizer: str, steps: int) -> FitResult:
    return fit(
        model,
        rows,
        optimizer=optimizer,
        steps=steps,
        batch_size=64,
        validation=0.0,
        patience=steps + 1,
        grid_updates=3,
        progress=False,
        generator=torch.Generator().manual_seed(0),  # the same batches for both
    )


def steps_to(history: Sequence[Mapping[str, float]], target: float) -> int:
    """Return the first step whose loss is at most `target`; one more than all when none is.

    Examples
    --------
    >>> steps_to([{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.1}], 0.2)
    2
    """
    found = [int(record["step"]) for record in history if record["loss"] <= target]
    return found[0] if found else len(history) + 1


def _conditioning(model: KAN, rows: Pair, when: str) -> dict[str, Any]:
    found = spectrum(jacobian(model, rows[0][:JACOBIAN_ROWS]))
    return {
        f"rank_{when}": found.rank,
        f"condition_{when}": found.condition,
        f"effective_{when}": found.effective,
        "parameters": found.parameters,
    }


def _times(models: Mapping[bool, KAN], rows: Pair, setup: Setup) -> dict[bool, float]:
    """Return the milliseconds of one forward and backward pass over all rows, in turns."""
    x, y = rows

    def passes(model: KAN) -> None:
        model.zero_grad()
        (model(x) - y).square().mean().backward()

    tasks = {scale: lambda model=model: passes(model) for scale, model in models.items()}
    schedule = Schedule(rounds=2 if setup.smoke else 10, least=2, seconds=0.5, turn=0.01)
    found = interleave(tasks, schedule, generator=torch.Generator().manual_seed(0))
    return {scale: 1000 * quartiles(seconds)[1] for scale, seconds in found.items()}


SCALER = Experiment(
    name="scaler",
    question="Does an extra scale on every spline help?",
    columns={
        "sparsity-scaler": (
            *KEYS,
            "scale",
            "test",
            "loss",
            "steps",
            "parameters",
            *(
                f"{what}_{when}"
                for when in ("start", "end")
                for what in ("rank", "condition", "effective")
            ),
            "ms",
            "seconds",
            *STAMP,
        )
    },
    keys=KEYS,
    plan=_plan,
    run=_run,
)
