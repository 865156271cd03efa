"""Attribution metrics, as functions of tensors and in the table `METRICS`."""

from __future__ import annotations

from kanlens.attribution.metrics import _quality as quality
from kanlens.attribution.metrics._evaluation import Case, Metric, Score, case_for
from kanlens.attribution.metrics._quality import (
    area_over,
    gini_index,
    infidelity,
    max_sensitivity,
    parameter_randomization,
    prediction_gap,
    rank_agreement,
    removal_curve,
    share_entropy,
    spearman,
    subset_correlation,
)

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

METRICS = {item.name: item for item in vars(quality).values() if isinstance(item, Metric)}
