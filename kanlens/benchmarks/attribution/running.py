"""The whole benchmark: units that are not in the files yet are run, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kanlens.benchmarks.attribution.contest import PLANTED
from kanlens.benchmarks.attribution.part import Part
from kanlens.benchmarks.attribution.promises import PROMISES
from kanlens.benchmarks.attribution.trained import TRAINED
from kanlens.benchmarks.campaign import Campaign, Findings, Setup, chosen

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PARTS", "AttributionBenchmark", "run"]

_ALL = (PROMISES, PLANTED, TRAINED)
PARTS: dict[str, Part] = {part.name: part for part in _ALL}
_CALL = "bench attribution"


@dataclass(frozen=True, kw_only=True, eq=False)
class AttributionBenchmark(Findings):
    """What the parts found; tables by the names of the parts."""

    def summaries(self) -> dict[str, pd.DataFrame]:
        """Return the tables for people, by title."""
        found: dict[str, pd.DataFrame] = {}
        for name, frame in self.tables.items():
            found |= PARTS[name].summary(frame)
        return found


def run(
    setup: Setup,
    folder: Path,
    *,
    parts: Sequence[str] = (),
    jobs: int | None = None,
    fresh: bool = False,
    progress: bool | None = None,
) -> AttributionBenchmark:
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
    AttributionBenchmark

    Raises
    ------
    InvalidValueError
        If there is no such part.
    FileFormatError
        If the folder has files of these names with other columns.
    OutputError
        If the folder cannot be written.
    """
    campaign = Campaign(
        call=_CALL, setup=setup, folder=folder, jobs=jobs, fresh=fresh, progress=progress
    )
    tables: dict[str, pd.DataFrame] = {}
    skipped: dict[str, str] = {}
    files: list[Path] = []
    measured = 0
    for part in chosen(_CALL, "part", PARTS, parts):
        records, count = campaign.run(part, skipped)
        measured += count
        for each in records.values():
            if each.rows:
                tables[part.name] = each.frame()
                files.append(each.path)
    return AttributionBenchmark(
        tables=tables, skipped=skipped, files=tuple(files), measured=measured
    )
