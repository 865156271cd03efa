"""The experiments on the whole way from a table to a report."""

from __future__ import annotations

from benchmarks.harness import Benchmark
from benchmarks.workflow.functions import FUNCTIONS
from benchmarks.workflow.housing import HOUSING

WORKFLOW = Benchmark(name="workflow", experiments=(FUNCTIONS, HOUSING))
