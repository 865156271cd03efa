"""The whole benchmark: units that are not in the files yet are run, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.attribution.certified import CERTIFICATES
from benchmarks.attribution.contest import PLANTED
from benchmarks.attribution.part import Part
from benchmarks.attribution.promises import PROMISES
from benchmarks.attribution.trained import TRAINED
from benchmarks.campaign import Campaign, Setup
from benchmarks.surveys import Survey, survey

__all__ = ["PARTS", "run"]

_ALL = (PROMISES, CERTIFICATES, PLANTED, TRAINED)
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
        call="benchmarks attribution",
        setup=setup,
        folder=folder,
        jobs=jobs,
        fresh=fresh,
        progress=progress,
    )
    return survey(campaign, PARTS, parts)
