"""Attribution metrics, as functions of tensors and in the table `METRICS`."""

from __future__ import annotations

from kanlens.attribution.metrics import _exactness as exactness
from kanlens.attribution.metrics import _faithfulness as faithfulness
from kanlens.attribution.metrics import _rankings as rankings
from kanlens.attribution.metrics import _robustness as robustness
from kanlens.attribution.metrics._evaluation import Case, Metric, Score, case_for
from kanlens.attribution.metrics._faithfulness import (
    area_over,
    infidelity,
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
from kanlens.attribution.metrics._robustness import max_sensitivity, parameter_randomization

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
    for module in (exactness, faithfulness, robustness, rankings)
    for item in vars(module).values()
    if isinstance(item, Metric)
}
