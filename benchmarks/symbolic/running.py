"""The whole benchmark: units that are not in the files yet are run, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.campaign import Campaign, Setup
from benchmarks.surveys import Survey, survey
from benchmarks.symbolic.identification import IDENTIFICATION
from benchmarks.symbolic.known import KNOWN
from benchmarks.symbolic.part import Part
from benchmarks.symbolic.peers import PEERS
from benchmarks.symbolic.recovery import RECOVERY
from benchmarks.symbolic.speed import SPEED

__all__ = ["PARTS", "run"]

_ALL = (SPEED, IDENTIFICATION, KNOWN, RECOVERY, PEERS)
PARTS: dict[str, Part] = {part.name: part for part in _ALL}


def run(
    setup: Setup,
    folder: Path,
    *,
    parts: Sequence[str] = (),
    jobs: int | None = None,
    fresh: bool = False,
    progress: bool | None = None,
) -> Survey:
    """Run what is missing and store it unit by unit.

    Parameters
    ----------
    setup, folder, jobs, fresh, progress
        As for `Campaign`.
    parts : sequence of str
        Names of ``PARTS``; empty for all.

    Returns
    -------
    Survey

    Raises
    ------
    InvalidValueError, FileFormatError, OutputError
        As `survey` does.
    """
    campaign = Campaign(
        call="benchmarks symbolic",
        setup=setup,
        folder=folder,
        jobs=jobs,
        fresh=fresh,
        progress=progress,
    )
    return survey(campaign, PARTS, parts)
