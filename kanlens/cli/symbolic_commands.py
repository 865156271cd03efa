"""The command bench symbolic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kanlens.cli.bench_commands import Folder, Fresh, Smoke, bench
from kanlens.cli.options import Json, Quiet, split_names
from kanlens.cli.terminal import Terminal


@bench.command()
def symbolic(
    *,
    output: Folder = None,
    parts: Annotated[
        str | None,
        typer.Option(
            help="Of speed, identification, known, recovery and peers, with commas.  [default: all]"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder of the data.  [default: ../shared/data]"),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of repetitions.", min=1)] = 5,
    jobs: Annotated[
        int | None, typer.Option(help="Units at a time.  [default: one per processor]", min=1)
    ] = None,
    smoke: Smoke = False,
    fresh: Fresh = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how fast and how right edges are named, and whether known equations are found."""
    from kanlens.benchmarks.campaign import Setup, data_beside_checkout
    from kanlens.benchmarks.symbolic.running import run

    terminal = Terminal(quiet=quiet, as_json=as_json)
    found = data or (None if smoke else data_beside_checkout())
    result = run(
        Setup(seeds=tuple(range(seeds)), data=found, smoke=smoke),
        output or Path("kanlens-bench-smoke" if smoke else "kanlens-bench"),
        parts=split_names(parts),
        jobs=jobs,
        fresh=fresh,
        progress=terminal.progress,
    )
    for what, reason in result.skipped.items():
        terminal.say(f"left out {what}: {reason}")
    for title, frame in result.summaries().items():
        terminal.frame(title, frame)
        terminal.text("")
    terminal.wrote(*result.files)
    terminal.emit(result.to_dict())
