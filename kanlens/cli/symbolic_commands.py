"""The command bench symbolic."""

from __future__ import annotations

from typing import Annotated

import typer

from kanlens.cli.bench_commands import (
    DataFolder,
    Folder,
    Fresh,
    Smoke,
    bench,
    folder_for,
    set_up,
    show,
)
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
    data: DataFolder = None,
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
    from kanlens.benchmarks.symbolic.running import run

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
