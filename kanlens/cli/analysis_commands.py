"""Commands that analyse a model: prune, symbolize, attribute, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kanlens.cli.application import app
from kanlens.cli.options import (
    Background,
    DataPath,
    Json,
    ModelPath,
    NoSeed,
    Quiet,
    Seed,
    Target,
    output_index,
    split_names,
)
from kanlens.cli.terminal import Terminal, keep_apart, seeded

if TYPE_CHECKING:
    from torch import Tensor

    from kanlens.core.network import KAN
    from kanlens.pruning import PruneResult

SHOWN = ("method", "complete", "relative_gap", "shapley_error", "shapley_rank", "seconds")
MaxRows = Annotated[int, typer.Option("--max-rows", help="Rows to use, spread over the table.")]


@app.command()
def prune(
    model: ModelPath,
    data: DataPath,
    *,
    budget: Annotated[
        float | None, typer.Option(help="Allowed relative rise of the loss, for example 0.02.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least score, as a share of the layer's largest.")
    ] = None,
    score: Annotated[
        str,
        typer.Option(
            help="What edges are ordered by: l1, raw_l1, std, variation, damage, path or backward."
        ),
    ] = "l1",
    compensate: Annotated[
        bool, typer.Option(help="Let the edges left at a node make up for one that goes.")
    ] = False,
    finetune: Annotated[
        int,
        typer.Option(help="Steps of training between cuts, judged by a fifth of the rows.", min=0),
    ] = 0,
    test: Annotated[
        Path | None, typer.Option(help="Table to judge the model on before and after.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Model to write.")] = Path(
        "pruned.safetensors"
    ),
    table: Annotated[
        Path | None, typer.Option("--table", help="Also write the removed edges here.")
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="Also draw the loss against the edges left here."),
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove the edges with the smallest scores; nodes and features that lose all edges go too."""
    import kanlens
    from kanlens.tables import read_features

    terminal, generator = Terminal(quiet=quiet, as_json=as_json), seeded(seed)
    keep_apart("prune", [output, table, figure], [model, data, test])
    kan = kanlens.load(model)
    rows = read_features(data, kan.schema, call="prune")
    result = kanlens.prune(
        kan,
        rows.x,
        rows.y,
        score=score,
        threshold=threshold,
        budget=budget,
        compensate=compensate,
        finetune=finetune,
        progress=terminal.progress,
        generator=generator,
    )
    facts = {"model": str(output), **_pruned(result), **_on_test(test, kan, result.model)}
    _write_steps(result, table, figure, terminal)
    kanlens.save(result.model, output)
    removed = result.to_frame()
    shown = ["step", "name", "relative_score", "reason", "loss_before", "loss_after", "edges_left"]
    terminal.frame("removed edges", removed[shown])
    terminal.facts("pruned", facts)
    terminal.wrote(output)
    terminal.emit({**facts, "removed": list(result.removed), "tuned": list(result.tuned)})


def _pruned(result: PruneResult) -> dict[str, Any]:
    """Return what there is to say of a pruning."""
    return {
        "widths": list(result.model.widths),
        "edges_before": result.edges_before,
        "edges_after": result.edges_after,
        "loss_before": result.loss_before,
        "loss_after": result.loss_after,
        "dropped_features": list(result.dropped_features),
        "constant_outputs": list(result.constant_outputs),
    }


def _on_test(test: Path | None, before: KAN, after: KAN) -> dict[str, float]:
    """Judge a model on a table before and after pruning; nothing without a table."""
    from kanlens.tables import read_features
    from kanlens.training.prediction import judge

    facts: dict[str, float] = {}
    for when, kan in (("before", before), ("after", after)):
        if test is not None:
            scores = judge(kan, read_features(test, kan.schema, call="prune"))
            facts.update({f"test_{name}_{when}": value for name, value in scores.items()})
    return facts


def _write_steps(
    result: PruneResult, table: Path | None, figure: Path | None, terminal: Terminal
) -> None:
    """Write the removed edges and draw what they cost, where that is wanted."""
    import kanlens
    from kanlens.tables import write_frame

    if table is not None:
        write_frame(result.to_frame(), table, call="prune")
        terminal.wrote(table)
    if figure is not None:
        from kanlens.plotting.style import save

        save(kanlens.plot.pruning(result), figure)
        terminal.wrote(figure)


@app.command()
def symbolize(
    model: ModelPath,
    data: DataPath,
    *,
    r2_min: Annotated[
        float, typer.Option(help="Least share of an edge's variance a function must explain.")
    ] = 0.99,
    functions: Annotated[
        str | None, typer.Option(help="Functions to choose from, with commas.  [default: all]")
    ] = None,
    model_selection: Annotated[
        str, typer.Option(help="Which row is the formula: best, accuracy or score.")
    ] = "best",
    test: Annotated[
        Path | None, typer.Option(help="Table to make the receipt on.  [default: DATA]")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Model to write.")] = Path(
        "symbolic.safetensors"
    ),
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read a formula from a model, with a receipt that says how far it can be trusted."""
    import kanlens
    from kanlens.symbolic.wording import formula_text
    from kanlens.tables import read_features

    terminal = Terminal(quiet=quiet, as_json=as_json)
    keep_apart("symbolize", [output], [model, data, test])
    kan = kanlens.load(model)
    rows = read_features(data, kan.schema, call="symbolize")
    tests = None if test is None else read_features(test, kan.schema, call="symbolize")
    result = kanlens.symbolize(
        kan,
        rows.x,
        rows.y,
        r2_min=r2_min,
        functions=split_names(functions) or None,
        model_selection=model_selection,
        x_test=None if tests is None else tests.x,
        y_test=None if tests is None else tests.y,
        generator=seeded(seed),
        progress=terminal.progress,
    )
    kanlens.save(result.model, output)
    equations = result.equations_.drop(columns=["sympy_format"]).reset_index()
    picked = {name: result.get_best(name).name for name in result.output_names}
    places = zip(equations["output"], equations["index"], strict=True)
    marks = [">>>>" if picked[name] == index else "" for name, index in places]
    equations.insert(0, "picked", marks)
    equations["equation"] = equations["equation"].map(_shortened)
    terminal.frame("equations", equations)
    for position, name in enumerate(result.output_names):
        terminal.text(f"{name} = {formula_text(result.sympy(output=position))}")
    terminal.text(result.receipt.summary())
    terminal.wrote(output)
    terminal.emit({"model": str(output), **json.loads(result.to_json())})


@app.command()
def attribute(
    model: ModelPath,
    data: DataPath,
    *,
    method: Annotated[str, typer.Option(help="See 'kanlens methods'.")] = "shapley",
    background: Background = None,
    output_name: Target = None,
    max_rows: Annotated[
        int | None, typer.Option(help="Rows to explain, spread over the table.  [default: all]")
    ] = None,
    max_background: Annotated[
        int | None, typer.Option(help="Background rows, spread over those there are.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Table to write.")] = Path(
        "attributions.parquet"
    ),
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Say how much each feature adds to every prediction; one row per row of the table."""
    import kanlens
    from kanlens.attribution import Attribution
    from kanlens.tables import read_features, write_frame

    terminal = Terminal(quiet=quiet, as_json=as_json)
    keep_apart("attribute", [output], [model, data, background])
    kan = kanlens.load(model)
    x = read_features(data, kan.schema, call="attribute").x
    result = kanlens.attribute(
        kan,
        _spread(x, "max_rows", max_rows, call="attribute"),
        method=method,
        background=_background(background, kan, max_background, call="attribute"),
        target=output_index(output_name),
        generator=seeded(seed),
        progress=terminal.progress,
    )
    write_frame(result.to_frame(), output, call="attribute")
    facts: dict[str, Any] = {"attributions": str(output), "method": method}
    importance = result
    if isinstance(result, Attribution):
        importance = result.to_importance()
        facts["rows"] = len(result.values)
        facts["baseline"] = result.baseline
        facts["largest_completeness_gap"] = float(result.completeness_gap.abs().max())
        facts["largest_relative_gap"] = float(result.relative_gap.abs().max())
    frame = importance.to_frame()
    terminal.frame("importance", frame)
    terminal.facts("attributed", facts)
    terminal.wrote(output)
    terminal.emit({**facts, "importance": frame.to_dict(orient="records")})


@app.command()
def compare(
    model: ModelPath,
    data: DataPath,
    *,
    methods: Annotated[
        str | None, typer.Option(help="Methods, with commas.  [default: all that fit]")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Metrics, with commas.")] = None,
    background: Background = None,
    output_name: Target = None,
    max_rows: MaxRows = 50,
    max_background: Annotated[
        int, typer.Option(help="Background rows to use, spread over those there are.")
    ] = 20,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write the table here.")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Put attribution methods side by side: completeness, error, agreement, seconds."""
    import kanlens
    from kanlens.tables import read_features, write_frame

    terminal = Terminal(quiet=quiet, as_json=as_json)
    keep_apart("compare", [output], [model, data, background])
    kan = kanlens.load(model)
    table = read_features(data, kan.schema, call="compare")
    result = kanlens.compare(
        kan,
        _spread(table.x, "max_rows", max_rows, call="compare"),
        background=_background(background, kan, max_background, call="compare"),
        target=output_index(output_name),
        methods=split_names(methods) or None,
        metrics=split_names(metrics) or None,
        generator=seeded(seed),
        progress=terminal.progress,
    )
    shown = [name for name in SHOWN if name in result.frame]
    terminal.frame(f"methods on {min(max_rows, table.rows)} rows", result.frame[shown])
    terminal.frame("mean |attribution|", result.importance.reset_index(names="feature"))
    for name, reason in result.skipped.items():
        terminal.say(f"{name} was left out: {reason}")
    if output is not None:
        write_frame(result.frame, output, call="compare")
        terminal.wrote(output)
    terminal.emit(json.loads(result.to_json()))


@app.command()
def methods(*, _seed: NoSeed = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """List the attribution methods there are."""
    import pandas as pd

    from kanlens.attribution import METHODS

    terminal = Terminal(quiet=quiet, as_json=as_json)
    names = ("name", "scope", "exact", "complete", "summary", "reference")
    rows = [{name: getattr(method, name) for name in names} for method in METHODS.values()]
    terminal.frame("methods", pd.DataFrame(rows).drop(columns="reference"))
    terminal.emit({"methods": rows})


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _background(path: Path | None, kan: KAN, most: int | None, *, call: str) -> Tensor | None:
    """Return the rows of a table, else those the model kept; None when there are none."""
    from kanlens.tables import read_features

    rows = kan.background
    if path is not None:
        rows = read_features(path, kan.schema, call="background").x
    return None if rows is None else _spread(rows, "max_background", most, call=call)


def _spread(x: Tensor, name: str, most: int | None, *, call: str) -> Tensor:
    """Return at most `most` rows, evenly spread over the table; all when None."""
    import torch

    from kanlens.checks import check_count

    if most is None:
        return x
    check_count(call, name, most)
    picks = torch.linspace(0, len(x) - 1, min(most, len(x))).round().long()
    return x[picks]
