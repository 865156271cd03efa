"""The command bench sparsity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kanlens.cli.bench_commands import Folder, Fresh, Smoke, bench, folder_for, set_up, show
from kanlens.cli.options import SEEDS, Json, Quiet, split_names
from kanlens.cli.terminal import Terminal


@bench.command()
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
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder with feynman.csv, tabular/ and mnist/.  [default: ../shared/data]",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.", min=1)] = 5,
    jobs: Annotated[
        int | None, typer.Option(help="Runs at a time.  [default: one per processor]", min=1)
    ] = None,
    smoke: Smoke = False,
    fresh: Fresh = False,
    seed: Annotated[int, typer.Option("--seed", help="The first of the seeds.", **SEEDS)] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Answer by experiment which penalty, scale, start, grid and score of edges to take."""
    from kanlens.benchmarks.sparsity.running import run

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
