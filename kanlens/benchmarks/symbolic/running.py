"""The whole benchmark: units that are not in the files yet are run, a few at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kanlens.benchmarks.records import Records
from kanlens.benchmarks.sparsity.running import processors
from kanlens.benchmarks.symbolic.identification import IDENTIFICATION
from kanlens.benchmarks.symbolic.part import Key, Part, Rows, Setup
from kanlens.benchmarks.symbolic.recovery import RECOVERY
from kanlens.benchmarks.symbolic.speed import SPEED
from kanlens.checks import check_choice, check_count
from kanlens.files import check_writable
from kanlens.progress import progress_bar
from kanlens.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PARTS", "SymbolicBenchmark", "run"]

PARTS: dict[str, Part] = {part.name: part for part in (SPEED, IDENTIFICATION, RECOVERY)}
_CALL = "bench symbolic"


@dataclass(frozen=True, kw_only=True, eq=False)
class SymbolicBenchmark:
    """What the parts found.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Rows of the parts that were asked for, by the name of the part.
    skipped : dict of str to str
        What was left out, and why.
    files : tuple of Path
        What was written, now or before.
    measured : int
        Number of units run now; the others were in the files.
    """

    tables: dict[str, pd.DataFrame]
    skipped: dict[str, str]
    files: tuple[Path, ...]
    measured: int

    def summaries(self) -> dict[str, pd.DataFrame]:
        """Return the tables for people, by title."""
        found: dict[str, pd.DataFrame] = {}
        for name, frame in self.tables.items():
            found |= PARTS[name].summary(frame)
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return the summaries below each other: table, and what it says."""
        import pandas as pd

        found = [frame.assign(table=title) for title, frame in self.summaries().items()]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and dictionaries."""
        return {
            "tables": {name: _plain(frame) for name, frame in self.tables.items()},
            "summaries": {title: _plain(frame) for title, frame in self.summaries().items()},
            "skipped": dict(self.skipped),
            "files": [str(path) for path in self.files],
            "measured": self.measured,
        }

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)


def _plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


def run(
    setup: Setup,
    folder: Path,
    *,
    parts: Sequence[str] = (),
    jobs: int | None = None,
    fresh: bool = False,
    progress: bool | None = None,
) -> SymbolicBenchmark:
    """Run what is missing and store it unit by unit.

    Parameters
    ----------
    setup : Setup
        Seeds, data, size.
    folder : Path
        Where the files are; an interrupted run goes on from them.
    parts : sequence of str
        Names of ``PARTS``; empty for all.
    jobs : int, optional
        Units run at a time, each in a process with one thread. Default: one per processor. Units
        that measure time run alone.
    fresh : bool
        Run again what is in the files.
    progress : bool, optional
        False for no bar. Default: a bar where stderr is a terminal.

    Returns
    -------
    SymbolicBenchmark

    Raises
    ------
    InvalidValueError
        If there is no such part.
    FileFormatError
        If the folder has files of these names with other columns.
    OutputError
        If the folder cannot be written.
    """
    for name in parts:
        check_choice(_CALL, "part", name, PARTS)
    if jobs is not None:
        check_count(_CALL, "jobs", jobs)
    check_count(_CALL, "seeds", setup.seeds)
    tables: dict[str, pd.DataFrame] = {}
    skipped: dict[str, str] = {}
    files: list[Path] = []
    measured = 0
    for part in [PARTS[name] for name in parts or PARTS]:
        path = folder / f"symbolic-{part.name}.csv"
        check_writable(path, call=_CALL)
        records = Records(path, part.columns, group=part.keys, text=part.text, fresh=fresh)
        plan = part.plan(setup)
        skipped |= {f"{part.name}: {what}": why for what, why in plan.skipped.items()}
        keys = [key for key in plan.keys if not records.of(key)]
        at_a_time = 1 if part.alone or setup.smoke else jobs or processors()
        with progress_bar(part.name, len(keys), shown=progress) as advance:
            for key, rows in _units(part, setup, keys, at_a_time):
                records.store(key, rows)
                advance(note=" ".join(str(each) for each in key))
        measured += len(keys)
        if records.rows:
            tables[part.name] = records.frame()
            files.append(path)
    return SymbolicBenchmark(tables=tables, skipped=skipped, files=tuple(files), measured=measured)


def _units(part: Part, setup: Setup, keys: Sequence[Key], jobs: int) -> Iterator[tuple[Key, Rows]]:
    """Run units as they come, and hand over each when it is done."""
    if jobs == 1 or len(keys) < 2:
        for key in keys:
            yield key, part.run(setup, key)
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max_workers=min(jobs, len(keys)), mp_context=context)
    try:
        waiting: dict[Future[Rows], Key] = {
            pool.submit(run_unit, part.name, setup, key): key for key in keys
        }
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def run_unit(name: str, setup: Setup, key: Key) -> Rows:
    """Run one unit of a part with one thread; what a process of the pool does."""
    with one_thread():
        return PARTS[name].run(setup, key)
