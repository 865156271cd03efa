"""The whole benchmark: units that are not in the files yet are run, a few at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kanlens.benchmarks.records import Records
from kanlens.benchmarks.sparsity.budgets import BUDGETS
from kanlens.benchmarks.sparsity.costs import COSTS
from kanlens.benchmarks.sparsity.damage import DAMAGE
from kanlens.benchmarks.sparsity.digits import DIGITS
from kanlens.benchmarks.sparsity.experiment import STAMP, Experiment, Key, Setup, Tables
from kanlens.benchmarks.sparsity.grids import GRIDS
from kanlens.benchmarks.sparsity.penalties import PENALTIES
from kanlens.benchmarks.sparsity.scaler import SCALER
from kanlens.benchmarks.sparsity.starts import STARTS
from kanlens.checks import check_choice, check_count
from kanlens.files import check_writable
from kanlens.progress import progress_bar
from kanlens.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXPERIMENTS", "SparsityResult", "read_tables", "run"]

_ALL = (PENALTIES, COSTS, SCALER, STARTS, DIGITS, GRIDS, DAMAGE, BUDGETS)
EXPERIMENTS: dict[str, Experiment] = {each.name: each for each in _ALL}
TEXT = (
    *STAMP,
    "problem",
    "penalty",
    "tuned",
    "optimizer",
    "scale",
    "start",
    "recipe",
    "score",
    "arm",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SparsityResult:
    """What the experiments found.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Rows of the experiments that were asked for, by the name of their file.
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

    def to_frame(self) -> pd.DataFrame:
        """Return the summaries below each other: table, and what it says."""
        import pandas as pd

        from kanlens.benchmarks.sparsity.summaries import summaries

        found = [frame.assign(table=title) for title, frame in summaries(self.tables).items()]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists and dictionaries."""
        from kanlens.benchmarks.sparsity.summaries import summaries

        return {
            "tables": {name: _plain(frame) for name, frame in self.tables.items()},
            "summaries": {t: _plain(frame) for t, frame in summaries(self.tables).items()},
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
    experiments: Sequence[str] = (),
    jobs: int | None = None,
    fresh: bool = False,
    picture: bool = True,
    progress: bool | None = None,
) -> SparsityResult:
    """Run what is missing, store it unit by unit, and draw what there is.

    Parameters
    ----------
    setup : Setup
        Seeds, data, size.
    folder : Path
        Where the files are; an interrupted run goes on from them.
    experiments : sequence of str
        Names of ``EXPERIMENTS``; empty for all.
    jobs : int, optional
        Units run at a time, each in a process with one thread. Default: one per processor. Units
        that measure time run alone.
    fresh : bool
        Run again what is in the files.
    picture : bool
        Draw the figures beside the files.
    progress : bool, optional
        False for no bar. Default: a bar where stderr is a terminal.

    Returns
    -------
    SparsityResult

    Raises
    ------
    InvalidValueError
        If there is no such experiment.
    FileFormatError
        If the folder has files of these names with other columns.
    OutputError
        If the folder cannot be written.
    """
    for name in experiments:
        check_choice("bench sparsity", "experiment", name, EXPERIMENTS)
    if jobs is not None:
        check_count("bench sparsity", "jobs", jobs)
    chosen = [EXPERIMENTS[name] for name in experiments or EXPERIMENTS]
    skipped: dict[str, str] = {}
    files: list[Path] = []
    measured = 0
    for experiment in chosen:
        records = _records(experiment, folder, fresh)
        plan = experiment.plan(setup)
        skipped |= {f"{experiment.name}: {what}": why for what, why in plan.skipped.items()}
        keys = [key for key in plan.keys if not next(iter(records.values())).of(key)]
        at_a_time = 1 if experiment.alone or setup.smoke else jobs or processors()
        with progress_bar(experiment.name, len(keys), shown=progress) as advance:
            for key, tables in _units(experiment, setup, keys, at_a_time):
                _store(records, key, tables)
                advance(note=" ".join(str(part) for part in key))
        measured += len(keys)
        files += [each.path for each in records.values() if each.rows]
    names = [table for experiment in chosen for table in experiment.columns]
    tables = {name: frame for name, frame in read_tables(folder).items() if name in names}
    files += _pictures(folder, tables) if picture else []
    return SparsityResult(tables=tables, skipped=skipped, files=tuple(files), measured=measured)


def processors() -> int:
    """Return the number of processors this process may use.

    Examples
    --------
    >>> processors() >= 1
    True
    """
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _records(experiment: Experiment, folder: Path, fresh: bool) -> dict[str, Records]:
    found = {}
    for table, columns in experiment.columns.items():
        path = folder / f"{table}.csv"
        check_writable(path, call="bench sparsity")
        found[table] = Records(path, columns, group=experiment.keys, text=TEXT, fresh=fresh)
    return found


def _store(records: dict[str, Records], key: Key, tables: Tables) -> None:
    """Store a unit; the first table comes last, so that a unit that is in it is whole."""
    for name in reversed(list(records)):
        records[name].store(key, tables[name])


def _units(
    experiment: Experiment, setup: Setup, keys: Sequence[Key], jobs: int
) -> Iterator[tuple[Key, Tables]]:
    """Run units as they come, and hand over each when it is done."""
    if jobs == 1 or len(keys) < 2:
        for key in keys:
            yield key, experiment.run(setup, key)
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max_workers=min(jobs, len(keys)), mp_context=context)
    try:
        waiting: dict[Future[Tables], Key] = {
            pool.submit(run_unit, experiment.name, setup, key): key for key in keys
        }
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def run_unit(name: str, setup: Setup, key: Key) -> Tables:
    """Run one unit of an experiment with one thread; what a process of the pool does."""
    with one_thread():
        return EXPERIMENTS[name].run(setup, key)


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables of all experiments that a folder holds, by name.

    Examples
    --------
    >>> read_tables(Path("no-such-folder"))
    {}
    """
    import pandas as pd

    names = [table for experiment in EXPERIMENTS.values() for table in experiment.columns]
    paths = {name: folder / f"{name}.csv" for name in names}
    return {
        name: pd.read_csv(path, keep_default_na=False, na_values=[""])
        for name, path in paths.items()
        if path.exists()
    }


def _pictures(folder: Path, tables: dict[str, pd.DataFrame]) -> list[Path]:
    from kanlens.benchmarks.sparsity.pictures import PICTURES
    from kanlens.plotting.style import save

    found = []
    for name, picture in PICTURES.items():
        if set(picture.needs) <= set(tables):
            path = folder / f"{name}.png"
            save(picture.draw({need: tables[need] for need in picture.needs}), path)
            found.append(path)
    return found
