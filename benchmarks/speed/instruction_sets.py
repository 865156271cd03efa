"""Timing as on a processor with shorter vectors, in a process that is told to use no others.

numba, torch and its libraries read what they may use when they are loaded, so that nothing of it
can be changed in a process that has loaded them. torch.compile has a cache of its own there: layers
it had compiled for longer vectors were seen to crash.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.interleaved_timing import Schedule
from benchmarks.machine import stamp
from benchmarks.processes import ask
from benchmarks.speed.cells import Cell
from benchmarks.speed.peers import PEERS
from benchmarks.speed.timing import Settings, time_cell

HOUR = 3600.0  # seconds
ENVIRONMENTS = {
    "avx2": {
        "NUMBA_CPU_NAME": "znver3",
        "NUMBA_CPU_FEATURES": "+64bit,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "TORCHINDUCTOR_CACHE_DIR": str(Path(tempfile.gettempdir(), "benchmarks-speed-avx2")),
    }
}
AS = " as "  # in the name of a device: "cpu as avx2"


def time_elsewhere(
    cell: Cell, peers: list[str], settings: Settings, *, instructions: str
) -> list[dict[str, Any]]:
    """Time peers on one cell in a new process with one of ``ENVIRONMENTS``; rows are stamped."""
    question = {"cell": asdict(cell), "peers": peers, "settings": asdict(settings)}
    found = ask(__name__, question, timeout=HOUR, told=ENVIRONMENTS[instructions])
    if "failed" in found:
        raise RuntimeError(f"benchmarks speed --isa {instructions}: {found['failed']}")
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Time peers on one cell in this process, which should be a fresh one.

    A `question` has the fields of a `cell`, names of `peers`, and the fields of `settings`; the
    answer `rows`, with the stamp of this process.
    """
    settings = dict(question["settings"])
    settings["schedule"] = Schedule(**settings["schedule"])
    settings["passes"] = tuple(settings["passes"])
    peers = [PEERS[name] for name in question["peers"]]
    rows = time_cell(Cell(**question["cell"]), peers, Settings(**settings))
    known = stamp()
    return {"rows": [{**known, **row} for row in rows]}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(answer(json.loads(sys.argv[1]))) + "\n")
