"""Time of every peer on one cell: built, compared with what is right, then timed in rounds."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.interleaved_timing import Schedule, interleave, quartiles, ratio
from benchmarks.machine import INSTALL, missing, version_of
from benchmarks.speed.cells import Cell
from benchmarks.speed.peers import FLOOR, OWN
from benchmarks.speed.reference import TOLERANCE, errors
from benchmarks.speed.subject import Peer, Subject
from benchmarks.speed.workload import Workload, draw

if TYPE_CHECKING:
    import numpy as np

FORWARD, BOTH = "forward", "forward+backward"
PASSES = (FORWARD, BOTH)
TIMED = ("ok", "values differ")  # statuses of rows that have times
COLUMNS = (
    *("batch", "in", "out", "grid", "order", "knots", "peer", "pass"),
    *("status", "note", "ms", "ms_q25", "ms_q75", "rounds", "vs_linear", "vs_kanlens"),
    *("value_error", "gradient_error", "parameters", "version"),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How cells are timed; a peer expected to need more bytes than `memory_limit` is not run."""

    schedule: Schedule
    passes: tuple[str, ...] = PASSES
    memory_limit: float = 8e9
    seed: int = 0


@dataclass(kw_only=True)
class Candidate:
    """A peer on one cell: its layer, or why there is none.

    `status` is "ok", "values differ", "not installed", "not supported", "skipped" or "failed",
    which `note` explains; `errors` are those of values and gradients, relative to the largest
    right one.
    """

    peer: Peer
    status: str = "ok"
    note: str = ""
    subject: Subject | None = None
    errors: tuple[float, float] = field(default=(float("nan"), float("nan")))

    def give_up(self, status: str, note: str) -> None:
        """Take this peer out."""
        self.status, self.note, self.subject = status, note, None


def candidate(peer: Peer, cell: Cell, memory_limit: float) -> Candidate:
    """Return whether a peer can take part in a cell at all, and if not, why."""
    found = Candidate(peer=peer)
    if peer.module and missing(peer.module):
        found.give_up("not installed", INSTALL)
    elif peer.refuses(cell):
        found.give_up("not supported", peer.refuses(cell))
    elif peer.memory(cell) > memory_limit:
        needed, limit = peer.memory(cell) / 2**30, memory_limit / 2**30
        found.give_up("skipped", f"needs about {needed:.1f} GiB, the limit is {limit:.1f} GiB")
    return found


def prepare(found: Candidate, problem: Workload, passes: Sequence[str] = PASSES) -> None:
    """Build the layer of a peer, compare it with what is right, and run it until it is compiled.

    A layer that fails is taken out; one that gives other values stays, and is marked.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject = found.peer.build(problem)
            found.errors = errors(subject.found(), subject.right())
            for task in passes:
                run_of(subject, task)()
    except Exception as error:  # noqa: BLE001 - a peer that fails is a row, not the end
        found.give_up("failed", reason(error))
        return
    found.subject = subject
    if not max(found.errors) <= TOLERANCE:
        value, gradient = found.errors
        found.status = "values differ"
        found.note = f"relative error {value:.1e} of values, {gradient:.1e} of gradients"


def reason(error: Exception) -> str:
    r"""Return the first line of an error, or what is missing where that is known.

    Examples
    --------
    >>> reason(ValueError("no such order\nsecond line"))
    'ValueError: no such order'
    """
    text = f"{type(error).__name__}: {error}".strip()
    if "InvalidCxxCompiler" in text or "No working C++ compiler" in text:
        return "needs a C++ compiler for torch.compile"
    return text.splitlines()[0][:200]


def run_of(subject: Subject, task: str) -> Any:
    """Return the method of a subject that does one pass."""
    return subject.forward if task == FORWARD else subject.forward_backward


def time_cell(
    cell: Cell, peers: Sequence[Peer], settings: Settings, *, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Return a row of ``COLUMNS`` for each peer and pass on one cell."""
    forget_compiled()
    generator = torch.Generator().manual_seed(settings.seed)
    problem = draw(cell, generator, device)
    candidates = [
        candidate(peer, cell, settings.memory_limit) for peer in peers if device in peer.devices
    ]
    for found in candidates:
        if found.status == "ok":
            prepare(found, problem, settings.passes)
    tasks = {
        (found.peer.name, task): run_of(found.subject, task)
        for found in candidates
        for task in settings.passes
        if found.subject is not None
    }
    finish = torch.cuda.synchronize if device == "cuda" else _nothing
    times = interleave(tasks, settings.schedule, generator=generator, finish=finish)
    return [
        {**_shape(cell), **_row(found, task, times)}
        for found in candidates
        for task in settings.passes
    ]


def forget_compiled() -> None:
    """Let torch.compile start anew, so that every shape is compiled for itself.

    Otherwise the second shape would be compiled for all shapes, and the ninth not at all.
    """
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


def _nothing() -> None:
    """Wait for nothing."""


def _shape(cell: Cell) -> dict[str, Any]:
    return {
        "batch": cell.batch,
        "in": cell.in_features,
        "out": cell.out_features,
        "grid": cell.grid_size,
        "order": cell.order,
        "knots": "uniform" if cell.uniform else "non-uniform",
    }


def _row(found: Candidate, task: str, times: dict[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    peer = found.peer
    row: dict[str, Any] = {
        "peer": peer.name,
        "pass": task,
        "status": found.status,
        "note": found.note,
        "value_error": found.errors[0],
        "gradient_error": found.errors[1],
        "version": version_of(peer.distribution) if peer.distribution else "",
    }
    if found.subject is None:
        return row
    own = times[peer.name, task]
    low, middle, high = (1e3 * value for value in quartiles(own))
    row |= {"ms": middle, "ms_q25": low, "ms_q75": high, "rounds": int((own == own).sum())}
    row["parameters"] = found.subject.parameters
    for column, other in (("vs_linear", FLOOR), ("vs_kanlens", OWN)):
        if (other, task) in times:
            row[column] = ratio(own, times[other, task])
    return row
