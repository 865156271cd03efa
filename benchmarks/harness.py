"""One harness for all benchmarks: units of work that are stored as they are done.

A benchmark is a few experiments, and an experiment asks one question. Its units fill one or more
tables, each a CSV file that is always whole; stored units are not run again, so that an interrupted
run goes on where it stopped. Every row holds the date, the machine and the versions.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.machine import STAMP, stamp
from benchmarks.records import Key as Key
from benchmarks.records import Records
from benchmarks.records import Rows as Rows
from kanlens._atomic_files import check_writable
from kanlens._checks import check_choice, check_count
from kanlens._resources import one_thread
from kanlens._runtime import interrupts_pass, progress_bar
from kanlens.distributed._jobs import completed, workers_for

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.drawing import Picture

Tables: TypeAlias = dict[str, Rows]  # rows by table


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Choices of the user: seeds of the repetitions, the folder of the data, and the size.

    Experiments that need data are left out without a folder. The numbers of a smoke run, which is
    tiny, mean nothing.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    data: Path | None = None
    smoke: bool = False

    def __post_init__(self) -> None:
        """Refuse to run nothing."""
        check_count("benchmarks", "seeds", len(self.seeds))


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of an experiment: a key of each, and why others are left out, by name.

    Unless they are `whole`, a file may hold further units, which are left alone.
    """

    keys: tuple[Key, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True


def stored(setup: Setup, key: Key, rows: Rows) -> bool:
    """Return whether there are rows."""
    return bool(rows)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question, and how it is answered.

    Attributes
    ----------
    name, question : str
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
        """Return the rows of each table in a folder."""
        found = {}
        for name in self.tables:
            path = folder / f"{name}.csv"
            check_writable(path, call="benchmarks")
            columns = self.columns(name)
            found[name] = Records(path, columns, group=self.keys, text=self.text, fresh=fresh)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """Results of a run: its tables, their summaries by title, and the files that hold them.

    `skipped` says why something was left out, `measured` how many units were not in the files.
    """

    tables: dict[str, pd.DataFrame]
    summaries: dict[str, pd.DataFrame]
    skipped: dict[str, str]
    files: list[Path]
    measured: int

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and dictionaries."""
        return {
            "tables": {name: _plain(frame) for name, frame in self.tables.items()},
            "summaries": {title: _plain(frame) for title, frame in self.summaries.items()},
            "skipped": self.skipped,
            "files": [str(path) for path in self.files],
            "measured": self.measured,
        }


def _plain(frame: pd.DataFrame) -> Rows:
    plain = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in plain.to_dict("records")]


@dataclass(frozen=True, kw_only=True, eq=False)
class Benchmark:
    """Experiments that are run one after the other into one folder, and their pictures.

    `setup` is the class of setups that the experiments take.
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
        """Run the units that a folder lacks, store each when it is done, and draw the pictures.

        `parts` are names of experiments, empty for all. `jobs` units are run at a time, each in a
        process with one thread; by default one per processor. Units that measure time run alone. An
        address of a Dask scheduler: its workers run all units, and times are theirs. A `fresh` run
        repeats the units that are in the files. A `picture` is drawn beside the files; `progress`
        is False for no bar, which by default is shown where stderr is a terminal.
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
    """Return the number of processors this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _drawn(
    pictures: Mapping[str, Picture], tables: Mapping[str, pd.DataFrame], folder: Path
) -> list[Path]:
    """Draw the pictures whose tables are there."""
    from kanlens.plotting._style import save

    found = []
    for name, picture in pictures.items():
        if set(picture.needs) <= set(tables):
            path = folder / f"{name}.png"
            save(picture.draw(tables), path)
            found.append(path)
    return found
