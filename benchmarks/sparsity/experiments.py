"""The experiments on sparsity, initial weights and grids."""

from __future__ import annotations

from benchmarks.harness import Benchmark
from benchmarks.sparsity.budgets import BUDGETS
from benchmarks.sparsity.costs import COSTS
from benchmarks.sparsity.damage import DAMAGE
from benchmarks.sparsity.digits import DIGITS
from benchmarks.sparsity.grids import GRIDS
from benchmarks.sparsity.penalties import PENALTIES
from benchmarks.sparsity.pictures import PICTURES
from benchmarks.sparsity.scaler import SCALER
from benchmarks.sparsity.starts import STARTS

SPARSITY = Benchmark(
    name="sparsity",
    experiments=(PENALTIES, COSTS, SCALER, STARTS, DIGITS, GRIDS, DAMAGE, BUDGETS),
    pictures=PICTURES,
)
