"""Commands that make models and look at them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kanlens.cli.application import command
from kanlens.cli.model_tables import read_rows, say_outside, training_table
from kanlens.cli.options import (
    Categorical,
    Columns,
    DataPath,
    Drop,
    Extrapolation,
    Features,
    GridSize,
    Hidden,
    Imputation,
    ModelOutput,
    ModelPath,
    Order,
    Penalty,
    TableOutput,
    TargetColumn,
    Targets,
    TaskName,
    factor,
    hidden_nodes,
    new_model,
    norms,
    set_options,
    split_names,
)
from kanlens.cli.terminal import Terminal

if TYPE_CHECKING:
    from kanlens.data.tables import Table
    from kanlens.model.network import KAN
    from kanlens.training import FitResult

PARTS = ("train", "test")
MANY_ROWS = 5000  # above, training goes over batches by default


@command()
def train(
    data: DataPath,
    *,
    target: Targets,
    output: ModelOutput = Path("model.safetensors"),
    task: TaskName = None,
    features: Features = None,
    drop: Drop = None,
    categorical: Categorical = None,
    impute: Imputation = None,
    hidden: Hidden | None = None,
    grid_size: GridSize | None = None,
    spline_order: Order = 3,
    extrapolation: Extrapolation = "constant",
    optimizer: Annotated[
        str | None, typer.Option(help="lbfgs, adam or adamw.  [default: by the number of rows]")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of LBFGS, or passes over the data.  [default: 50]")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Step size.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows of one batch.  [default: 256]")
    ] = None,
    penalty: Penalty = None,
    strength: Annotated[float | None, typer.Option(help="Factor of the penalty.")] = None,
    entropy_weight: Annotated[
        float | None,
        typer.Option(help="Factor of the norms' entropy.  [default: 2, or 0 with --proximal]"),
    ] = None,
    proximal: Annotated[
        bool, typer.Option(help="Make edges exactly zero, with activation_l2.")
    ] = False,
    validation: Annotated[
        float | None, typer.Option(help="Share of rows to stop early by.  [default: 0.2]")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Steps without improvement before the end.  [default: 20]")
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Share of rows for testing only; both parts are written.")
    ] = 0.0,
    resume: Annotated[
        bool, typer.Option(help="Go on where a killed run stopped, with its draws, not --seed's.")
    ] = False,
    terminal: Terminal,
    generator: Any,
) -> None:
    """Train a KAN on a table and write it to a file.

    Unless the shape, the grid or an option of training is given, the rows decide about all.
    """
    checkpoint = output.parent / f"{output.name}.checkpoint"
    parts = dict(zip(PARTS, _parts(output), strict=True)) if holdout else {}
    terminal.check([data], model=output, checkpoint=checkpoint, **parts)
    columns = Columns(target=target, features=features, drop=drop, categorical=categorical)
    table = columns.read(data, task, impute)
    training, test = table.split(holdout, generator) if holdout else (table, None)
    given: dict[str, Any] = {
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
    build = partial(
        new_model,
        table,
        spline_order=spline_order,
        extrapolation=extrapolation,
        generator=generator,
    )
    run = {"checkpoint": checkpoint, "resume": resume, "generator": generator}
    shape = None if hidden is None else hidden_nodes(hidden), grid_size
    result = _trained(build, shape, training, given, run, terminal)
    model = result.model
    terminal.write(model, output)
    if not result.stopped_because.startswith("interrupted"):
        checkpoint.unlink(missing_ok=True)
    facts = _outcome(result, output, training, terminal)
    if test is not None:
        facts.update(_write_parts(output, training, test, model, terminal))
    terminal.facts("trained", facts)


def _trained(
    build: Callable[..., KAN],
    shape: tuple[list[Any] | None, int | None],
    training: Table,
    given: dict[str, Any],
    run: dict[str, Any],
    terminal: Terminal,
) -> FitResult:
    """Train as the options that are given say, or as the rows say when none is."""
    import kanlens
    from kanlens.training.loop import fit_by_default

    words = f"training on {training.source}: {training.rows} rows, "
    given = {name: value for name, value in given.items() if value is not None}
    run = {**run, "progress": terminal.progress}
    hidden, grid_size = shape
    model = None
    if given or hidden is not None or grid_size is not None:
        model = build([5] if hidden is None else hidden, 5 if grid_size is None else grid_size)
    terminal.say(words + ("which choose the network" if model is None else _described(model)))
    if run["resume"] and not run["checkpoint"].exists():
        terminal.say(f"no checkpoint at {run['checkpoint']}; starting anew")
    if model is None:
        return fit_by_default(build, training, **run)
    usual = {"optimizer": "lbfgs" if training.rows <= MANY_ROWS else "adam", "steps": 50}
    return kanlens.fit(model, training, **{**usual, **given, **run})


def _outcome(
    result: FitResult, output: Path, training: Table, terminal: Terminal
) -> dict[str, Any]:
    """Return what there is to say of a training run; say which of its rows lie outside."""
    say_outside(result.model, training, terminal)
    judged = "validation" if len(result.held_out) else "training"
    return {
        "model": str(output),
        "widths": list(result.model.widths),
        "rows": training.rows,
        "steps": len(result.history),
        "best_step": result.best_step,
        "stopped_because": result.stopped_because,
        f"{judged}_{result.metric_name}": result.metric,
        "seconds": result.seconds,
    }


def _parts(output: Path) -> list[Path]:
    """Return where the rows for training and for testing are written."""
    return [output.parent / f"{output.stem}.{part}.csv" for part in PARTS]


def _write_parts(
    output: Path, training: Table, test: Table, model: KAN, terminal: Terminal
) -> dict[str, Any]:
    """Write both parts of the table beside the model, and judge it on the rows held out."""
    from kanlens.training.prediction import judge

    say_outside(model, test, terminal)
    for path, table in zip(_parts(output), (training, test), strict=True):
        terminal.write(table.frame, path)
    return {f"test_{name}": value for name, value in judge(model, test).items()}


def _described(model: KAN) -> str:
    """Return the size of a model in words."""
    weights = sum(parameter.numel() for parameter in model.parameters())
    return f"{model.widths[0]} features, KAN {list(model.shape)}, {weights} weights"


@command("sparsity-path")
def sparsity_path(
    data: DataPath,
    *,
    target: Targets,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Model to write: the best.")
    ] = Path("model.safetensors"),
    task: TaskName = None,
    features: Features = None,
    drop: Drop = None,
    categorical: Categorical = None,
    impute: Imputation = None,
    hidden: Hidden = "5",
    grid_size: GridSize = 5,
    spline_order: Order = 3,
    extrapolation: Extrapolation = "constant",
    penalty: Penalty = "weight_l1",
    strengths: Annotated[
        str,
        typer.Option(
            help="About how many (a few more follow until hardly an edge is left), or the "
            "strengths themselves with commas, increasing."
        ),
    ] = "10",
    optimizer: Annotated[str, typer.Option(help="lbfgs, adam or adamw.")] = "lbfgs",
    steps: Annotated[int, typer.Option(help="Steps of each strength.")] = 50,
    terminal: Terminal,
    generator: Any,
) -> None:
    """Train with one strength of a penalty after the other; keep the sparsest good model.

    Beside the model, a table of all strengths is written: loss, edges alive, features left.
    """
    import kanlens

    listing = output.parent / f"{output.stem}.path.csv"
    terminal.check([data], model=output, table=listing)
    columns = Columns(target=target, features=features, drop=drop, categorical=categorical)
    table = columns.read(data, task, impute)
    nodes = hidden_nodes(hidden)
    model = new_model(table, nodes, grid_size, spline_order, extrapolation, generator)
    path = kanlens.sparsity_path(
        model,
        table,
        penalty=norms(penalty) or "weight_l1",
        strengths=_strengths(strengths),
        optimizer=optimizer,
        steps=steps,
        progress=terminal.progress,
        generator=generator,
    )
    frame, best = path.to_frame(), path.steps[path.best]
    terminal.write(path.model_at(), output)
    terminal.write(frame, listing)
    facts: dict[str, Any] = {
        "model": str(output),
        "path": str(listing),
        "strength": best.strength,
        "edges_alive": best.edges_alive,
        "held_out_loss": best.held_out_loss,
        "stopped_because": path.stopped_because,
    }
    terminal.frame("path", frame)
    terminal.facts("best", facts, steps=frame.to_dict("records"))


def _strengths(text: str) -> int | list[float]:
    """Return a number of strengths, or the strengths."""
    try:
        return int(text) if text.isdecimal() else [float(part) for part in split_names(text)]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor a list like 0,0.01,0.1", param_hint="--strengths"
        ) from None


@command()
def predict(
    model: ModelPath,
    data: DataPath,
    *,
    column: TargetColumn = None,
    output: TableOutput = Path("predictions.csv"),
    terminal: Terminal,
) -> None:
    """Predict every row of a table; judge the predictions when the table has the target."""
    import kanlens
    from kanlens.training.prediction import judge, predictions

    terminal.check([model, data], table=output)
    kan = kanlens.load(model)
    without = "nothing judges the predictions"
    table = read_rows(data, kan, column, terminal, without=without)
    terminal.write(predictions(kan, table.x), output)
    facts: dict[str, Any] = {"predictions": str(output), "rows": table.rows}
    if table.y is not None:
        facts.update(judge(kan, table))
    terminal.facts("predicted", facts)


@command()
def info(model: ModelPath, *, terminal: Terminal) -> None:
    """Describe a model: shape, edges alive, grid, features, how it was made."""
    import kanlens
    from kanlens.io.tensor_files import read_metadata
    from kanlens.model.description import describe

    facts = describe(kanlens.load(model))
    metadata = read_metadata(model, call="info")
    facts["written_by"] = f"kanlens {metadata.get('kanlens_version', 'of an unknown version')}"
    facts["format_version"] = metadata["format_version"]
    features = facts.pop("features")
    terminal.facts(model.name, facts, features=features)
    if not terminal.as_json:
        import pandas as pd

        terminal.frame("features", pd.DataFrame(features))


@command("import")
def import_command(
    foreign: Annotated[Path, typer.Argument(metavar="FOREIGN", help="A foreign checkpoint.")],
    *,
    output: ModelOutput = Path("model.safetensors"),
    data: Annotated[
        Path | None,
        typer.Option(
            help="The table it was trained on: gives names, kinds, ranges, classes and background."
        ),
    ] = None,
    column: TargetColumn = None,
    task: TaskName = None,
    feature_names: Annotated[
        str | None,
        typer.Option(
            help="Names of the features, with commas; with --data its columns, in the order of the "
            "model's inputs."
        ),
    ] = None,
    output_names: Annotated[
        str | None,
        typer.Option(help="Names of the outputs, with commas; of a classifier its classes."),
    ] = None,
    submodule: Annotated[str | None, typer.Option(help="The part of the model that is it.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="What the file does not say, as name=value: wavelet=dog, ..."),
    ] = None,
    drop: Drop = None,
    categorical: Categorical = None,
    impute: Imputation = None,
    terminal: Terminal,
) -> None:
    """Turn a model trained elsewhere into a kanlens model; the library is recognised.

    With the table it was trained on, it knows what training here would have told it.
    """
    import kanlens
    from kanlens.io.importers.settings import SETTINGS
    from kanlens.training.prediction import judge

    terminal.check([foreign, data], model=output)
    asked = ("what a file may not say", f"Choose one of: {', '.join(SETTINGS)}")
    said: dict[str, Any] = set_options(terminal.call, settings, SETTINGS.__contains__, *asked)
    said["submodule"] = submodule
    names, outputs = split_names(feature_names) or None, split_names(output_names) or None
    table = None
    if data is not None:
        columns = Columns(target=column, features=feature_names, drop=drop, categorical=categorical)
        default = kanlens.import_model(foreign, output_names=outputs, **said).schema
        table = training_table(data, default, columns, task, impute, terminal)
        names = list(table.feature_names) if names else None
    known: dict[str, Any] = {"data": table} if table else {"target": column, "task": task}
    kan = kanlens.import_model(foreign, feature_names=names, output_names=outputs, **known, **said)
    terminal.write(kan, output)
    facts = {"model": str(output), "widths": list(kan.widths), "edges_alive": kan.edges_alive}
    if table is not None and table.y is not None:
        facts.update(judge(kan, table))
    terminal.facts("imported", facts)
