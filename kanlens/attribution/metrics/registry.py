"""The metrics there are. The comparison, tests and the benchmark read this table."""

from __future__ import annotations

from kanlens.attribution.metrics import (
    completeness,
    concentration,
    deletion_insertion,
    exactness,
    faithfulness,
    feature_perturbation,
    randomization,
    stability,
)
from kanlens.attribution.metrics.metric import Metric

METRICS: dict[str, Metric] = {
    metric.name: metric
    for module in (
        completeness,
        exactness,
        faithfulness,
        feature_perturbation,
        deletion_insertion,
        stability,
        randomization,
        concentration,
    )
    for metric in module.METRICS
}
