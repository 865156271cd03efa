"""The experiments on attribution methods and certificates."""

from __future__ import annotations

from benchmarks.attribution.certified import CERTIFICATES
from benchmarks.attribution.claims import CLAIMS
from benchmarks.attribution.contest import PLANTED
from benchmarks.attribution.pictures import PICTURES
from benchmarks.attribution.trained import TRAINED
from benchmarks.harness import Benchmark

ATTRIBUTION = Benchmark(
    name="attribution",
    experiments=(CLAIMS, CERTIFICATES, PLANTED, TRAINED),
    pictures=PICTURES,
)
