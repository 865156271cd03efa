"""The experiments on edges and known equations."""

from __future__ import annotations

from benchmarks.harness import Benchmark
from benchmarks.symbolic.identification import IDENTIFICATION
from benchmarks.symbolic.known import KNOWN
from benchmarks.symbolic.peers import PEERS
from benchmarks.symbolic.pictures import PICTURES
from benchmarks.symbolic.recovery import RECOVERY
from benchmarks.symbolic.speed import SPEED

SYMBOLIC = Benchmark(
    name="symbolic",
    experiments=(SPEED, IDENTIFICATION, KNOWN, RECOVERY, PEERS),
    pictures=PICTURES,
)
