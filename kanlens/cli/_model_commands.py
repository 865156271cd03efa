"""Commands that train models: train, sparsity-path."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import kanlens
from kanlens.cli._command import command
from kanlens.cli._console import Generator, Terminal
from kanlens.cli._options import Texts, factor, hidden_nodes, norms, read_strengths, small_network
from kanlens.errors import DataError, InvalidValueError

if TYPE_CHECKING:
    import torch

    from kanlens import KAN, FitResult, Source, Table

MAX_FULL_BATCH = 5000  # rows up to which training uses all of them in every step
LARGE_BATCH, UPDATES = 2000, 20_000  # for tables beyond memory: rows of a batch, updates


@command(
    example="kanlens train data.csv --target price -o model.safetensors",
    max_edges="Grow a small network of at most this many edges, as `kanlens frontier` does; few "
    "for its default.",
    interactions="Products that a small network may have, as for `kanlens frontier`.",
    optimizer="Optimization algorithm.  [default: by the number of rows]",
    steps="Steps of LBFGS, or passes over the data.  [default: 50]",
    learning_rate="Step size.",
    batch_size="Rows of one batch.  [default: 256]",
    strength="Factor of the penalty.",
    entropy_weight="Factor of the norms' entropy.  [default: 2, or 0 with --proximal]",
    proximal="Make edges exactly zero by proximal steps; needs --penalty activation_l2.",
    validation="Share of rows held out for early stopping.  [default: 0.2]",
    patience="Steps without improvement before training stops.  [default: 20]",
    holdout="Share of rows held out at random as test data; both parts are written.",
    holdout_last="Share of rows held out as test data from the end of the table, for data sorted "
    "by time.",
    resume="Continue an interrupted run with its own random state; --seed is ignored.",
)
def train(
    data: Path,
    *,
    target: str,
    output: Path = Path("model.safetensors"),
    task: str | None = None,
    columns: Texts,
    groups: str | None = None,
    losses: Texts,
    hidden: str | None = None,
    grid_size: int | None = None,
    max_edges: str | None = None,
    interactions: str | None = None,
    shapes: Texts,
    spline_order: int = 3,
    extrapolation: str = "constant",
    optimizer: str | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    penalty: str | None = None,
    strength: float | None = None,
    entropy_weight: float | None = None,
    proximal: bool = False,
    validation: float | None = None,
    patience: int | None = None,
    holdout: float = 0.0,
    holdout_last: float = 0.0,
    resume: bool = False,
    restarts: int = 1,
    scheduler: str | None = None,
    workers: int | None = None,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Train a KAN on a table and write it to a file.

    Without options of training or restarts, the network and its training are chosen from the data;
    a network without a hidden layer is then fitted in closed form. Under torchrun, all processes
    train one model:
    torchrun --nproc-per-node 2 -m kanlens train ...
    """
    from kanlens.cli._model_data import LossOptions, new_model, open_columns

    checkpoint = output.parent / f"{output.name}.checkpoint"
    parts = {part: output.parent / f"{output.stem}.{part}.csv" for part in ("train", "test")}
    parts = parts if holdout or holdout_last else {}
    terminal.check([data], model=output, checkpoint=checkpoint, **parts)
    way = LossOptions(losses)
    table = open_columns(data, target, columns, groups, task=task or way.task)
    training, test = map(way.adjusted, _split(table, holdout, holdout_last, generator, terminal))
    settings: dict[str, Any] = {
        "optimizer": optimizer,
        "steps": steps,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "penalty": norms(penalty),
        "strength": factor(penalty, strength) or None,
        "entropy_weight": entropy_weight,
        "proximal": proximal or None,
        "validation": validation,
        "patience": patience,
    }
    options: dict[str, Any] = {"spline_order": spline_order, "extrapolation": extrapolation}
    build = way.losing(partial(new_model, training, **options, generator=generator))
    run = {"checkpoint": checkpoint, "resume": resume, "generator": generator, **way.weights}
    run["strategy"] = "ddp" if "WORLD_SIZE" in os.environ else None
    if restarts > 1 or scheduler or workers:
        if resume or run["strategy"]:
            got = "--resume" if resume else "torchrun"
            expected = "a new run for --restarts, --scheduler or --workers"
            raise InvalidValueError("train", expected, got, "Leave one of them out")
        run = {"restarts": restarts, "workers": scheduler or workers, "generator": generator}
    shape = None if hidden is None else hidden_nodes(hidden), grid_size
    small = small_network(max_edges, interactions, shapes)
    result = _trained(build, shape, small, training, settings, run, terminal)
    model = result.model
    if not result.interrupted and not way.weights:
        _score(result, checkpoint, training, test, terminal, last=bool(holdout_last))
    terminal.write(model, output)
    if terminal.first and not result.interrupted:
        checkpoint.unlink(missing_ok=True)
    facts = _outcome(result, output, training, terminal, last=bool(holdout_last))
    if test is not None:
        facts.update(_write_parts(parts, cast("Table", training), test, model, terminal))
    terminal.facts("trained", {**facts, "seed": generator.initial_seed()})


def _split(
    table: Table | Source,
    holdout: float,
    holdout_last: float,
    generator: torch.Generator,
    terminal: Terminal,
) -> tuple[Table | Source, Table | None]:
    """Print how a table was read; return rows to train on and to test on."""
    from kanlens.cli._model_data import check_learnable, reading_notes

    for note in reading_notes(table.schema):
        terminal.say(note)
    if holdout and holdout_last:
        expected, advice = "one of --holdout and --holdout-last", "Leave one of them out"
        raise InvalidValueError("train", expected, "both", advice)
    training, test = table, None
    if share := holdout or holdout_last:
        if not isinstance(table, kanlens.Table):
            expected, got = "a table that fits in memory with --holdout", f"{table.rows:,} rows"
            advice = "Keep rows to test on in a file of their own, or allow more --max-memory"
            raise InvalidValueError("train", expected, got, advice)
        training, test = table.split(share, generator, last=bool(holdout_last))
        check_learnable(test, "train", "rows held out", least=2)
    check_learnable(training, "train")
    return training, test


def _trained(
    build: Callable[..., KAN],
    shape: tuple[list[Any] | None, int | None],
    small: dict[str, Any],
    training: Table | Source,
    settings: dict[str, Any],
    run: dict[str, Any],
    terminal: Terminal,
) -> FitResult:
    """Train with the settings of `fit`, or by `fit_default` if none are set."""
    words, model = "which choose the network", None
    settings = {name: value for name, value in settings.items() if value is not None}
    run = {**run, "progress": terminal.progress}
    hidden, grid_size = shape
    shaped = small.keys() == {"constraints"}
    chosen = settings or "restarts" in run or grid_size is not None
    if shaped and (chosen or hidden):
        settings, small = {**settings, **small}, {}
    if small and (chosen or (hidden is not None and not shaped)):
        expected = "no options of shape, training or restarts with those of a small network"
        advice = "Leave them out, or --max-edges, --interactions and --increasing"
        raise InvalidValueError("train", expected, "some", advice)
    if hidden is not None:
        ends = len(training.schema.features), len(training.schema.outputs)
        words = f"{ends[0]} features, KAN {[ends[0], *hidden, ends[1]]}"
    if settings or (grid_size is not None and not hidden) or "restarts" in run:
        model = build([5] if hidden is None else hidden, 5 if grid_size is None else grid_size)
        size = sum(parameter.numel() for parameter in model.parameters())
        words = f"{model.widths[0]} features, KAN {list(model.shape)}, {size} weights"
    seed = f"seed {run['generator'].initial_seed()}"
    terminal.say(f"training on {training.source}: {training.rows} rows, {words}; {seed}")
    if run.get("resume") and not run["checkpoint"].exists():
        terminal.say(f"no checkpoint at {run['checkpoint']}; starting anew")
    if model is None:
        on_grid = build if grid_size is None else lambda hidden, _: build(hidden, grid_size)
        return kanlens.fit_default(training, hidden=hidden, build=on_grid, **small, **run)
    defaults: dict[str, Any] = {"optimizer": "adam", "steps": 50}
    if training.rows <= MAX_FULL_BATCH and not shaped:
        defaults["optimizer"] = "lbfgs"
    elif not isinstance(training, kanlens.Table):
        steps = min(50, UPDATES * LARGE_BATCH // training.rows + 1)
        defaults |= {"batch_size": LARGE_BATCH, "steps": steps}
    if "restarts" in run:
        from kanlens import distributed

        return distributed.fit(model, training, **{**defaults, **settings, **run})[0]
    return kanlens.fit(model, training, **{**defaults, **settings, **run})


def _score(
    result: FitResult,
    checkpoint: Path,
    training: Table | Source,
    test: Table | None,
    terminal: Terminal,
    *,
    last: bool,
) -> None:
    """Refuse a model without a score; record the scores of baseline models."""
    from kanlens.training._baselines import add_record

    if not math.isfinite(result.metric):
        checkpoint.unlink(missing_ok=True)
        expected, got = "held-out rows with different targets", f"{len(result.held_out)} equal ones"
        advice = "Pass more rows, or another share with --validation"
        raise DataError(terminal.call, expected, got, advice)
    if terminal.first and isinstance(training, kanlens.Table):
        add_record(result, training, test, last=last)


def _outcome(
    result: FitResult, output: Path, training: Table | Source, terminal: Terminal, *, last: bool
) -> dict[str, Any]:
    """Return the facts of a training run, and print warnings."""
    from kanlens.cli._model_data import print_outside, print_poor_fit
    from kanlens.training._closed_form import count_edges

    if isinstance(training, kanlens.Table):
        print_outside(result.model, training, terminal)
    rows = "validation" if len(result.held_out) else "training"
    record = result.model.record
    if record:
        print_poor_fit(record.metric, record.scores, terminal)
    for column in record.given_away if record else ():
        words = f"alone predicts {result.model.schema.target}; if unknown at prediction time, leave"
        terminal.say(f"WARNING: {column} {words} it out with --drop {shlex.quote(column)}")
    return {
        "model": str(terminal.place(output)),
        "widths": list(result.model.widths),
        **({"edges": count_edges(result.model)} if result.model.growth else {}),
        "rows": training.rows,
        "steps": len(result.history),
        "best_step": result.best_step,
        "stopped_because": result.stopped_because,
        f"{rows}_{result.metric_name}": result.metric,
        **(record.facts("test_" * last) if record else {}),
        **({"given_away": list(record.given_away)} if record and record.given_away else {}),
        "seconds": result.seconds,
    }


def _write_parts(
    paths: dict[str, Path], training: Table, test: Table, model: KAN, terminal: Terminal
) -> dict[str, Any]:
    """Write both parts of a table; return the scores on the test rows."""
    from kanlens.cli._model_data import print_outside
    from kanlens.training._objective import judge

    print_outside(model, test, terminal)
    decimal = training.schema.format.decimal  # sign of the training table
    for path, table in zip(paths.values(), (training, test), strict=True):
        frame = table.frame
        terminal.write(frame if decimal == "." else frame.to_csv(index=False, decimal=","), path)
    return {f"test_{name}": value for name, value in judge(model, test).items()}


@command(
    "sparsity-path",
    example="kanlens sparsity-path data.csv --target price --penalty weight_l1 -o out.safetensors",
    output="Model to write, the chosen one.",
    strengths="Approximate number of strengths (a few are added until hardly any edge is left), or "
    "the strengths, comma-separated and increasing.",
    optimizer="Optimization algorithm.",
    steps="Steps of each strength.",
)
def sparsity_path(
    data: Path,
    *,
    target: str,
    output: Path = Path("model.safetensors"),
    task: str | None = None,
    columns: Texts,
    hidden: str = "5",
    grid_size: int = 5,
    spline_order: int = 3,
    extrapolation: str = "constant",
    penalty: str = "weight_l1",
    strengths: str = "10",
    groups: str | None = None,
    optimizer: str = "lbfgs",
    steps: int = 50,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Train with increasing penalty strengths; keep the sparsest model close to the best.

    A table of all strengths is written next to the model: loss, nonzero edges, features left.
    """
    from kanlens.cli._model_data import check_learnable, held, new_model, open_columns

    listing = output.parent / f"{output.stem}.path.csv"
    terminal.check([data], model=output, table=listing)
    table = held(open_columns(data, target, columns, groups, task=task), "kanlens")
    check_learnable(table, terminal.call)
    options = {"spline_order": spline_order, "extrapolation": extrapolation, "generator": generator}
    model = new_model(table, hidden_nodes(hidden), grid_size, **options)
    path = kanlens.sparsity_path(
        model,
        table,
        penalty=norms(penalty) or "weight_l1",
        strengths=read_strengths(strengths),
        optimizer=optimizer,
        steps=steps,
        progress=terminal.progress,
        generator=generator,
    )
    frame, best = path.to_frame(), path.steps[path.best]
    terminal.write(path.model_at(), output)
    terminal.write(frame, listing)
    facts: dict[str, Any] = {
        "model": str(terminal.place(output)),
        "path": str(terminal.place(listing)),
        "strength": best.strength,
        "edges_alive": best.edges_alive,
        "held_out_loss": best.held_out_loss,
        "stopped_because": path.stopped_because,
    }
    terminal.frame("path", frame)
    terminal.facts("best", facts, steps=frame.to_dict("records"))
