"""The experiments on sparsity that are run again, and the figures of all that were run."""

from __future__ import annotations

from benchmarks.harness import Benchmark
from benchmarks.sparsity.budgets import BUDGETS
from benchmarks.sparsity.penalties import PENALTIES
from benchmarks.sparsity.pictures import PICTURES

SPARSITY = Benchmark(name="sparsity", experiments=(PENALTIES, BUDGETS), pictures=PICTURES)
