"""Commands that make a model simpler: prune, symbolize."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kanlens.cli.application import app
from kanlens.cli.model_tables import read_rows, read_test
from kanlens.cli.options import (
    DataPath,
    Json,
    ModelPath,
    Quiet,
    Seed,
    TargetColumn,
    split_names,
)
from kanlens.cli.terminal import Terminal, check_outputs, seeded

if TYPE_CHECKING:
    from kanlens.data.tables import Table
    from kanlens.model.network import KAN
    from kanlens.pruning import PruneResult

_WITHOUT = "loss and budget are the change of the outputs, as a share of their variance"


@app.command()
def prune(
    model: ModelPath,
    data: DataPath,
    *,
    column: TargetColumn = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Allowed relative rise of the loss against the target, for example 0.02, never "
            "less than 1e-6 of the loss of the best constant but for 0; for a table without "
            "target, of the change of the outputs, as a share of their variance."
        ),
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

    terminal, generator = Terminal(quiet=quiet, as_json=as_json), seeded(seed)
    outputs = {"model": output, "table": table, "picture": figure}
    check_outputs("prune", outputs, [model, data, test])
    kan = kanlens.load(model)
    rows = read_rows(data, kan, column, call="prune", terminal=terminal, without=_WITHOUT)
    tests = read_test(test, kan, column, call="prune")
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
    facts = {"model": str(output), **_pruned(result), **_on_test(tests, kan, result.model)}
    _write_steps(result, table, figure, terminal)
    kanlens.save(result.model, output)
    removed = result.to_frame()
    shown = ["step", "name", "relative_score", "reason", "loss_before", "loss_after", "edges_left"]
    terminal.frame("removed edges", removed[shown])
    terminal.facts("pruned", {key: value for key, value in facts.items() if value is not None})
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
        "loss_against": result.loss_against,
        "loss_allowed": result.loss_allowed,
        "dropped_features": list(result.dropped_features),
        "constant_outputs": list(result.constant_outputs),
        "stopped_because": result.stopped_because,
    }


def _on_test(tests: Table | None, before: KAN, after: KAN) -> dict[str, float]:
    """Judge a model on a table before and after pruning; nothing without a table."""
    from kanlens.training.prediction import judge

    facts: dict[str, float] = {}
    for when, kan in (("before", before), ("after", after)):
        if tests is not None:
            scores = judge(kan, tests)
            facts.update({f"test_{name}_{when}": value for name, value in scores.items()})
    return facts


def _write_steps(
    result: PruneResult, table: Path | None, figure: Path | None, terminal: Terminal
) -> None:
    """Write the removed edges and draw what they cost, where that is wanted."""
    import kanlens
    from kanlens.data.tables import write_frame

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
    column: TargetColumn = None,
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
        Path | None,
        typer.Option(help="Table to make the receipt on.  [default: rows of DATA not fitted to]"),
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
    from kanlens.symbolic.wording import legend, written

    terminal = Terminal(quiet=quiet, as_json=as_json)
    check_outputs("symbolize", {"model": output}, [model, data, test])
    kan = kanlens.load(model)
    without = "the formula is judged against the model alone"
    rows = read_rows(data, kan, column, call="symbolize", terminal=terminal, without=without)
    tests = read_test(test, kan, column, call="symbolize")
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
        terminal.text(f"{written(name)} = {result.text(output=position)}")
    if named := legend(result.feature_names):
        terminal.text(named)
    terminal.text(result.receipt.summary())
    terminal.wrote(output)
    terminal.say("it is the network with functions on its edges; the formula may be shorter")
    terminal.emit({"model": str(output), **json.loads(result.to_json())})


def _shortened(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
