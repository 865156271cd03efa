"""All planted networks by name."""

from __future__ import annotations

from kanlens.benchmarks.attribution.classics import CLASSICS
from kanlens.benchmarks.attribution.planted import Planted
from kanlens.benchmarks.attribution.traps import TRAPS

__all__ = ["CASES"]

CASES: dict[str, Planted] = {case.name: case for case in (*CLASSICS, *TRAPS)}
