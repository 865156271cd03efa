"""The commands: one for each benchmark, printed as those of kanlens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kanlens.checks import message
from kanlens.cli.application import execute
from kanlens.cli.flags import Flagged
from kanlens.cli.options import SEEDS, Json, Quiet, split_names
from kanlens.cli.terminal import Terminal
from kanlens.errors import KanlensError

if TYPE_CHECKING:
    from benchmarks.campaign import Findings, Setup
    from benchmarks.speed.running import SpeedResult

app = typer.Typer(
    cls=Flagged,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Measure kanlens against what else there is.",
)

Folder = Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write to.")]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder with feynman.csv, univariate.csv, tabular/ and mnist/.  "
        "[default: the one beside the checkout]",
    ),
]
Smoke = Annotated[bool, typer.Option("--smoke", help="Tiny and quick, to see that it runs.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure again what was measured before.")]
Jobs = Annotated[
    int | None, typer.Option(help="Runs at a time.  [default: one per processor]", min=1)
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark and return its exit code, as `kanlens.cli.main` does.

    Examples
    --------
    >>> main(["speed", "--parts", ","])
    1
    """
    return execute(app, argv, "python -m benchmarks")


@app.command()
def speed(
    *,
    output: Folder = None,
    parts: Annotated[
        str, typer.Option(help="What to measure, with commas.")
    ] = "timing,memory,scaling",
    cells: Annotated[
        str | None,
        typer.Option(
            help="Shapes by words of their names, with commas: G50, 'order 2', 8x2->1 G5."
        ),
    ] = None,
    peers: Annotated[str | None, typer.Option(help="Who takes part, with commas.")] = None,
    paths: Annotated[bool, typer.Option("--paths", help="Add each path of kanlens.")] = False,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or both.  [default: those there are]")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Most rounds of one shape.")] = 30,
    seconds: Annotated[float, typer.Option(help="Time for the rounds of one shape.")] = 10.0,
    memory_limit: Annotated[
        float | None,
        typer.Option(help="GiB; a peer that needs more sits out.  [default: half of what is free]"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Fail when a promise about the speed is broken.")
    ] = False,
    smoke: Smoke = False,
    fresh: Fresh = False,
    seed: Annotated[int, typer.Option("--seed", help="Draws numbers and turns.", **SEEDS)] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Time one layer and its peak memory, against nn.Linear and other KAN layers."""
    from benchmarks.speed.running import Plan, run

    terminal = Terminal(quiet=quiet, as_json=as_json)
    plan = Plan(
        parts=tuple(split_names(parts)),
        cells=tuple(split_names(cells)),
        peers=tuple(split_names(peers)),
        paths=paths,
        smoke=smoke,
        fresh=fresh,
        rounds=rounds,
        seconds=seconds,
        memory_limit=memory_limit,
        devices=tuple(split_names(device)) or None,
        seed=seed,
    )
    result = run(plan, folder_for(output, smoke=smoke), progress=terminal.progress)
    _show_speed(result, terminal)
    terminal.wrote(*result.files)
    terminal.emit(result.to_dict())
    if check:
        _insist(result)


@app.command()
def attribution(
    *,
    output: Folder = None,
    parts: Annotated[
        str | None,
        typer.Option(help="Of promises, certificates, planted and trained.  [default: all]"),
    ] = None,
    data: DataFolder = None,
    seeds: Annotated[int, typer.Option(help="Number of trained networks of a table.", min=1)] = 3,
    smoke: Smoke = False,
    fresh: Fresh = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare attribution methods with exact truths, and on networks trained on tables."""
    from benchmarks.attribution.running import run

    terminal = Terminal(quiet=quiet, as_json=as_json)
    result = run(
        set_up(range(seeds), data, smoke=smoke),
        folder_for(output, smoke=smoke),
        parts=split_names(parts),
        fresh=fresh,
        progress=terminal.progress,
    )
    show(result, terminal)


@app.command()
def sparsity(
    *,
    output: Folder = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            help="Of penalties, costs, scaler, starts, digits, grids, damage and budgets, with "
            "commas.  [default: all]"
        ),
    ] = None,
    data: DataFolder = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.", min=1)] = 5,
    jobs: Jobs = None,
    smoke: Smoke = False,
    fresh: Fresh = False,
    seed: Annotated[int, typer.Option("--seed", help="The first of the seeds.", **SEEDS)] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer by experiment which penalty, scale, start, grid and score of edges to take."""
    from benchmarks.sparsity.running import run

    terminal = Terminal(quiet=quiet, as_json=as_json)
    count = 1 if smoke else seeds
    result = run(
        set_up(range(seed, seed + count), data, smoke=smoke),
        folder_for(output, smoke=smoke),
        experiments=split_names(experiment),
        jobs=jobs,
        fresh=fresh,
        progress=terminal.progress,
    )
    show(result, terminal)


@app.command()
def symbolic(
    *,
    output: Folder = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Of speed, identification, known, recovery and peers, with commas.  [default: all]"
        ),
    ] = None,
    data: DataFolder = None,
    seeds: Annotated[int, typer.Option(help="Number of repetitions.", min=1)] = 5,
    jobs: Jobs = None,
    smoke: Smoke = False,
    fresh: Fresh = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how fast and how right edges are named, and whether known equations are found."""
    from benchmarks.symbolic.running import run

    terminal = Terminal(quiet=quiet, as_json=as_json)
    result = run(
        set_up(range(seeds), data, smoke=smoke),
        folder_for(output, smoke=smoke),
        parts=split_names(parts),
        jobs=jobs,
        fresh=fresh,
        progress=terminal.progress,
    )
    show(result, terminal)


def folder_for(output: Path | None, *, smoke: bool) -> Path:
    """Return the folder that was asked for, else one in the current folder."""
    return output or Path("kanlens-bench-smoke" if smoke else "kanlens-bench")


def set_up(seeds: Iterable[int], data: Path | None, *, smoke: bool) -> Setup:
    """Return what the user chose, with the data beside the checkout unless others are named."""
    from benchmarks.campaign import Setup, data_beside_checkout

    found = data or (None if smoke else data_beside_checkout())
    return Setup(seeds=tuple(seeds), data=found, smoke=smoke)


def show(result: Findings, terminal: Terminal) -> None:
    """Print what a campaign left out, what it found, and which files it wrote."""
    for what, reason in result.skipped.items():
        terminal.say(f"left out {what}: {reason}")
    for title, frame in result.summaries().items():
        terminal.frame(title, frame)
        terminal.text("")
    terminal.wrote(*result.files)
    terminal.emit(result.to_dict())


def _show_speed(result: SpeedResult, terminal: Terminal) -> None:
    from benchmarks.speed.tables import busy, notes, tables, verdict_table

    for title, frame in tables(result.speed, result.memory, result.scaling).items():
        terminal.frame(title, frame)
        terminal.text("")
    for note in notes(result.speed, result.memory, result.scaling):
        terminal.say(note)
    if len(result.speed) and busy(result.speed):
        terminal.say(busy(result.speed))
    terminal.frame("promises", verdict_table(result.verdict))


def _insist(result: SpeedResult) -> None:
    """Refuse a result in which a promise is broken."""
    from benchmarks.speed.verdict import broken

    failed: list[Any] = broken(result.verdict)
    if failed:
        first = failed[0]
        got = f"{len(failed)} broken, the first with {first.figure:.3g} at {first.where}"
        raise KanlensError(
            message("benchmarks speed", first.promise, got, "See the promises above")
        )
