"""What every part of the symbolic benchmark is: units of work that fill one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from kanlens.benchmarks.machine import stamp

if TYPE_CHECKING:
    import pandas as pd

Key: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = list[dict[str, Any]]

STAMP = ("date", "kanlens", "core", "torch", "cpu")  # where and when a row was made


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the user chose.

    Attributes
    ----------
    seeds : int
        Number of repetitions.
    data : Path, optional
        Folder of the data; what needs it is left out without it.
    smoke : bool
        Everything tiny, to see that it runs; the numbers mean nothing.
    """

    seeds: int = 5
    data: Path | None = None
    smoke: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The units of a part, and what is left out.

    Attributes
    ----------
    keys : tuple of tuple
        One key per unit of work.
    skipped : dict of str to str
        What is left out, and why.
    """

    keys: tuple[Key, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One question and how it is answered.

    Attributes
    ----------
    name, question : str
        Its name on the command line, and what it asks. Its table is ``symbolic-<name>.csv``.
    columns : sequence of str
        Columns of the table.
    keys : tuple of str
        The columns that name a unit.
    text : tuple of str
        Columns that hold text even where it looks like a number.
    plan : callable
        From a `Setup` to a `Plan`.
    run : callable
        From a `Setup` and a key to the rows of the unit.
    summary : callable
        From the whole table to tables for people, by title.
    alone : bool
        Whether it measures time and must not share the machine with other units.
    """

    name: str
    question: str
    columns: Sequence[str]
    keys: tuple[str, ...]
    plan: Callable[[Setup], Plan]
    run: Callable[[Setup, Key], Rows]
    summary: Callable[[pd.DataFrame], Mapping[str, pd.DataFrame]]
    text: tuple[str, ...] = ()
    alone: bool = False


def marks() -> dict[str, Any]:
    """Return the columns of `STAMP` for this machine.

    Examples
    --------
    >>> tuple(marks()) == STAMP
    True
    """
    everything = stamp()
    return {name: everything[name] for name in STAMP}
