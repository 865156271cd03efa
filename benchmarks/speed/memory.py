"""Peak memory of one forward and backward, each peer in a process of its own.

The process builds the layer and the rows, runs a few rows so that whatever compiles has compiled
and whatever is loaded is loaded, gives free memory back, and then runs all rows once.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.machine import version_of
from benchmarks.processes import MIB, ask_all, peak_memory
from benchmarks.speed.cells import Cell, parse
from benchmarks.speed.peers import PEERS
from benchmarks.speed.subject import Peer, Subject
from benchmarks.speed.timing import Settings, candidate, reason
from benchmarks.speed.workload import draw

COLUMNS = (
    *("peer", "status", "note", "extra_mib", "level_mib", "way"),
    *("parameters", "version"),
)


def measure_memory(
    cell: Cell, peers: Sequence[Peer], settings: Settings, *, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Return a row of ``COLUMNS`` for each peer on one cell, measured two processes at a time."""
    candidates = [
        candidate(peer, cell, settings.memory_limit) for peer in peers if device in peer.devices
    ]
    asked = [found for found in candidates if found.status == "ok"]
    question = {
        "cell": cell.name,
        "device": device,
        "threads": torch.get_num_threads(),
        "seed": settings.seed,
    }
    answers = ask_all(__name__, [{**question, "peer": found.peer.name} for found in asked])
    found_for = dict(zip([found.peer.name for found in asked], answers, strict=True))
    rows = []
    for found in candidates:
        answer = dict(found_for.get(found.peer.name, {}))
        if "failed" in answer:
            found.give_up("failed", answer.pop("failed"))
        rows.append(
            {
                "peer": found.peer.name,
                "version": version_of(found.peer.distribution) if found.peer.distribution else "",
                "status": found.status,
                "note": found.note,
                **answer,
            }
        )
    return rows


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """Measure one peer in this process, which should be a fresh one.

    A `question` has `cell`, `peer`, `device`, `threads` and `seed`; the answer `extra_mib`,
    `level_mib`, `way`, `parameters`, and a `note` when it compiled on the way; or `failed`.
    """
    torch.set_num_threads(question["threads"])
    cell, peer = parse(question["cell"]), PEERS[question["peer"]]
    if cell is None:
        return {"failed": f"no cell {question['cell']!r}"}
    generator = torch.Generator().manual_seed(question["seed"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject = peer.build(draw(cell, generator, question["device"]))
            peer.warm(subject)
            return _measure(subject, question["device"])
    except Exception as error:  # noqa: BLE001 - a peer that fails is a row, not the end
        return {"failed": reason(error)}


def _measure(subject: Subject, device: str) -> dict[str, Any]:
    compiled = _compiled()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        level = torch.cuda.memory_allocated() / MIB
        subject.forward_backward()
        torch.cuda.synchronize()
        extra, way = torch.cuda.max_memory_allocated() / MIB - level, "torch.cuda"
    else:
        with peak_memory() as reading:
            subject.forward_backward()
        level, extra, way = reading.level, reading.extra, reading.way
    note = "" if _compiled() == compiled else "compiled while measured"
    return {
        "extra_mib": extra,
        "level_mib": level,
        "way": way,
        "parameters": subject.parameters,
        "note": note,
    }


def _compiled() -> int:
    """Return how many graphs torch.compile has made in this process."""
    if "torch._dynamo" not in sys.modules:
        return 0
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(answer(json.loads(sys.argv[1]))) + "\n")
