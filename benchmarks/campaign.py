"""A benchmark in parts: units of work, run a few at a time, that are stored as they are done.

A part asks one question. Its units fill one or more tables; what the tables hold already is not
run again, so that an interrupted campaign goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from benchmarks.machine import stamp
from benchmarks.records import Records
from kanlens.checks import check_choice, check_count
from kanlens.interruption import interrupts_pass
from kanlens.outputs import check_writable
from kanlens.progress import progress_bar
from kanlens.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

Key: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = list[dict[str, Any]]
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
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    data: Path | None = None
    smoke: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The units of a part, and what is left out.

    Attributes
    ----------
    keys : tuple of tuple
        One key per unit of work.
    skipped : mapping of str to str
        What is left out, and why.
    """

    keys: tuple[Key, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Part(ABC):
    """One question and how it is answered.

    Attributes
    ----------
    name, question : str
        Its name on the command line, and what it asks.
    keys : tuple of str
        The columns that name a unit, in all tables.
    plan : callable
        From a `Setup` to a `Plan`.
    text : tuple of str
        Columns that hold text even where it looks like a number.
    alone : bool
        Whether it measures time and must not share the machine with other units.
    """

    name: str
    question: str
    keys: tuple[str, ...]
    plan: Callable[[Setup], Plan]
    text: tuple[str, ...] = ()
    alone: bool = False

    @property
    @abstractmethod
    def tables(self) -> Mapping[str, Sequence[str]]:
        """Columns of each table, by the name of its file without suffix.

        The first table is stored last, so that a unit which is in it is whole.
        """

    @abstractmethod
    def rows(self, setup: Setup, key: Key) -> Tables:
        """Run a unit and return its rows of each table."""


P = TypeVar("P", bound=Part)


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings(ABC):
    """What the parts found.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Rows of the parts that were asked for, by name.
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

    @abstractmethod
    def summaries(self) -> dict[str, pd.DataFrame]:
        """Return the tables for people, by title."""

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


def chosen(call: str, what: str, parts: Mapping[str, P], names: Sequence[str]) -> list[P]:
    """Return the parts of these names; all of them when there are no names.

    Raises
    ------
    InvalidValueError
        If there is no such part.
    """
    for name in names:
        check_choice(call, what, name, parts)
    return [parts[name] for name in names or parts]


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """Parts that are run one after the other into one folder.

    Attributes
    ----------
    call : str
        The command, for the words of errors.
    setup : Setup
        Seeds, data, size.
    folder : Path
        Where the files are; an interrupted run goes on from them.
    jobs : int, optional
        Units run at a time, each in a process with one thread. Default: one per processor. Units
        that measure time run alone.
    fresh : bool
        Run again what is in the files.
    progress : bool, optional
        False for no bar. Default: a bar where stderr is a terminal.
    """

    call: str
    setup: Setup
    folder: Path
    jobs: int | None = None
    fresh: bool = False
    progress: bool | None = None

    def run(self, part: Part, skipped: dict[str, str]) -> tuple[dict[str, Records], int]:
        """Run what is missing of a part and store it unit by unit.

        Parameters
        ----------
        part : Part
        skipped : dict of str to str
            Gets what is left out, and why.

        Returns
        -------
        tuple
            The records of each table, and how many units were run.

        Raises
        ------
        InvalidValueError
            If the number of jobs or of seeds is none.
        FileFormatError
            If the folder has files of these names with other columns.
        OutputError
            If the folder cannot be written.
        """
        if self.jobs is not None:
            check_count(self.call, "jobs", self.jobs)
        check_count(self.call, "seeds", len(self.setup.seeds))
        records = self._records(part)
        plan = part.plan(self.setup)
        skipped |= {f"{part.name}: {what}": why for what, why in plan.skipped.items()}
        keys = [key for key in plan.keys if not next(iter(records.values())).of(key)]
        at_a_time = 1 if part.alone or self.setup.smoke else self.jobs or processors()
        bar = progress_bar(part.name, len(keys), shown=self.progress)
        with bar as advance, interrupts_pass():  # what an interrupt cuts short is no measurement
            for key, tables in units(part, self.setup, keys, at_a_time):
                for name in reversed(list(records)):  # the first last: see `Part.tables`
                    records[name].store(key, tables[name])
                advance(note=" ".join(str(each) for each in key))
        return records, len(keys)

    def _records(self, part: Part) -> dict[str, Records]:
        found = {}
        for table, columns in part.tables.items():
            path = self.folder / f"{table}.csv"
            check_writable(path, call=self.call)
            found[table] = Records(path, columns, group=part.keys, text=part.text, fresh=self.fresh)
        return found


def units(part: Part, setup: Setup, keys: Sequence[Key], jobs: int) -> Iterator[tuple[Key, Tables]]:
    """Run units as they come, and hand over each when it is done."""
    if jobs == 1 or len(keys) < 2:
        for key in keys:
            yield key, part.rows(setup, key)
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        max_workers=min(jobs, len(keys)),
        mp_context=context,
        initializer=signal.signal,  # an interrupt ends the processes of the pool without a word
        initargs=(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        waiting: dict[Future[Tables], Key] = {
            pool.submit(run_unit, part, setup, key): key for key in keys
        }
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def run_unit(part: Part, setup: Setup, key: Key) -> Tables:
    """Run one unit of a part with one thread; what a process of the pool does."""
    with one_thread():
        return part.rows(setup, key)


def processors() -> int:
    """Return the number of processors this process may use.

    Examples
    --------
    >>> processors() >= 1
    True
    """
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def marks(columns: Sequence[str]) -> dict[str, Any]:
    """Return where and when a row was made, in some of the columns of `machine.stamp`.

    Examples
    --------
    >>> list(marks(("date", "cpu")))
    ['date', 'cpu']
    """
    everything = stamp()
    return {name: everything[name] for name in columns}


def data_beside_checkout() -> Path | None:
    """Return the folder of the data when it lies beside a checkout of kanlens, else None."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None
