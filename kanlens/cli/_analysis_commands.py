"""Commands that make a model simpler and find formulas: prune, symbolize, discover."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kanlens
from kanlens._files import read_frame
from kanlens._lazy import pd
from kanlens.cli._command import command
from kanlens.cli._console import Generator, Terminal, seeded
from kanlens.cli._options import split_names

if TYPE_CHECKING:
    from kanlens import KAN, SymbolicResult, Table

PRUNED = (  # attributes of a result that are printed
    *("edges_before", "edges_after", "loss_before", "loss_after", "loss_against", "loss_allowed"),
    *("dropped_features", "constant_outputs", "stopped_because"),
)
LOGITS = (  # of formulas of a classifier
    "Formulas give log-odds x. One output: probability 1/(1 + exp(-x)); "
    "several: the softmax over them."
)
_WITHOUT = "loss and budget are the change of the outputs, as a share of their variance"


@command(
    example="kanlens prune model.safetensors data.csv --budget 0.05 -o small.safetensors",
    budget="Allowed relative rise of the loss, for example 0.02. Any budget above 0 "
    "allows a rise of at least 1e-6 of the best constant model's loss. Without a target: allowed "
    "change of the outputs, as a share of their variance.",
    threshold="Smallest score to keep, as a share of the layer's largest.",
    score="Score that orders the edges.",
    refit="Within a budget, remove whole nodes first and refit the outgoing edges of the rest.",
    finetune="Steps of training once no more edge can be removed, after which removal goes on; a "
    "fifth of the rows validates.",
    test="Table to score the model on before and after pruning.",
    table="Also write the removed edges here.",
    figure="Also write a plot of the loss over the number of edges here.",
)
def prune(
    model: Path,
    data: Path,
    *,
    column: str | None = None,
    budget: float | None = None,
    threshold: float | None = None,
    score: str = "l1",
    refit: bool = False,
    finetune: int = 0,
    test: Path | None = None,
    output: Path = Path("pruned.safetensors"),
    table: Path | None = None,
    figure: Path | None = None,
    terminal: Terminal,
    generator: Generator,
) -> None:
    """Remove the edges with the smallest scores; nodes and features that lose all edges go too."""
    from kanlens.cli._model_data import read_rows, read_test

    terminal.check([model, data, test], model=output, table=table, picture=figure)
    kan = kanlens.load(model)
    rows = read_rows(data, kan, column, terminal, without=_WITHOUT)
    tests = read_test(test, kan, column, terminal)
    result = kanlens.prune(
        kan,
        rows.x,
        rows.y,
        score=score,
        threshold=threshold,
        budget=budget,
        refit=refit,
        finetune=finetune,
        progress=terminal.progress,
        generator=generator,
    )
    facts: dict[str, Any] = {
        "model": str(terminal.place(output)),
        "widths": result.model.widths,
        **{name: getattr(result, name) for name in PRUNED},
        **_on_test(tests, kan, result.model),
    }
    removed = result.to_frame()
    terminal.write(removed, table)
    if figure is not None:
        terminal.write(kanlens.plot.pruning(result), figure)
    terminal.write(result.model, output)
    empty = {name: facts.pop(name) for name in list(facts) if facts[name] is None}
    terminal.facts("pruned", facts, **empty, removed=result.removed, tuned=result.tuned)
    shown = ["step", "name", "relative_score", "reason", "loss_before", "loss_after", "edges_left"]
    terminal.frame("removed edges", removed[shown])


def _on_test(tests: Table | None, before: KAN, after: KAN) -> dict[str, float]:
    """Return the scores on a test table, if any, before and after pruning."""
    from kanlens.training._objective import judge

    return {
        f"test_{name}_{when}": value
        for when, kan in (("before", before), ("after", after))
        if tests is not None
        for name, value in judge(kan, tests).items()
    }


@command(
    example="kanlens symbolize small.safetensors data.csv",
    r2_min="Smallest share of an edge's variance that a function must explain.",
    functions="Functions to choose from, comma-separated.  [default: all]",
    model_selection="Criterion that chooses one of the formulas.",
    test="Table for the receipt.  [default: rows of DATA not used for fitting]",
)
def symbolize(
    model: Path,
    data: Path,
    *,
    column: str | None = None,
    r2_min: float = 0.99,
    functions: str | None = None,
    model_selection: str = "best",
    test: Path | None = None,
    output: Path = Path("symbolic.safetensors"),
    terminal: Terminal,
    seed: int | None = None,
) -> None:
    """Derive a formula from a model, with a receipt that reports its errors."""
    from kanlens.cli._model_data import read_rows, read_test

    terminal.check([model, data, test], model=output)
    kan = kanlens.load(model)
    without = "the formula is compared with the model only"
    rows = read_rows(data, kan, column, terminal, without=without)
    tests = read_test(test, kan, column, terminal)
    scored = kan.loss.separable  # else targets are times, outputs hazards
    result = kanlens.symbolize(
        kan,
        rows.x,
        rows.y if scored else None,
        r2_min=r2_min,
        functions=split_names(functions) or None,
        model_selection=model_selection,
        x_test=None if tests is None else tests.x,
        y_test=tests.y if tests is not None and scored else None,
        generator=None if seed is None else seeded(seed),
        progress=terminal.progress,
    )
    terminal.write(result.model, output)
    equations = result.equations_.reset_index()
    picked = {name: result.get_best(name).name for name in result.output_names}
    marks = equations["index"].eq(equations["output"].map(picked)).map({True: ">>>>", False: ""})
    equations.insert(0, "picked", marks)
    _show_formulas(terminal, equations, result)
    terminal.say("the file has the network with functions on its edges; the formula may be shorter")
    terminal.emit({"model": str(terminal.place(output)), **json.loads(result.to_json())})


def _show_formulas(terminal: Terminal, equations: Any, result: SymbolicResult) -> None:
    """Print the chosen equations, the receipt, and the Pareto front."""
    from kanlens.symbolic._notation import legend, written
    from kanlens.symbolic._pareto_front import READABLE

    for place, name in enumerate(result.output_names):
        best = result.get_best(name)
        text = result.text(output=place) if best["complexity"] <= READABLE else best["equation"]
        terminal.equation(written(name), text, best["equation"])
    if result.model is not None and result.model.task == "classification":
        terminal.say(LOGITS)
    elif result.model is not None and result.model.loss.log:
        terminal.say(f"Formulas give the {result.model.loss.scale}; take exp of them.")
    for text in (legend(result.feature_names), result.receipt.summary()):
        if text:
            terminal.text(text)
    for name, part in equations.groupby("output", sort=False):
        columns = part.drop(columns=["output", "sympy_format", "equation"])
        title = f"equations of {name}" if len(result.output_names) > 1 else "equations"
        terminal.frame(title, columns.assign(equation=part["equation"]), cut="equation")


@command(
    example="kanlens discover data.csv --target v",
    target="Column to find a formula for.",
    features="Columns to use, comma-separated.  [default: all others]",
    time_limit="Seconds after which the search stops with the best formulas so far.",
)
def discover(
    data: Path,
    *,
    target: str,
    features: str | None = None,
    time_limit: float = 60.0,
    restarts: int = 1,
    scheduler: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    terminal: Terminal,
) -> None:
    """Find a formula for a column of a table, with a receipt that reports its errors."""
    from kanlens.discovery._scaling import numeric_columns

    frame: Any = read_frame(data, call="discover")
    names = split_names(features) or [name for name in frame if name != target]
    present = frame[[name for name in names if name in frame]]
    numbers = present.columns[numeric_columns(present, terminal.say)]
    columns = [name for name in names if name in numbers or name not in frame]
    table = kanlens.read_table(data, target=target, features=columns, task="regression")
    y: Any = table.y  # present, as there is a target
    options: dict[str, Any] = {"time_limit": time_limit, "progress": terminal.progress}
    options["generator"] = None if seed is None else seeded(seed)
    rows = table.x, pd.Series(y[:, 0].numpy(), name=target), table.feature_names
    if restarts > 1 or scheduler or workers:
        from kanlens import distributed

        options |= {"restarts": restarts, "workers": scheduler or workers}
        result = distributed.discover(*rows, **options)[0]
    else:
        result = kanlens.discover(*rows, **options)
    _show_formulas(terminal, result.equations_, result)
    terminal.say(f"{result.seconds:.1f} s: {result.stopped_because}")
    facts = {"stopped_because": result.stopped_because, "seconds": result.seconds}
    terminal.emit({"target": target, **facts, **json.loads(result.to_json())})
