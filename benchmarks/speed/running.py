"""The whole benchmark: what is missing is measured, then tables, figure and verdict are made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.machine import available_memory, stamp
from benchmarks.packages import version_of
from benchmarks.records import Records
from benchmarks.rounds import Schedule
from benchmarks.speed import cells as known
from benchmarks.speed import memory, scaling, timing
from benchmarks.speed.cells import Cell
from benchmarks.speed.peers import chosen
from benchmarks.speed.subject import Peer
from benchmarks.speed.verdict import Finding, judge
from kanlens.checks import check_choice, check_count, check_positive
from kanlens.outputs import check_writable
from kanlens.progress import progress_bar

if TYPE_CHECKING:
    import pandas as pd

TIMING, MEMORY, SCALING = PARTS = ("timing", "memory", "scaling")
FILES = {TIMING: "speed.csv", MEMORY: "speed-memory.csv", SCALING: "speed-scaling.csv"}
PICTURE = "speed.png"
STAMP = (
    *("date", "kanlens", "core", "python", "torch", "numba"),
    *("cpu", "gpu", "threads", "system", "load"),
)
PASSING = ("date", "load")  # of a stamp: what may differ between rows that belong together
TEXT = (
    *(name for name in STAMP if name not in ("threads", "load")),
    "version",
    "note",
    "cell",
    "peer",
)
COLUMNS = {
    TIMING: (*timing.COLUMNS, *STAMP),
    MEMORY: (*memory.COLUMNS, *STAMP),
    SCALING: (*scaling.COLUMNS, *STAMP),
}
WEIGHTS = {TIMING: 28, MEMORY: 20, SCALING: 12}  # seconds that a cell takes, for the bar
SCALING_SHARE = 0.3  # of the rounds' seconds, for a point on a curve


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and how.

    Attributes
    ----------
    parts : tuple of str
        Of "timing", "memory" and "scaling".
    cells : tuple of str
        Words of the names of cells, or whole names of others; empty for all. Curves are drawn
        only when it is empty.
    peers : tuple of str
        Keys of ``PEERS``; empty for all.
    paths : bool
        Whether kanlens also runs on each of its paths.
    smoke : bool
        Tiny cells and few rounds, to see that everything runs.
    fresh : bool
        Whether cells measured before are measured again.
    rounds : int
        Most rounds of one cell.
    seconds : float
        Time for the rounds of one cell.
    memory_limit : float or None
        GiB; a peer expected to need more is not run. Half of what is free when None.
    devices : tuple of str or None
        Of "cpu" and "cuda"; those there are when None.
    seed : int
        Draws the numbers and the order of turns.
    """

    parts: tuple[str, ...] = PARTS
    cells: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    paths: bool = False
    smoke: bool = False
    fresh: bool = False
    rounds: int = 30
    seconds: float = 10.0
    memory_limit: float | None = None
    devices: tuple[str, ...] | None = None
    seed: int = 0

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises
        ------
        InvalidValueError
            If a part, a device, a peer or a cell is unknown, or a number out of range.
        """
        for part in self.parts:
            check_choice("benchmarks speed", "parts", part, PARTS)
        for device in self.devices or ():
            check_choice("benchmarks speed", "device", device, devices())
        check_count("benchmarks speed", "rounds", self.rounds)
        check_positive("benchmarks speed", "seconds", self.seconds)
        if self.memory_limit is not None:
            check_positive("benchmarks speed", "memory_limit", self.memory_limit)
        chosen(self.peers)
        known.check_cells(
            tuple(dict.fromkeys(self._every(TIMING) + self._every(MEMORY))), self.cells
        )

    def settings(self, part: str) -> timing.Settings:
        """Return how one part times its cells."""
        limit = self.memory_limit
        schedule = Schedule(rounds=self.rounds, seconds=self.seconds)
        if self.smoke:
            schedule = Schedule(rounds=2, least=2, seconds=0.5, turn=0.001)
        elif part == SCALING:
            schedule = replace(schedule, least=3, seconds=SCALING_SHARE * self.seconds)
        return timing.Settings(
            schedule=schedule,
            passes=(timing.BOTH,) if part == SCALING else timing.PASSES,
            memory_limit=available_memory() / 2 if limit is None else limit * 2**30,
            seed=self.seed,
        )

    def curves(self) -> Mapping[str, Sequence[Cell]]:
        """Return the curves that are measured."""
        if self.cells:
            return {}
        return known.SMOKE_CURVES if self.smoke else known.CURVES

    def cells_of(self, part: str) -> tuple[Cell, ...]:
        """Return the cells of one part."""
        if part == SCALING:
            return scaling.points(self.curves())
        return known.select(self._every(part), self.cells)

    def _every(self, part: str) -> tuple[Cell, ...]:
        if part == MEMORY:
            return known.SMOKE_MEMORY_CELLS if self.smoke else known.MEMORY_CELLS
        return known.SMOKE_CELLS if self.smoke else known.CELLS


@dataclass(frozen=True, kw_only=True, eq=False)
class SpeedResult:
    """What was measured.

    Attributes
    ----------
    speed, memory, scaling : DataFrame
        Rows of the plan's cells, with the columns of ``COLUMNS``.
    verdict : tuple of Finding
        What kanlens promises, and whether it holds.
    files : tuple of Path
        What was written, and what was found up to date.
    measured : int
        Number of cells measured in this run; the others were done before.
    """

    speed: pd.DataFrame
    memory: pd.DataFrame
    scaling: pd.DataFrame
    verdict: tuple[Finding, ...]
    files: tuple[Path, ...]
    measured: int

    def to_frame(self) -> pd.DataFrame:
        """Return the times, one row for each cell, peer and pass."""
        return self.speed.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and dictionaries."""
        return {
            "speed": _plain(self.speed),
            "memory": _plain(self.memory),
            "scaling": _plain(self.scaling),
            "verdict": [finding.to_dict() for finding in self.verdict],
            "files": [str(path) for path in self.files],
            "measured": self.measured,
        }

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict())


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dictionaries; what is missing is None."""
    return [
        {name: None if value != value else value for name, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


def run(
    plan: Plan, folder: Path, *, picture: bool = True, progress: bool | None = None
) -> SpeedResult:
    """Measure what is missing, store it cell by cell, and judge.

    A cell is finished when the file has a row for every peer, measured with this state of the
    core, these versions and this machine; other cells are measured (again). An interrupted run
    goes on where it stopped.

    Parameters
    ----------
    plan : Plan
        What is measured.
    folder : Path
        Where files are; made when it does not exist.
    picture : bool
        Whether a figure of all rows in the folder is drawn.
    progress : bool, optional
        False for no bar. Default: a bar where stderr is a terminal.

    Returns
    -------
    SpeedResult

    Raises
    ------
    InvalidValueError
        If the plan asks for what there is not.
    FileFormatError
        If the folder has files of these names with other columns.
    OutputError
        If the folder cannot be written.
    """
    plan.check()
    for name in FILES.values():
        check_writable(folder / name, call="benchmarks speed")
    records = {part: _records(plan, folder, part) for part in PARTS}
    jobs = _jobs(plan, records)
    total = sum(WEIGHTS[job.part] for job in jobs)
    with progress_bar("benchmarks speed", total, shown=progress) as advance:
        for job in jobs:
            advance(0, note=f"{job.part} {job.cell.name}")
            rows = _measure(job, plan)
            records[job.part].store((job.device, job.cell.name), rows)
            advance(WEIGHTS[job.part])
    frames = {part: _of_plan(records[part].frame(), plan, part) for part in PARTS}
    return SpeedResult(
        speed=frames[TIMING],
        memory=frames[MEMORY],
        scaling=frames[SCALING],
        verdict=tuple(judge(frames[TIMING], frames[MEMORY])),
        files=(*_written(records), *(_pictures(records, folder) if picture else ())),
        measured=len(jobs),
    )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One cell of one part on one device, and who takes part."""

    part: str
    device: str
    cell: Cell
    peers: tuple[Peer, ...]


def _records(plan: Plan, folder: Path, part: str) -> Records:
    return Records(
        folder / FILES[part],
        COLUMNS[part],
        group=("device", "cell"),
        text=TEXT,
        fresh=plan.fresh and part in plan.parts and not plan.cells,
    )


def _jobs(plan: Plan, records: Mapping[str, Records]) -> list[_Job]:
    """Return what is to be measured."""
    found = []
    for device in plan.devices or devices():
        peers = tuple(
            peer for peer in chosen(plan.peers, paths=plan.paths) if device in peer.devices
        )
        for part in (part for part in PARTS if part in plan.parts):
            for cell in plan.cells_of(part):
                there = records[part].of((device, cell.name))
                if plan.fresh or not finished(there, peers):
                    found.append(_Job(part=part, device=device, cell=cell, peers=peers))
    return found


def finished(rows: Sequence[Mapping[str, Any]], peers: Sequence[Peer]) -> bool:
    """Say whether rows of a cell hold every peer as it would be measured now.

    Examples
    --------
    >>> finished([], chosen(["pykan"]))
    False
    """
    now = {name: str(value) for name, value in stamp().items() if name not in PASSING}
    for peer in peers:
        installed = version_of(peer.distribution) if peer.distribution else ""
        own = [row for row in rows if row["peer"] == peer.name]
        if not own or any(str(row["version"] or "") != installed for row in own):
            return False
    return all(str(row[name] or "") == value for row in rows for name, value in now.items())


def _measure(job: _Job, plan: Plan) -> list[dict[str, Any]]:
    settings = plan.settings(job.part)
    measure = memory.measure_memory if job.part == MEMORY else timing.time_cell
    rows = measure(job.cell, job.peers, settings, device=job.device)
    return scaling.on_curves(job.cell, rows, plan.curves()) if job.part == SCALING else rows


def _of_plan(frame: pd.DataFrame, plan: Plan, part: str) -> pd.DataFrame:
    """Keep the rows of the plan's cells, in its order."""
    names = [cell.name for cell in plan.cells_of(part)]
    kept = frame[frame["cell"].isin(names)].copy()
    order = kept["cell"].map({name: place for place, name in enumerate(names)})
    return kept.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def _written(records: Mapping[str, Records]) -> list[Path]:
    return [part.path for part in records.values() if part.rows]


def _pictures(records: Mapping[str, Records], folder: Path) -> list[Path]:
    """Draw all rows there are, a figure for each device."""
    from benchmarks.speed.picture import draw
    from kanlens.plotting.style import save

    frames = [records[part].frame() for part in PARTS]
    found = []
    for device in dict.fromkeys(str(name) for frame in frames for name in frame["device"]):
        path = folder / PICTURE if device == "cpu" else folder / f"speed-{device}.png"
        save(draw(*frames, device=device), path)
        found.append(path)
    return found


def devices() -> tuple[str, ...]:
    """Return the devices of this machine.

    Examples
    --------
    >>> devices()[0]
    'cpu'
    """
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
