"""What a method's numbers mean, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kanlens.attribution.problem import MEAN_OUTPUT

EXACT = 1e-9  # relative error of what is called exact
WHOLE = 1e-2  # relative gap of what is called complete
CLOSE = 0.1  # relative error of what is called close


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a method on the compared samples; NaN where it is not.

    Attributes
    ----------
    slopes : bool
        Whether its values are slopes instead of shares.
    random : bool
        Whether it samples.
    baseline : str
        What it counts from.
    gap : float
        Sum of |completeness gap| over the sum of |output - reference|.
    error : float
        L1 distance from the exact Shapley values counted from the same baseline over their norm.
    rank : float
        Rank agreement with these.
    floor : float
        Error of a random attribution.
    rounding : float
        Relative distance of two neighboring numbers in the dtype of the values.
    compared : bool
        Whether the error was asked for.
    """

    slopes: bool
    random: bool
    baseline: str
    gap: float
    error: float
    rank: float
    floor: float
    rounding: float = 0.0
    compared: bool = True


def verdict(evidence: Evidence) -> str:
    """Return one line that says what the values can be used for, and why.

    Examples
    --------
    >>> known = {"slopes": False, "baseline": "mean output over the background", "floor": 1.4}
    >>> verdict(Evidence(**known, random=False, gap=1e-16, error=1e-15, rank=1.0))
    'exact: these are the Shapley values (error 1e-15)'
    >>> verdict(Evidence(**known, random=True, gap=1e-8, error=0.04, rank=0.98))
    'close: an estimate of the Shapley values, 4% off'
    >>> verdict(Evidence(**known, random=False, gap=0.3, error=0.5, rank=0.8))
    'incomplete: leaves 30% of the change unexplained; 50% off the Shapley values'
    """
    if evidence.slopes:
        return "slopes: how steep the output is, not what a feature adds"
    off = _off(evidence)
    if evidence.gap > WHOLE:
        return f"incomplete: leaves {_percent(evidence.gap)} of the change unexplained{off}"
    if math.isnan(evidence.error):
        if not evidence.compared:
            return "complete; not compared with the Shapley values"
        return "complete; exact Shapley values to compare it with could not be had"
    where = "" if evidence.baseline == MEAN_OUTPUT else f" counted from the {evidence.baseline}"
    if evidence.error <= max(EXACT, evidence.rounding):
        size = f" (error {evidence.error:.0e})" if evidence.error else ""
        return f"exact: these are the Shapley values{where}{size}"
    if evidence.error >= evidence.floor:
        return f"misleading: complete, but no nearer to the Shapley values than chance{off}"
    word = "close" if evidence.error <= CLOSE else "different" if not evidence.random else "rough"
    if evidence.random:
        return f"{word}: an estimate of the Shapley values{where}, {_percent(evidence.error)} off"
    ranks = "" if math.isnan(evidence.rank) else f", ranks agree {evidence.rank:.2f}"
    size = _percent(evidence.error)
    return f"{word}: complete, {size} off the Shapley values{where}{ranks}"


def _off(evidence: Evidence) -> str:
    if math.isnan(evidence.error):
        return ""
    return f"; {_percent(evidence.error)} off the Shapley values"


def _percent(share: float) -> str:
    """Write a share with two digits.

    Examples
    --------
    >>> _percent(0.1234), _percent(3.2e-6)
    ('12%', '0.00032%')
    """
    return f"{100 * share:.2g}%" if share < 1 else f"{100 * share:.0f}%"


def evidence_of(
    scores: Mapping[str, float],
    *,
    random: bool,
    baseline: str,
    slopes: bool,
    floor: float,
    rounding: float = 0.0,
) -> Evidence:
    """Return the evidence in the metrics of a method; NaN for those that were not taken.

    Examples
    --------
    >>> evidence_of({"relative_gap": 0.5}, random=False, baseline="", slopes=False, floor=1.0).gap
    0.5
    """
    return Evidence(
        slopes=slopes,
        random=random,
        baseline=baseline,
        gap=scores.get("relative_gap", math.nan),
        error=scores.get("shapley_error", math.nan),
        rank=scores.get("shapley_rank", math.nan),
        floor=floor if math.isfinite(floor) else math.inf,
        rounding=rounding,
        compared="shapley_error" in scores,
    )
