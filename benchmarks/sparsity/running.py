"""The whole benchmark: units that are not in the files yet are run, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.campaign import Campaign, Findings, Setup, chosen
from benchmarks.sparsity.budgets import BUDGETS
from benchmarks.sparsity.costs import COSTS
from benchmarks.sparsity.damage import DAMAGE
from benchmarks.sparsity.digits import DIGITS
from benchmarks.sparsity.experiment import Experiment
from benchmarks.sparsity.grids import GRIDS
from benchmarks.sparsity.penalties import PENALTIES
from benchmarks.sparsity.scaler import SCALER
from benchmarks.sparsity.starts import STARTS
from benchmarks.sparsity.summaries import summaries

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["EXPERIMENTS", "SparsityResult", "read_tables", "run"]

_ALL = (PENALTIES, COSTS, SCALER, STARTS, DIGITS, GRIDS, DAMAGE, BUDGETS)
EXPERIMENTS: dict[str, Experiment] = {each.name: each for each in _ALL}
_CALL = "benchmarks sparsity"


@dataclass(frozen=True, kw_only=True, eq=False)
class SparsityResult(Findings):
    """What the experiments found; tables by the names of their files."""

    def summaries(self) -> dict[str, pd.DataFrame]:
        """Return the tables for people, by title."""
        return summaries(self.tables)


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
    setup, folder, jobs, fresh, progress
        As for `Campaign`.
    experiments : sequence of str
        Names of ``EXPERIMENTS``; empty for all.
    picture : bool
        Draw the figures beside the files.

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
    parts = chosen(_CALL, "experiment", EXPERIMENTS, experiments)
    campaign = Campaign(
        call=_CALL, setup=setup, folder=folder, jobs=jobs, fresh=fresh, progress=progress
    )
    skipped: dict[str, str] = {}
    files: list[Path] = []
    measured = 0
    for experiment in parts:
        records, count = campaign.run(experiment, skipped)
        measured += count
        files += [each.path for each in records.values() if each.rows]
    names = [table for experiment in parts for table in experiment.columns]
    tables = {name: frame for name, frame in read_tables(folder).items() if name in names}
    files += _pictures(folder, tables) if picture else []
    return SparsityResult(tables=tables, skipped=skipped, files=tuple(files), measured=measured)


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
    from benchmarks.sparsity.pictures import PICTURES
    from kanlens.plotting.style import save

    found = []
    for name, picture in PICTURES.items():
        if set(picture.needs) <= set(tables):
            path = folder / f"{name}.png"
            save(picture.draw({need: tables[need] for need in picture.needs}), path)
            found.append(path)
    return found
