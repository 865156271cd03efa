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
from kanlens.attribution.metrics.exactness import (
    pairwise_rank_agreement,
    rank_correlation,
    relative_l1,
    sign_match,
)
from kanlens.attribution.metrics.faithfulness import (
    area_over,
    change_area,
    infidelity,
    prediction_gap,
    removal_curve,
    removal_infidelity,
    subset_correlation,
)
from kanlens.attribution.metrics.randomization import parameter_randomization, stability_across
from kanlens.attribution.metrics.rankings import rank_agreement, spearman, top_agreement
from kanlens.attribution.metrics.stability import max_sensitivity, relative_stability

__all__ = [
    "METRICS",
    "Case",
    "Metric",
    "Score",
    "area_over",
    "case_for",
    "change_area",
    "gini_index",
    "infidelity",
    "max_sensitivity",
    "pairwise_rank_agreement",
    "parameter_randomization",
    "prediction_gap",
    "rank_agreement",
    "rank_correlation",
    "relative_l1",
    "relative_stability",
    "removal_curve",
    "removal_infidelity",
    "share_entropy",
    "sign_match",
    "spearman",
    "stability_across",
    "subset_correlation",
    "top_agreement",
]

METRICS = metrics_in(exactness, faithfulness, stability, randomization, concentration)
