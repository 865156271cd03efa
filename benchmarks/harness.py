"""One harness for all benchmarks: units of work that are stored as they are done.

A benchmark is a few experiments, and an experiment asks one question. Its units fill one or more
tables, each a CSV file that is always whole; what the files hold already is not run again, so that
an interrupted run goes on where it stopped. Every row says when and on what it was made.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.machine import STAMP, stamp
from benchmarks.records import Key, Records, Rows
from kanlens.atomic_files import check_writable
from kanlens.checks import check_choice, check_count
from kanlens.distributed.tasks import completed, workers_for
from kanlens.long_work import interrupts_pass, progress_bar
from kanlens.resources import one_thread

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.drawing import Picture

__all__ = [
    "Benchmark",
    "Experiment",
    "Findings",
    "Key",
    "Rows",
    "Setup",
    "Tables",
    "Units",
    "measure",
    "processors",
    "units",
]

Tables: TypeAlias = dict[str, Rows]  # rows by table


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the user chose.

    Attributes
    ----------
    seeds : tuple of int
        Seeds of the repetitions.
    data : Path, optional
        Folder of the data; what needs it is left out without it.
    smoke : bool
        Everything tiny, to see that it runs; the numbers mean nothing.

    Raises
    ------
    InvalidValueError
        If there is no seed.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    data: Path | None = None
    smoke: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        check_count("benchmarks", "seeds", len(self.seeds))


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of an experiment, and what is left out.

    Attributes
    ----------
    keys : tuple of tuple
        One key per unit of work.
    skipped : mapping of str to str
        What is left out, and why.
    whole : bool
        Whether these are all units; otherwise others that a file holds are left alone.
    """

    keys: tuple[Key, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True


def stored(setup: Setup, key: Key, rows: Rows) -> bool:
    """Tell whether there are rows.

    Examples
    --------
    >>> stored(Setup(), (1,), [])
    False
    """
    return bool(rows)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One question and how it is answered.

    Attributes
    ----------
    name, question : str
        Its name on the command line, and what it asks.
    keys : tuple of str
        The columns that name a unit, in all tables.
    tables : mapping of str to sequence of str
        The other columns of each table, by the name of its file without suffix. The first table
        is stored last, so that a unit which is in it is whole.
    plan : callable
        From a `Setup` to `Units`.
    run : callable
        From a `Setup` and a key to the rows of the first table, or to those of each by name.
    summary : callable
        From the first table to tables for people, by title.
    text : tuple of str
        Columns that hold text even where it looks like a number.
    alone : bool
        Whether it measures time and must not share the machine with other units.
    current : callable
        From a `Setup`, a key and the stored rows of a unit to whether they still count.
    """

    name: str
    question: str
    keys: tuple[str, ...]
    tables: Mapping[str, Sequence[str]]
    plan: Callable[[Any], Units]
    run: Callable[[Any, Key], Rows | Tables]
    summary: Callable[[pd.DataFrame], Mapping[str, pd.DataFrame]]
    text: tuple[str, ...] = ()
    alone: bool = False
    current: Callable[[Any, Key, Rows], bool] = stored

    def columns(self, table: str) -> tuple[str, ...]:
        """Return all columns of a table: the key, its own, and the stamp."""
        return tuple(dict.fromkeys((*self.keys, *self.tables[table], *STAMP)))

    def rows(self, setup: Setup, key: Key) -> Tables:
        """Run a unit and return its rows of each table, with its key and the stamp."""
        found = self.run(setup, key)
        tables = found if isinstance(found, dict) else {next(iter(self.tables)): found}
        known = {**stamp(), **dict(zip(self.keys, key, strict=True))}
        return {name: [{**known, **row} for row in rows] for name, rows in tables.items()}

    def records(self, folder: Path, *, fresh: bool = False) -> dict[str, Records]:
        """Return what a folder holds of each table."""
        found = {}
        for name in self.tables:
            path = folder / f"{name}.csv"
            check_writable(path, call="benchmarks")
            columns = self.columns(name)
            found[name] = Records(path, columns, group=self.keys, text=self.text, fresh=fresh)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What experiments found.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Rows of the experiments that were asked for, by the names of their files.
    summaries : dict of str to DataFrame
        Tables for people, by title.
    skipped : dict of str to str
        What was left out, and why.
    files : list of Path
        What was written, now or before.
    measured : int
        Number of units run now; the others were in the files.
    """

    tables: dict[str, pd.DataFrame]
    summaries: dict[str, pd.DataFrame]
    skipped: dict[str, str]
    files: list[Path]
    measured: int

    def to_frame(self) -> pd.DataFrame:
        """Return the summaries below each other: table, and what it says."""
        import pandas as pd

        found = [frame.assign(table=title) for title, frame in self.summaries.items()]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and dictionaries."""
        return {
            "tables": {name: _plain(frame) for name, frame in self.tables.items()},
            "summaries": {title: _plain(frame) for title, frame in self.summaries.items()},
            "skipped": self.skipped,
            "files": [str(path) for path in self.files],
            "measured": self.measured,
        }

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)


def _plain(frame: pd.DataFrame) -> Rows:
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """Experiments that are run one after the other into one folder, and drawn.

    Attributes
    ----------
    name : str
        On the command line.
    experiments : tuple of Experiment
    pictures : mapping of str to Picture
        By the name of the file without suffix.
    setup : type
        What its experiments take: `Setup`, or a kind of it.
    """

    name: str
    experiments: tuple[Experiment, ...]
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    setup: type[Setup] = Setup

    def run(
        self,
        setup: Setup,
        folder: Path,
        *,
        parts: Sequence[str] = (),
        jobs: int | str | None = None,
        fresh: bool = False,
        picture: bool = True,
        progress: bool | None = None,
    ) -> Findings:
        """Run what is missing, store it unit by unit, and draw what there is.

        Parameters
        ----------
        setup : Setup
            Seeds, data, size.
        folder : Path
            Where the files are; an interrupted run goes on from them.
        parts : sequence of str
            Names of experiments; empty for all.
        jobs : int or str, optional
            Units run at a time, each in a process with one thread. Default: one per processor.
            Units that measure time run alone. An address of a Dask scheduler: its workers run all
            units, and times are theirs.
        fresh : bool
            Run again what is in the files.
        picture : bool
            Draw the figures beside the files.
        progress : bool, optional
            False for no bar. Default: a bar where stderr is a terminal.

        Raises
        ------
        InvalidValueError
            If there is no such experiment, or the number of jobs is none.
        FileFormatError
            If the folder has files of these names with other columns.
        OutputError
            If the folder cannot be written.
        """
        call, known = f"benchmarks {self.name}", {each.name: each for each in self.experiments}
        for name in parts:
            check_choice(call, "parts", name, known)
        if isinstance(jobs, int):
            check_count(call, "jobs", jobs)
        tables: dict[str, pd.DataFrame] = {}
        summaries: dict[str, pd.DataFrame] = {}
        skipped: dict[str, str] = {}
        measured = 0
        for experiment in (known[name] for name in parts or known):
            plan = experiment.plan(setup)
            records = experiment.records(folder, fresh=fresh and plan.whole)
            first = next(iter(records))
            keys = [
                key
                for key in plan.keys
                if fresh or not experiment.current(setup, key, records[first].of(key))
            ]
            measure(experiment, setup, keys, records, jobs=jobs, progress=progress)
            measured += len(keys)
            skipped |= {f"{experiment.name}: {what}": why for what, why in plan.skipped.items()}
            tables |= {name: each.frame(plan) for name, each in records.items() if each.rows}
            if first in tables:
                summaries |= experiment.summary(tables[first])
        files = [folder / f"{name}.csv" for name in tables]
        files += _drawn(self.pictures, tables, folder) if picture else []
        return Findings(
            tables=tables, summaries=summaries, skipped=skipped, files=files, measured=measured
        )


def measure(
    experiment: Experiment,
    setup: Setup,
    keys: Sequence[Key],
    records: Mapping[str, Records],
    *,
    jobs: int | str | None = None,
    progress: bool | None = None,
) -> None:
    """Run units, and store each when it is done: in the first table last."""
    bar = progress_bar(experiment.name, len(keys), shown=progress)
    with bar as advance, interrupts_pass():  # what an interrupt cuts short is no measurement
        for key, tables in units(experiment, setup, keys, jobs):
            for name in reversed(list(records)):
                records[name].store(key, tables[name])
            advance(note=" ".join(str(each) for each in key))


def units(
    experiment: Experiment, setup: Setup, keys: Sequence[Key], jobs: int | str | None = None
) -> Iterator[tuple[Key, Tables]]:
    """Run units as they come, and hand over each when it is done."""
    if isinstance(jobs, str):
        with workers_for("benchmarks", jobs) as client:
            yield from completed(client, "benchmarks", run_shared, (experiment, setup), keys)
        return
    jobs = 1 if experiment.alone or setup.smoke else jobs or processors()
    if jobs == 1 or len(keys) < 2:
        for key in keys:
            yield key, experiment.rows(setup, key)
        return
    import multiprocessing

    pool = ProcessPoolExecutor(
        max_workers=min(jobs, len(keys)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,  # an interrupt ends the processes of the pool without a word
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        waiting: dict[Future[Tables], Key] = {
            pool.submit(run_unit, experiment, setup, key): key for key in keys
        }
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def run_unit(experiment: Experiment, setup: Setup, key: Key) -> Tables:
    """Run one unit with one thread; what a process of the pool does."""
    with one_thread():
        return experiment.rows(setup, key)


def run_shared(job: tuple[Experiment, Setup], key: Key) -> Tables:
    """Run one unit; what a worker of Dask does."""
    return run_unit(*job, key)


def processors() -> int:
    """Return the number of processors this process may use.

    Examples
    --------
    >>> processors() >= 1
    True
    """
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _drawn(
    pictures: Mapping[str, Picture], tables: Mapping[str, pd.DataFrame], folder: Path
) -> list[Path]:
    """Draw the pictures whose tables are there."""
    from kanlens.plotting.style import save

    found = []
    for name, picture in pictures.items():
        if set(picture.needs) <= set(tables) and picture.applies(tables):
            path = folder / f"{name}.png"
            save(picture.draw(tables), path)
            found.append(path)
    return found
