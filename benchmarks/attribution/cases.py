"""All planted networks by name."""

from __future__ import annotations

from benchmarks.attribution.classics import CLASSICS
from benchmarks.attribution.planted import Planted
from benchmarks.attribution.traps import TRAPS

__all__ = ["CASES"]

CASES: dict[str, Planted] = {case.name: case for case in (*CLASSICS, *TRAPS)}
