"""A benchmark whose parts fill one table each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.campaign import (
    Campaign,
    Findings,
    Key,
    Part,
    Rows,
    Setup,
    Tables,
    chosen,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class TablePart(Part):
    """One question, answered by one table, ``<area>-<name>.csv``.

    Attributes
    ----------
    area : str
        The benchmark it belongs to.
    columns : sequence of str
        Columns of the table.
    run : callable
        From a `Setup` and a key to the rows of the unit.
    summary : callable
        From the whole table to tables for people, by title.
    """

    area: str
    columns: Sequence[str]
    run: Callable[[Setup, Key], Rows]
    summary: Callable[[pd.DataFrame], Mapping[str, pd.DataFrame]]

    @property
    def file(self) -> str:
        """Name of the table's file, without suffix."""
        return f"{self.area}-{self.name}"

    @property
    def tables(self) -> Mapping[str, Sequence[str]]:
        """Columns of the table, by the name of its file without suffix."""
        return {self.file: self.columns}

    def rows(self, setup: Setup, key: Key) -> Tables:
        """Run a unit and return its rows."""
        return {self.file: self.run(setup, key)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey(Findings):
    """What the parts found; tables by the names of the parts.

    Attributes
    ----------
    parts : mapping of str to TablePart
        All parts of the benchmark, by name.
    """

    parts: Mapping[str, TablePart]

    def summaries(self) -> dict[str, pd.DataFrame]:
        """Return the tables for people, by title."""
        found: dict[str, pd.DataFrame] = {}
        for name, frame in self.tables.items():
            found |= self.parts[name].summary(frame)
        return found


def survey(campaign: Campaign, parts: Mapping[str, TablePart], names: Sequence[str]) -> Survey:
    """Run what is missing of some parts and store it unit by unit.

    Parameters
    ----------
    campaign : Campaign
        Where to, and how.
    parts : mapping of str to TablePart
        All parts there are.
    names : sequence of str
        Keys into `parts`; empty for all.

    Returns
    -------
    Survey

    Raises
    ------
    InvalidValueError
        If there is no such part.
    FileFormatError
        If the folder has files of these names with other columns.
    OutputError
        If the folder cannot be written.
    """
    tables: dict[str, pd.DataFrame] = {}
    skipped: dict[str, str] = {}
    files: list[Path] = []
    measured = 0
    for part in chosen(campaign.call, "part", parts, names):
        records, count = campaign.run(part, skipped)
        measured += count
        for each in records.values():
            if each.rows:
                tables[part.name] = each.frame()
                files.append(each.path)
    return Survey(
        tables=tables, skipped=skipped, files=tuple(files), measured=measured, parts=parts
    )
