"""What every part of the attribution benchmark is: units of work that fill one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kanlens.benchmarks import campaign
from kanlens.benchmarks.campaign import Key, Plan, Rows, Setup, Tables
from kanlens.benchmarks.packages import version_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STAMP", "Key", "Part", "Plan", "Rows", "Setup", "marks"]

_MACHINE = ("date", "kanlens", "core", "torch", "cpu")
STAMP = (*_MACHINE, "captum")  # where and when a row was made


@dataclass(frozen=True, kw_only=True)
class Part(campaign.Part):
    """One question, answered by one table, ``attribution-<name>.csv``.

    Attributes
    ----------
    columns : sequence of str
        Columns of the table.
    run : callable
        From a `Setup` and a key to the rows of the unit.
    summary : callable
        From the whole table to tables for people, by title.
    """

    columns: Sequence[str]
    run: Callable[[Setup, Key], Rows]
    summary: Callable[[pd.DataFrame], Mapping[str, pd.DataFrame]]

    @property
    def file(self) -> str:
        """Name of the table's file, without suffix."""
        return f"attribution-{self.name}"

    @property
    def tables(self) -> Mapping[str, Sequence[str]]:
        """Columns of the table, by the name of its file without suffix."""
        return {self.file: self.columns}

    def rows(self, setup: Setup, key: Key) -> Tables:
        """Run a unit and return its rows."""
        return {self.file: self.run(setup, key)}


def marks() -> dict[str, Any]:
    """Return the columns of `STAMP` for this machine.

    Examples
    --------
    >>> tuple(marks()) == STAMP
    True
    """
    return {**campaign.marks(_MACHINE), "captum": version_of("captum")}
