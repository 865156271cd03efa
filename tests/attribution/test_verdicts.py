"""What numbers mean in words."""

from __future__ import annotations

import math

import pytest

from kanlens.attribution.comparison import Evidence, verdict
from kanlens.attribution.problem import Baseline


def said(**changes):
    known = {
        "slopes": False,
        "random": False,
        "baseline": Baseline.MEAN_OUTPUT,
        "gap": 1e-15,
        "error": 0.05,
        "rank": 0.9,
        "floor": 1.4,
    }
    return verdict(Evidence(**{**known, **changes}))


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"slopes": True, "gap": math.nan}, "slopes:"),
        ({"gap": 0.02}, "incomplete: leaves 2% of the change unexplained; 5% off"),
        ({"gap": 3.0, "error": math.nan}, "incomplete: leaves 300% of the change unexplained"),
        ({"error": math.nan}, "complete; exact Shapley values to compare it with"),
        ({"error": 1e-10}, "exact: these are the Shapley values (error 1e-10)"),
        (
            {"error": 1e-10, "baseline": Baseline.MEAN_ROW},
            f"exact: these are the Shapley values counted from the {Baseline.MEAN_ROW}",
        ),
        ({"error": 1.5}, "misleading: complete, but no nearer to the Shapley values than chance"),
        ({}, "close: complete, 5% off the Shapley values, ranks agree 0.90"),
        ({"error": 0.3, "rank": math.nan}, "different: complete, 30% off the Shapley values"),
        ({"random": True}, "close: an estimate of the Shapley values, 5% off"),
        ({"random": True, "error": 0.3}, "rough: an estimate of the Shapley values, 30% off"),
        ({"error": 1.5, "floor": math.inf}, "different: complete, 150% off"),
    ],
)
def test_every_kind_of_evidence_has_its_words(changes, start):
    assert said(**changes).startswith(start)


def test_the_rounding_of_the_values_is_no_error():
    text = "exact: these are the Shapley values (error 9e-08)"
    assert said(error=9e-8, rounding=1.2e-7) == text
    assert said(error=9e-8).startswith("close: complete")
