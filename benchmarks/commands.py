"""The commands: one for each benchmark, printed as those of kanlens."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kanlens.cli._command import CommandGroup, execute
from kanlens.cli._console import Terminal
from kanlens.cli._options import SEEDS, Json, Quiet, split_names
from kanlens.errors import KanlensError

if TYPE_CHECKING:
    from benchmarks.harness import Benchmark, Findings, Setup

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Measure kanlens against what else there is.",
)
BENCHMARKS = {  # where each is, how many seeds it has, and its help; `speed` has its own command
    "attribution": (
        ("benchmarks.attribution.experiments", "ATTRIBUTION", 3),
        "Compare attribution methods with exact truths, and on networks trained on tables.",
    ),
    "sparsity": (
        ("benchmarks.sparsity.experiments", "SPARSITY", 5),
        "Ask again which penalty finds true edges, and how many edges a budget leaves.",
    ),
    "symbolic": (
        ("benchmarks.symbolic.experiments", "SYMBOLIC", 5),
        "Measure how fast and how right edges are named, and whether known equations are found.",
    ),
    "workflow": (
        ("benchmarks.workflow.experiments", "WORKFLOW", 1),
        "Count the functions a call enters, and time the commands from a table to a report.",
    ),
    "tables": (
        ("benchmarks.tables.experiments", "PREDICTION", 3),
        "Predict tables with no setting chosen, beside scikit-learn's network and boosting.",
    ),
    "readable": (
        ("benchmarks.readable.experiments", "READABLE", 5),
        "Predict tables with networks of few edges, beside boosted additive models.",
    ),
    "scaling": (
        ("benchmarks.scaling.experiments", "SCALING", 1),
        "Measure seconds and memory against rows, features, width, grid, ranks and workers.",
    ),
}

Folder = Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write to.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Tiny and quick, to see that it runs.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Measure again what was measured before.")]


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
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or both.  [default: those there are]")
    ] = None,
    isa: Annotated[
        str | None,
        typer.Option(
            help="native, or avx2: timed as on a processor without AVX-512; or both, with commas."
        ),
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
    from benchmarks.speed.experiments import SPEED, SpeedSetup

    setup = SpeedSetup(
        smoke=smoke,
        cells=tuple(split_names(cells)),
        peers=tuple(split_names(peers)),
        rounds=rounds,
        seconds=seconds,
        memory_limit=memory_limit,
        devices=tuple(split_names(device)) or None,
        isa=tuple(split_names(isa)),
        seed=seed,
    )
    terminal = Terminal(quiet=quiet, as_json=as_json)
    found = _run(SPEED, setup, terminal, output=output, parts=parts, fresh=fresh)
    _judge_speed(found, terminal, insist=check)


def _add_command(name: str, place: tuple[str, str, int], words: str) -> None:
    """Add the command of a benchmark; its module is loaded when the command is called."""
    module, attribute, count = place

    def command(
        *,
        output: Folder = None,
        parts: Annotated[
            str | None,
            typer.Option(help="Its experiments, with commas.  [default: all]"),
        ] = None,
        data: Annotated[
            Path | None,
            typer.Option(
                help="Folder with feynman.csv, univariate.csv and tabular/.  "
                "[default: the one beside the checkout]"
            ),
        ] = None,
        seeds: Annotated[int, typer.Option(help="Number of repetitions.", min=1)] = count,
        jobs: Annotated[
            int | None, typer.Option(help="Runs at a time.  [default: one per processor]", min=1)
        ] = None,
        scheduler: Annotated[
            str | None,
            typer.Option(help="Address of a Dask scheduler, whose workers run and time all."),
        ] = None,
        smoke: Smoke = False,
        fresh: Fresh = False,
        as_json: Json = False,
        quiet: Quiet = False,
    ) -> None:
        from benchmarks.data import beside_checkout
        from benchmarks.harness import Setup

        benchmark = getattr(import_module(module), attribute)
        data = data or (None if smoke else beside_checkout())
        setup = Setup(seeds=tuple(range(1 if smoke else seeds)), data=data, smoke=smoke)
        terminal = Terminal(quiet=quiet, as_json=as_json)
        work = scheduler or jobs
        found = _run(benchmark, setup, terminal, output=output, parts=parts, fresh=fresh, jobs=work)
        terminal.emit(found.to_dict())

    app.command(name, help=words)(command)


for _name, (_place, _words) in BENCHMARKS.items():
    _add_command(_name, _place, _words)


def _run(
    benchmark: Benchmark,
    setup: Setup,
    terminal: Terminal,
    *,
    output: Path | None,
    parts: str | None,
    fresh: bool,
    jobs: int | str | None = None,
) -> Findings:
    """Run a benchmark; print what it left out, what it found, and which files it wrote."""
    found = benchmark.run(
        setup,
        output or Path("kanlens-bench-smoke" if setup.smoke else "kanlens-bench"),
        parts=split_names(parts),
        jobs=jobs,
        fresh=fresh,
        progress=terminal.progress,
    )
    for what, reason in found.skipped.items():
        terminal.say(f"left out {what}: {reason}")
    for title, frame in found.summaries.items():
        terminal.frame(title, frame)
        terminal.text("")
    terminal.wrote(*found.files)
    return found


def _judge_speed(found: Findings, terminal: Terminal, *, insist: bool) -> None:
    """Print what stands behind missing numbers and which promises hold; refuse broken ones."""
    import pandas as pd

    from benchmarks.speed.tables import busy, notes, verdict_table
    from benchmarks.speed.verdict import broken, judge

    empty = pd.DataFrame(columns=["device", "cell", "peer", "pass", "status"])
    speed, memory = (found.tables.get(name, empty) for name in ("speed", "speed-memory"))
    for note in notes(*found.tables.values()):
        terminal.say(note)
    if len(speed) and busy(speed):
        terminal.say(busy(speed))
    verdict = judge(*(each.astype(object).where(each.notna(), None) for each in (speed, memory)))
    terminal.frame("promises", verdict_table(verdict))
    terminal.emit(found.to_dict() | {"verdict": [finding.to_dict() for finding in verdict]})
    failed = broken(verdict)
    if insist and failed:
        first = failed[0]
        got = f"{len(failed)} broken, the first with {first.figure:.3g} at {first.where}"
        raise KanlensError("benchmarks speed", first.promise, got, "See the promises above")
