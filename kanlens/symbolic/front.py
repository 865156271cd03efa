"""Which formulas lie on the front of complexity and loss, and which of them to take.

The rules are those of PySR [1]_: the score of a row is the fall of the log loss per node of
complexity against the next simpler row of the front.

References
----------
.. [1] M. Cranmer, Interpretable machine learning for science with PySR and SymbolicRegression.jl,
   2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

RULES = ("best", "accuracy", "score")
READABLE = 60  # nodes of a formula that is shown
_ROUNDING = 1e-24  # losses below are rounding; they count as this
_AS_GOOD = 1.5  # times the least loss, which a row may have to count as one of the best


def front(complexities: Sequence[int], losses: Sequence[float]) -> list[int]:
    """Return the rows that no simpler row equals in loss, simplest first."""
    levels = [_level(loss) for loss in losses]
    order = sorted(range(len(levels)), key=lambda k: (complexities[k], levels[k], -k))
    rows: list[int] = []
    for k in order:
        if not rows or levels[k] < levels[rows[-1]]:
            rows.append(k)
    return rows


def front_and_beyond(
    complexities: Sequence[int], losses: Sequence[float], partial: Sequence[bool]
) -> list[int]:
    """Return the front of the rows that are whole, and the partial ones that go on from its end."""

    def of(rows: list[int]) -> list[int]:
        chosen = front([complexities[k] for k in rows], [losses[k] for k in rows])
        return [rows[k] for k in chosen]

    rows = list(range(len(losses)))
    *shorter, last = of([k for k in rows if not partial[k]] or rows)
    later = [k for k in rows if partial[k] and complexities[k] > complexities[last]]
    return [*shorter, *of([last, *later])]


def scores(complexities: Sequence[int], losses: Sequence[float]) -> list[float]:
    """Return the fall of the log loss per node of complexity, against the row before."""
    found = [0.0] * len(losses)
    for k in range(1, len(losses)):
        gap, now, before = complexities[k] - complexities[k - 1], losses[k], losses[k - 1]
        if gap > 0 and math.isfinite(now) and math.isfinite(before):
            found[k] = max(0.0, (math.log(_level(before)) - math.log(_level(now))) / gap)
    return found


def choose(
    complexities: Sequence[int],
    losses: Sequence[float],
    rule: str,
    *,
    negligible: float = 0.0,
    limit: float = math.inf,
) -> int:
    """Return the row of the front that a rule takes; the simpler one where two are equal.

    For "best", a readable row within the limit is taken rather than a longer one.
    """
    rows = front(complexities, losses)
    if rule == "accuracy":
        return rows[-1]
    levels = [_level(losses[k]) for k in rows]
    bound = min(_AS_GOOD * max(levels[-1], negligible), max(limit, levels[-1]))
    row_scores = scores([complexities[k] for k in rows], [losses[k] for k in rows])
    able = [k for k in range(len(rows)) if rule == "score" or levels[k] <= bound]
    best = max(able, key=lambda k: row_scores[k])
    short = [k for k in range(len(rows)) if complexities[rows[k]] <= READABLE]
    if rule == "best" and best not in short and math.isfinite(limit):
        able = [k for k in short if levels[k] <= limit]
        best = max(able, key=lambda k: row_scores[k], default=best)
    return rows[best]


def _level(loss: float) -> float:
    return max(loss, _ROUNDING) if math.isfinite(loss) else math.inf
