"""Commands that say which feature did what: attribute, importance, compare, methods."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kanlens.checks import message
from kanlens.cli.application import app
from kanlens.cli.flags import in_flags
from kanlens.cli.model_tables import background_rows, read_rows, spread
from kanlens.cli.options import (
    Background,
    DataPath,
    Json,
    ModelPath,
    NoSeed,
    Quiet,
    Seed,
    Target,
    TargetColumn,
    asked_output,
    output_index,
    split_names,
)
from kanlens.cli.table_layout import blocks
from kanlens.cli.terminal import Terminal, check_outputs, seeded
from kanlens.errors import InvalidValueError

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("relative_gap", "shapley_error", "shapley_rank", "infidelity", "deletion", "seconds")
OWN = ("model", "x", "method", "background", "target", "grouped", "generator", "progress")
Options = Annotated[
    list[str] | None,
    typer.Option("--set", help="Option of the method, as name=value; may be given several times."),
]
MaxBackground = Annotated[
    int | None, typer.Option(help="Background rows, spread over those there are.")
]


@app.command()
def attribute(
    model: ModelPath,
    data: DataPath,
    *,
    method: Annotated[str, typer.Option(help="See 'kanlens methods'.")] = "shapley",
    column: TargetColumn = None,
    background: Background = None,
    output_name: Target = None,
    max_rows: Annotated[
        int | None, typer.Option(help="Rows to explain, spread over the table.  [default: all]")
    ] = None,
    max_background: MaxBackground = None,
    options: Options = None,
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
    from kanlens.data.tables import write_frame

    terminal = Terminal(quiet=quiet, as_json=as_json)
    check_outputs("attribute", {"table": output}, [model, data, background])
    kan = kanlens.load(model)
    table = read_rows(data, kan, column, call="attribute", terminal=terminal)
    against = (background, kan, table, max_background)
    result = kanlens.attribute(
        kan,
        spread(table.x, "max_rows", max_rows, call="attribute"),
        method=method,
        background=background_rows(*against, call="attribute", terminal=terminal),
        target=asked_output(terminal, kan, output_name, table.x, call="attribute"),
        generator=seeded(seed),
        progress=terminal.progress,
        **_options("attribute", options),
    )
    write_frame(result.to_frame(), output, call="attribute")
    facts: dict[str, Any] = {"attributions": str(output), "method": method}
    facts["target"] = f"{result.target} ({result.unit})" if result.unit else result.target
    importance = result
    if isinstance(result, Attribution):
        importance = result.to_importance()
        facts["rows"] = len(result.values)
        facts["baseline"] = result.baseline
        facts.update(_errors(result))
    frame = importance.to_frame()
    terminal.frame("importance", frame)
    terminal.facts("attributed", facts)
    terminal.wrote(output)
    terminal.emit({**facts, "importance": frame.to_dict(orient="records")})


@app.command()
def importance(
    model: ModelPath,
    data: DataPath,
    *,
    method: Annotated[str, typer.Option(help="See 'kanlens methods'.")] = "shapley",
    column: TargetColumn = None,
    background: Background = None,
    output_name: Annotated[
        str | None, typer.Option(help="One output, by name or index.  [default: all of them]")
    ] = None,
    max_rows: Annotated[int, typer.Option(help="Rows to use, spread over the table.")] = 200,
    max_background: MaxBackground = None,
    options: Options = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write the table here.")
    ] = None,
    seed: Seed = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rank the features, for every output or class; 95% intervals are from the spread of rows."""
    import kanlens
    from kanlens.data.tables import write_frame

    terminal = Terminal(quiet=quiet, as_json=as_json)
    check_outputs("importance", {"table": output}, [model, data, background])
    kan = kanlens.load(model)
    table = read_rows(data, kan, column, call="importance", terminal=terminal)
    against = (background, kan, table, max_background)
    frame = kanlens.importance(
        kan,
        spread(table.x, "max_rows", max_rows, call="importance"),
        method=method,
        background=background_rows(*against, call="importance", terminal=terminal),
        target=output_index(output_name),
        generator=seeded(seed),
        progress=terminal.progress,
        **_options("importance", options),
    )
    for name, part in frame.groupby("output", sort=False):
        unit = str(part["unit"].iloc[0])
        title = f"importance for {name}" + (f" ({unit})" if unit else "")
        terminal.frame(title, part.drop(columns=["output", "unit"]))
    if output is not None:
        write_frame(frame, output, call="importance")
        terminal.wrote(output)
    terminal.emit({"method": method, "importance": frame.to_dict(orient="records")})


@app.command()
def compare(
    model: ModelPath,
    data: DataPath,
    *,
    methods: Annotated[
        str | None,
        typer.Option(help="Methods, with commas, or all.  [default: the well-known ones]"),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics, with commas, or all.  [default: the quick ones]")
    ] = None,
    column: TargetColumn = None,
    background: Background = None,
    output_name: Target = None,
    max_rows: Annotated[int, typer.Option(help="Rows to use, spread over the table.")] = 50,
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
    from kanlens.data.tables import write_frame

    terminal = Terminal(quiet=quiet, as_json=as_json)
    check_outputs("compare", {"table": output}, [model, data, background])
    kan = kanlens.load(model)
    table = read_rows(data, kan, column, call="compare", terminal=terminal)
    against = (background, kan, table, max_background)
    result = kanlens.compare(
        kan,
        spread(table.x, "max_rows", max_rows, call="compare"),
        background=background_rows(*against, call="compare", terminal=terminal),
        target=asked_output(terminal, kan, output_name, table.x, call="compare"),
        methods=_names(methods),
        metrics=_names(metrics),
        generator=seeded(seed),
        progress=terminal.progress,
    )
    wanted = SHOWN if metrics is None else (*result.arrows, "seconds")
    shown = ["method", *(name for name in wanted if name in result.frame)]
    arrows = {name: f"{name} {arrow}".rstrip() for name, arrow in result.arrows.items()}
    numbers = result.frame[shown].rename(columns=arrows)
    terminal.text(f"output: {result.target}")
    _show(terminal, f"methods on {min(max_rows, table.rows)} rows", numbers, key=16)
    terminal.frame("verdicts", result.frame[["method", "verdict"]])
    _show(terminal, "mean |attribution|", result.importance.reset_index(names="feature"))
    for name, reason in result.skipped.items():
        command: Any = typer.main.get_command(app)
        said = in_flags(reason, command.commands["compare"])
        terminal.say(f"{name} was left out: {said}")
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
    names = ("name", "scope", "exact", "complete", "options", "summary", "reference")
    rows = [{name: getattr(method, name) for name in names} for method in METHODS.values()]
    _show(terminal, "methods", pd.DataFrame(rows).drop(columns="reference"), key=40)
    terminal.emit({"methods": rows})


def _show(terminal: Terminal, title: str, frame: pd.DataFrame, *, key: int = 20) -> None:
    """Print a table, in parts where the terminal is too narrow for it."""
    for place, part in enumerate(blocks(frame, terminal.data.width, key=key)):
        terminal.frame(title if not place else f"{title}, continued", part)


def _names(text: str | None) -> list[str] | str | None:
    """Return names as `compare` takes them: "all" as it is, None for its default."""
    names = split_names(text)
    return "all" if names == ["all"] else names or None


def _options(call: str, given: list[str] | None) -> dict[str, Any]:
    """Return options of a method from name=value; values are read as Python does, else text."""
    found: dict[str, Any] = {}
    for item in given or []:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier() or name in OWN:
            expected = "--set name=value with an option of the method"
            advice = "'kanlens methods' lists the options"
            raise InvalidValueError(message(call, expected, repr(item), advice))
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def _errors(result: Any) -> dict[str, Any]:
    """Return what an attribution says of its own error."""
    facts: dict[str, Any] = {}
    if result.shares:
        facts["largest_completeness_gap"] = float(result.completeness_gap.abs().max())
        facts["largest_relative_gap"] = float(result.relative_gap.abs().max())
    if result.standard_error is not None:
        facts["largest_standard_error"] = float(result.standard_error.max())
    if result.bound is not None:
        facts["bound"] = float(result.bound.max())
    if result.remark:
        facts["remark"] = result.remark
    return facts
