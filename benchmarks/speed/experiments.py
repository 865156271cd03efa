"""The experiments on the speed and the memory of one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.harness import Benchmark, Experiment, Key, Rows, Setup, Units
from benchmarks.interleaved_timing import Schedule
from benchmarks.machine import stamp, version_of
from benchmarks.speed import cells as known
from benchmarks.speed import memory, timing
from benchmarks.speed.cells import Cell, place_on
from benchmarks.speed.instruction_sets import AS, ENVIRONMENTS, time_elsewhere
from benchmarks.speed.peers import chosen
from benchmarks.speed.pictures import PICTURES
from benchmarks.speed.subject import Peer
from benchmarks.speed.tables import memory_tables, scaling_tables, timing_tables
from kanlens._checks import check_choice, check_count, check_positive
from kanlens._resources import available_memory

NATIVE = "native"
PASSING = ("date", "load")  # of a stamp: what may differ between rows that belong together
SCALING_SHARE = 0.3  # of the rounds' seconds, for a point on a curve


@dataclass(frozen=True, kw_only=True)
class SpeedSetup(Setup):
    """Which layers are measured, on which devices, and for how long.

    `cells` are words of their names, or whole names of others; curves are drawn only when it is
    empty, for all. `peers` are keys of ``PEERS``, empty for all. One cell has at most `rounds`, for
    `seconds`. A peer expected to need more GiB than the `memory_limit` (half of what is free when
    None) is not run. `devices` are "cpu" and "cuda", those there are when None; `isa` are of
    "native" and ``ENVIRONMENTS``. The `seed` draws the numbers and the order of turns.
    """

    cells: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    rounds: int = 30
    seconds: float = 10.0
    memory_limit: float | None = None
    devices: tuple[str, ...] | None = None
    isa: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        super().__post_init__()
        for device in self.devices or ():
            check_choice("benchmarks speed", "device", device, devices())
        for name in self.isa:
            check_choice("benchmarks speed", "isa", name, [NATIVE, *ENVIRONMENTS])
        check_count("benchmarks speed", "rounds", self.rounds)
        check_positive("benchmarks speed", "seconds", self.seconds)
        if self.memory_limit is not None:
            check_positive("benchmarks speed", "memory_limit", self.memory_limit)
        chosen(self.peers)
        known.check_cells(tuple(dict.fromkeys(self.timed() + self.weighed())), self.cells)

    def timed(self) -> tuple[Cell, ...]:
        """Return the cells that are timed, unless some were chosen."""
        return known.SMOKE_CELLS if self.smoke else known.CELLS

    def weighed(self) -> tuple[Cell, ...]:
        """Return the cells whose memory is measured, unless some were chosen."""
        return known.SMOKE_MEMORY_CELLS if self.smoke else known.MEMORY_CELLS

    def curves(self) -> Mapping[str, Sequence[Cell]]:
        """Return the curves that are measured."""
        if self.cells:
            return {}
        return known.SMOKE_CURVES if self.smoke else known.CURVES

    def plan(self, cells: Sequence[Cell]) -> Units:
        """Return the chosen ones of some cells on every device, as units."""
        on = self.on()
        keys = [(device, cell.name) for device in on for cell in known.select(cells, self.cells)]
        return Units(keys=tuple(keys), whole=not self.cells)

    def on(self) -> tuple[str, ...]:
        """Return the devices, the processor once for each of its instruction sets."""
        isa = [device for device in self.devices or devices() if device == "cpu"] and self.isa
        others = [f"cpu{AS}{name}" for name in isa if name != NATIVE]
        native = [d for d in self.devices or devices() if not (d == "cpu" and isa) or NATIVE in isa]
        return (*native, *others)

    def taking_part(self, device: str) -> tuple[Peer, ...]:
        """Return the peers on a device."""
        kind = device.partition(AS)[0]
        return tuple(p for p in chosen(self.peers) if kind in p.devices)

    def settings(self, *, scaling: bool = False) -> timing.Settings:
        """Return how cells are timed."""
        schedule = Schedule(rounds=self.rounds, seconds=self.seconds)
        if self.smoke:
            schedule = Schedule(rounds=2, least=2, seconds=0.5, turn=0.001)
        elif scaling:
            schedule = replace(schedule, least=3, seconds=SCALING_SHARE * self.seconds)
        limit = self.memory_limit
        return timing.Settings(
            schedule=schedule,
            passes=(timing.BOTH,) if scaling else timing.PASSES,
            memory_limit=(available_memory() or 2**32) / 2 if limit is None else limit * 2**30,
            seed=self.seed,
        )


def points(curves: Mapping[str, Sequence[Cell]]) -> tuple[Cell, ...]:
    """Return every cell that lies on a curve, once."""
    return tuple(dict.fromkeys(cell for cells in curves.values() for cell in cells))


def on_curves(
    cell: Cell, rows: Sequence[Mapping[str, Any]], curves: Mapping[str, Sequence[Cell]]
) -> list[dict[str, Any]]:
    """Return the rows of a cell once for each curve it lies on, with its place there."""
    return [
        {"curve": curve, "place": place_on(curve, cell), **row}
        for curve, cells in curves.items()
        if cell in cells
        for row in rows
    ]


def _plan_timing(setup: SpeedSetup) -> Units:
    return setup.plan(setup.timed())


def _plan_memory(setup: SpeedSetup) -> Units:
    return replace(setup, isa=()).plan(setup.weighed())  # which vectors do not change


def _plan_scaling(setup: SpeedSetup) -> Units:
    curves = setup.curves()
    return setup.plan(points(curves)) if curves else Units(keys=(), whole=False)


def _run_timing(setup: SpeedSetup, key: Key, *, scaling: bool = False) -> Rows:
    device, (cell,) = key[0], known.named(key[1])
    peers, settings = setup.taking_part(device), setup.settings(scaling=scaling)
    _, _, instructions = device.partition(AS)
    if instructions:
        names = [peer.name for peer in peers]
        return time_elsewhere(cell, names, settings, instructions=instructions)
    return timing.time_cell(cell, peers, settings, device=device)


def _run_memory(setup: SpeedSetup, key: Key) -> Rows:
    device, (cell,) = key[0], known.named(key[1])
    return memory.measure_memory(cell, setup.taking_part(device), setup.settings(), device=device)


def _run_scaling(setup: SpeedSetup, key: Key) -> Rows:
    (cell,) = known.named(key[1])
    return on_curves(cell, _run_timing(setup, key, scaling=True), setup.curves())


def _current(setup: SpeedSetup, key: Key, rows: Rows) -> bool:
    own = [{**row, "isa": None} for row in rows] if AS in key[0] else rows
    return finished(own, setup.taking_part(key[0]))


def finished(rows: Sequence[Mapping[str, Any]], peers: Sequence[Peer]) -> bool:
    """Return whether rows of a cell hold every peer as it would be measured now."""
    now = {name: value for name, value in stamp().items() if name not in PASSING}
    for peer in peers:
        installed = version_of(peer.distribution) if peer.distribution else ""
        own = [row for row in rows if row["peer"] == peer.name]
        if not own or any(str(row["version"] or "") != installed for row in own):
            return False
    return all((row[name] or value) == value for row in rows for name, value in now.items())


def devices() -> tuple[str, ...]:
    """Return the devices of this machine."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


_SHARED: dict[str, Any] = {
    "keys": ("device", "cell"),
    "text": ("version", "note"),
    "alone": True,
    "current": _current,
}

TIMING = Experiment(
    name="timing",
    question="How long does one layer take, forward and backward?",
    tables={"speed": timing.COLUMNS},
    plan=_plan_timing,
    run=_run_timing,
    summary=timing_tables,
    **_SHARED,
)
MEMORY = Experiment(
    name="memory",
    question="How much memory does one layer take, forward and backward?",
    tables={"speed-memory": memory.COLUMNS},
    plan=_plan_memory,
    run=_run_memory,
    summary=memory_tables,
    **_SHARED,
)
SCALING = Experiment(
    name="scaling",
    question="How does the time grow with the batch, the width and the grid?",
    tables={"speed-scaling": ("curve", "place", *timing.COLUMNS)},
    plan=_plan_scaling,
    run=_run_scaling,
    summary=scaling_tables,
    **_SHARED,
)
SPEED = Benchmark(
    name="speed",
    experiments=(TIMING, MEMORY, SCALING),
    pictures=PICTURES,
    setup=SpeedSetup,
)
