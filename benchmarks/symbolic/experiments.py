"""The experiments on edges, known equations and drawn formulas."""

from __future__ import annotations

from benchmarks.harness import Benchmark
from benchmarks.symbolic.identification import IDENTIFICATION
from benchmarks.symbolic.known import KNOWN
from benchmarks.symbolic.pictures import PICTURES
from benchmarks.symbolic.recovery import DRAWN, RECOVERY
from benchmarks.symbolic.speed import SPEED

SYMBOLIC = Benchmark(
    name="symbolic",
    experiments=(SPEED, IDENTIFICATION, KNOWN, RECOVERY, DRAWN),
    pictures=PICTURES,
)
