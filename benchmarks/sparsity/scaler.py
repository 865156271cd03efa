"""The standalone spline scale on and off: accuracy, conditioning and speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks.harness import Experiment, Key, Rows, Setup, Units
from benchmarks.interleaved_timing import Schedule, pass_milliseconds
from benchmarks.sparsity.cutting import Cut
from benchmarks.sparsity.problems import Pair, RowCounts, plan_problems, problem
from benchmarks.statistics import grouped
from kanlens.model.network import KAN
from kanlens.training import FitResult, fit

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SCALER", "Spectrum", "jacobian", "spectrum"]

STEPS = {"lbfgs": 25, "adam": 100}  # ten iterations, or one pass, each
REACHED = 1.1  # of the larger of both final losses: the loss that steps are counted to
JACOBIAN_ROWS = 400
NEGLIGIBLE = 1e-8  # of the largest singular value, below which a direction changes nothing


def _plan(setup: Setup) -> Units:
    names = {"names": ["composed"]} if setup.smoke else {}
    return plan_problems(setup, list(STEPS), **names)


def _run(setup: Setup, key: Key) -> Rows:
    """Train the same network with and without the scale, from the same seed."""
    name, optimizer, seed = key
    task = problem(name, setup.data)
    data = task.data(
        seed, RowCounts(train=60, validation=1, test=60) if setup.smoke else RowCounts()
    )
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
    schedule = Schedule(rounds=2 if setup.smoke else 10, least=2, seconds=0.5, turn=0.01)
    times = pass_milliseconds(models, *data.train, schedule)
    rows = []
    for scale, result in results.items():
        whole = Cut(model=models[scale], columns=tuple(range(task.widths[0])))
        row: dict[str, Any] = {"scale": "on" if scale else "off", "loss": result.loss}
        row |= {"test": whole.error(*data.test), "steps": steps_to(result.history, target)}
        row |= starts[scale] | _conditioning(models[scale], data.train, "end")
        rows.append({**row, "ms": times[scale], "seconds": result.seconds})
    return rows


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


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """What the singular values of a Jacobian say about training by gradients.

    Attributes
    ----------
    parameters, rank : int
        Number of parameters, and of directions among them that change the output on the rows.
    condition : float
        Largest over median curvature of the squared error in these directions: the squared ratio
        of singular values. (Over the smallest it only tells where directions are counted out.)
    effective : float
        Number of directions that share the curvature evenly: (sum s^2)^2 / sum s^4.
    """

    parameters: int
    rank: int
    condition: float
    effective: float


def jacobian(model: KAN, x: Tensor) -> Tensor:  # (rows, parameter)
    """Return the derivatives of a model's first output by its parameters, in scaled units.

    Parameters
    ----------
    model : KAN
        The network.
    x : Tensor, shape (rows, in)
        In the units of the data.

    Examples
    --------
    >>> jacobian(KAN([2, 1], grid_size=5), torch.rand(4, 2)).shape
    torch.Size([4, 21])
    """
    weights = [each for each in model.parameters() if each.requires_grad]
    output = model(x)[:, 0] / model.output_scale[0]
    rows = []
    for value in output:
        slopes = torch.autograd.grad(value, weights, retain_graph=True)
        rows.append(torch.cat([slope.flatten() for slope in slopes]))
    return torch.stack(rows)


def spectrum(matrix: Tensor) -> Spectrum:
    """Describe a Jacobian (rows, parameter).

    Examples
    --------
    >>> spectrum(torch.diag(torch.tensor([2.0, 1.0, 0.0])))
    Spectrum(parameters=3, rank=2, condition=4.0, effective=1.4705882352941178)
    """
    values = torch.linalg.svdvals(matrix.double())
    alive = values[values > NEGLIGIBLE * values.max()]
    square = alive.square()
    return Spectrum(
        parameters=matrix.shape[1],
        rank=len(alive),
        condition=float(square[0] / square.median()),
        effective=float(square.sum().square() / square.square().sum()),
    )


def _summary(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    columns = {
        "test error": ("test", True),
        "training loss": ("loss", True),
        "steps to a common loss": ("steps", True),
        "condition at start": ("condition_start", True),
        "condition at end": ("condition_end", True),
        "rank at end": ("rank_end", False),
        "parameters": ("parameters", False),
        "ms": ("ms", True),
    }
    table = grouped(frame, ["optimizer", "scale"], columns)
    return {"standalone spline scale": table}


_WHEN = ("start", "end")
_SPECTRUM = tuple(f"{what}_{when}" for when in _WHEN for what in ("rank", "condition", "effective"))

SCALER = Experiment(
    name="scaler",
    question="Does an extra scale on every spline help?",
    keys=("problem", "optimizer", "seed"),
    tables={
        "sparsity-scaler": (
            *("scale", "test", "loss", "steps", "parameters"),
            *_SPECTRUM,
            *("ms", "seconds"),
        )
    },
    plan=_plan,
    run=_run,
    summary=_summary,
)
