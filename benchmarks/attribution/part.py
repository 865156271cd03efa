"""What every part of the attribution benchmark is: units of work that fill one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks import campaign
from benchmarks.campaign import Key, Plan, Rows, Setup
from benchmarks.packages import version_of
from benchmarks.surveys import TablePart

__all__ = ["STAMP", "Key", "Part", "Plan", "Rows", "Setup", "marks"]

_MACHINE = ("date", "kanlens", "core", "torch", "cpu")
STAMP = (*_MACHINE, "captum")  # where and when a row was made


@dataclass(frozen=True, kw_only=True)
class Part(TablePart):
    """One question, answered by one table, ``attribution-<name>.csv``."""

    area: str = "attribution"


def marks() -> dict[str, Any]:
    """Return the columns of `STAMP` for this machine.

    Examples
    --------
    >>> tuple(marks()) == STAMP
    True
    """
    return {**campaign.marks(_MACHINE), "captum": version_of("captum")}
