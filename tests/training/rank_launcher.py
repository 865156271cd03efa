"""Two jobs of two processes, as torchrun starts them: rank_launcher.py FOLDER.

The agent of torchrun runs here, and its processes are forks: what takes seconds to load is loaded
once. The first job loses a process, and the second goes on from what it left. Standard error of a
job is in a file of its own; their exit codes are printed.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.training import rank_program

JOBS = {"lost": "killed", "two": "resumed,equal,whole"}


def process(cases: str, folder: str) -> None:
    """Be one process of a job; the first keeps what its cases lead to."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as in a process that is no fork
    torch.set_num_threads(1)
    program = importlib.reload(rank_program)  # which reads what process this is
    program.FOLDER = Path(folder)
    try:
        for case in cases.split(","):
            found = program.run(case)
            if program.RANK == 0:
                torch.save(found, Path(folder, f"{case}{program.COUNT}.pt"))
    except BaseException:
        traceback.print_exc()  # a fork that fails prints nothing
        raise


def job(cases: str, folder: str) -> int:
    """Return the exit code that torchrun would end with."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        run_id=cases,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        start_method="fork",
    )
    try:
        elastic_launch(config, process)(cases, folder)
    except ChildFailedError:
        return 1
    return 0


def main(folder: str) -> None:
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # loads a compiler
    for name, cases in JOBS.items():
        with Path(folder, f"{name}.txt").open("w") as errors:
            os.dup2(errors.fileno(), sys.stderr.fileno())
            sys.stdout.write(f"{job(cases, folder)}\n")
        if name == "lost":  # what it left to go on from is kept for one process and for two
            for count in (1, 2):
                Path(folder, f"run{count}").write_bytes(Path(folder, "run").read_bytes())


if __name__ == "__main__":
    main(sys.argv[1])
