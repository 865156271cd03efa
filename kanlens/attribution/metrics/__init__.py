"""Attribution metrics: functions of tensors, and `METRICS`, which map a `Case` to a `Score`."""

from __future__ import annotations

from kanlens.attribution.metrics import _quality as quality
from kanlens.attribution.metrics import _rankings as rankings
from kanlens.attribution.metrics._evaluation import Case, Metric, Score, case_for
from kanlens.attribution.metrics._quality import (
    area_over,
    infidelity,
    max_sensitivity,
    parameter_randomization,
    prediction_gap,
    removal_curve,
    subset_correlation,
)
from kanlens.attribution.metrics._rankings import (
    gini_index,
    rank_agreement,
    share_entropy,
    spearman,
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

METRICS = {
    item.name: item
    for module in (quality, rankings)
    for item in vars(module).values()
    if isinstance(item, Metric)
}
