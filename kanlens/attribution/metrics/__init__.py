"""Attribution metrics: functions of tensors, and `METRICS`, which map a `Case` to a `Score`."""

from __future__ import annotations

from kanlens.attribution.metrics import (
    concentration,
    exactness,
    faithfulness,
    randomization,
    stability,
)
from kanlens.attribution.metrics.case import Case, Metric, Score, case_for, metrics_in
from kanlens.attribution.metrics.concentration import gini_index, share_entropy
from kanlens.attribution.metrics.faithfulness import (
    area_over,
    infidelity,
    prediction_gap,
    removal_curve,
    subset_correlation,
)
from kanlens.attribution.metrics.randomization import parameter_randomization
from kanlens.attribution.metrics.rankings import rank_agreement, spearman
from kanlens.attribution.metrics.stability import max_sensitivity

__all__ = [
    "METRICS",
    "Case",
    "Metric",
    "Score",
    "area_over",
    "case_for",
    "gini_index",
    "infidelity",
    "max_sensitivity",
    "parameter_randomization",
    "prediction_gap",
    "rank_agreement",
    "removal_curve",
    "share_entropy",
    "spearman",
    "subset_correlation",
]

METRICS = metrics_in(exactness, faithfulness, stability, randomization, concentration)
