"""The command sparsity-path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kanlens.cli.application import app
from kanlens.cli.options import DataPath, Json, Quiet, Seed, split_names
from kanlens.cli.terminal import Terminal, check_outputs, seeded
from kanlens.cli.training_options import (
    Categorical,
    Columns,
    Drop,
    Extrapolation,
    Features,
    Hidden,
    Imputation,
    Penalty,
    TaskName,
    new_model,
    norms,
)


@app.command("sparsity-path")
def sparsity_path(
    data: DataPath,
    *,
    target: Annotated[str, typer.Option(help="Column to predict; several with commas.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Model to write: the best.")
    ] = Path("model.safetensors"),
    task: TaskName = None,
    features: Features = None,
    drop: Drop = None,
    categorical: Categorical = None,
    impute: Imputation = None,
    hidden: Hidden = "5",
    grid_size: Annotated[int, typer.Option(help="Intervals of each edge's grid.")] = 5,
    spline_order: Annotated[int, typer.Option(help="Degree of the pieces.")] = 3,
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
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train with one strength of a penalty after the other; keep the sparsest good model.

    Beside the model, a table of all strengths is written: loss, edges alive, features left.
    """
    import kanlens
    from kanlens.data.tables import write_frame

    terminal, generator = Terminal(quiet=quiet, as_json=as_json), seeded(seed)
    listing = output.parent / f"{output.stem}.path.csv"
    check_outputs("sparsity-path", {"model": output, "table": listing}, [data])
    columns = Columns(target=target, features=features, drop=drop, categorical=categorical)
    table = columns.read(data, task, impute)
    model = new_model(table, hidden, grid_size, spline_order, extrapolation, generator)
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
    kanlens.save(path.model_at(), output)
    write_frame(frame, listing, call="sparsity-path")
    facts: dict[str, Any] = {
        "model": str(output),
        "path": str(listing),
        "strength": best.strength,
        "edges_alive": best.edges_alive,
        "held_out_loss": best.held_out_loss,
        "stopped_because": path.stopped_because,
    }
    terminal.frame("path", frame)
    terminal.facts("best", facts)
    terminal.wrote(output, listing)
    terminal.emit({**facts, "steps": frame.to_dict("records")})


def _strengths(text: str) -> int | list[float]:
    """Return a number of strengths, or the strengths.

    Examples
    --------
    >>> _strengths("8"), _strengths("0,0.01")
    (8, [0.0, 0.01])
    """
    try:
        return int(text) if text.isdecimal() else [float(part) for part in split_names(text)]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor a list like 0,0.01,0.1", param_hint="--strengths"
        ) from None
