"""Pareto front of complexity and loss, and rules to pick from it.

The score of a row is that of PySR (M. Cranmer, Interpretable machine learning for science, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

RULES = ("best", "accuracy", "score")
READABLE = 60  # nodes of a formula that is shown
_ROUNDING = 1e-24  # smallest loss
_WELL_WITHIN = 0.75  # preferred share of the limit
_AS_GOOD = 1.5  # largest ratio to the least loss by the rule "best"


def front(
    complexities: Sequence[int], losses: Sequence[float], among: Sequence[int] | None = None
) -> list[int]:
    """Return the rows with a lower loss than all simpler ones, simplest first."""
    levels = [_level(loss) for loss in losses]
    rows: list[int] = []
    for k in sorted(
        range(len(levels)) if among is None else among,
        key=lambda k: (complexities[k], levels[k], -k),
    ):
        if not rows or levels[k] < levels[rows[-1]]:
            rows.append(k)
    return rows


def front_and_beyond(
    complexities: Sequence[int], losses: Sequence[float], partial: Sequence[bool]
) -> list[int]:
    """Return the front of rows that are not `partial`, continued by partial ones."""
    rows = range(len(losses))
    whole = [k for k in rows if not partial[k]]
    *shorter, last = front(complexities, losses, whole or rows)
    later = [k for k in rows if partial[k] and complexities[k] > complexities[last]]
    return [*shorter, *front(complexities, losses, [last, *later])]


def scores(complexities: Sequence[int], losses: Sequence[float]) -> list[float]:
    """Return the scores of rows: the fall of the log loss per node since the row before."""
    falls = [0.0] * len(losses)
    rows = zip(complexities, map(_level, losses), strict=True)
    for k, ((smaller, before), (larger, now)) in enumerate(pairwise(rows), start=1):
        if larger > smaller and math.isfinite(now) and math.isfinite(before):
            falls[k] = max(0.0, (math.log(before) - math.log(now)) / (larger - smaller))
    return falls


def choose(
    complexities: Sequence[int],
    losses: Sequence[float],
    rule: str,
    *,
    negligible: float = 0.0,
    limit: float = math.inf,
) -> int:
    """Return the row of the front that a rule picks."""
    rows = front(complexities, losses)
    if rule == "accuracy":
        return rows[-1]
    levels = [_level(losses[k]) for k in rows]
    bound = min(_AS_GOOD * max(levels[-1], negligible), max(limit, levels[-1]))
    row_scores = scores([complexities[k] for k in rows], [losses[k] for k in rows])
    able = [k for k in range(len(rows)) if rule == "score" or levels[k] <= bound]
    best = max(able, key=row_scores.__getitem__)
    short = [k for k in range(len(rows)) if complexities[rows[k]] <= READABLE]
    if rule == "best" and best not in short and math.isfinite(limit):
        well = [k for k in short if levels[k] <= _WELL_WITHIN * limit]
        able = well or [k for k in short if levels[k] <= limit]
        best = max(able, key=row_scores.__getitem__, default=best)
    return rows[best]


def _level(loss: float) -> float:
    return max(loss, _ROUNDING) if math.isfinite(loss) else math.inf
