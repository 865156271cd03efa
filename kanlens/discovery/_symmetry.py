"""Symmetry of a function by its values and slopes, as in AI Feynman [1]_.

A function depends on a and b through h(a, b) only if its slopes are in the ratio of those of h.
A `Surface` takes columns (row, feature) and returns values (row,); errors are relative and squared.

References
----------
.. [1] S.-M. Udrescu et al., AI Feynman 2.0: Pareto-optimal symbolic regression exploiting graph
   modularity, NeurIPS 2020.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy

from kanlens.discovery import _settings as tuned
from kanlens.discovery._regression import Array, away, spread_rows
from kanlens.discovery._search_problem import SearchProblem
from kanlens.symbolic._composition import Expr

Surface = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Union:
    """Two columns that a function needs only together, and their combination."""

    pair: tuple[Expr, Expr]
    values: Array
    name: Expr
    gap: float  # relative distance of the slopes from those of a function of it

    def reduced(self, problem: SearchProblem) -> SearchProblem:
        """Put the one column in the place of the two."""
        i, j = (problem.names.index(name) for name in self.pair)
        return problem.joined(i, j, self.values, self.name)


def effects(surface: Surface, columns: Array) -> Array:
    """Estimate the share of a function's variance due to each column.

    Half the mean squared change if the column is taken from other rows, over the variance.
    """
    x = columns[spread_rows(len(columns), tuned.SYMMETRY_ROWS)]
    values = surface(x)
    spread = float(values.var()) or 1.0
    changes = (
        [surface(_exchanged(x, (i,), shift)) - values for shift in tuned.SHIFTS]
        for i in range(x.shape[1])
    )
    return np.array([float(np.mean(np.square(change))) / (2 * spread) for change in changes])


def needless(surface: Surface, columns: Array, error: float) -> set[int]:
    """Return the columns, never all, with an effect within the error."""
    change = effects(surface, columns)
    small = np.flatnonzero(change < tuned.NEEDLESS * error).tolist()
    return set(small) - {int(change.argmax())}


def joined_gap(slopes: tuple[Array, Array], of: tuple[Array, Array]) -> float:
    """Return the distance of slopes from those of a combination, 0 to 1."""
    with np.errstate(all="ignore"):
        left, right = slopes[0] * of[1], slopes[1] * of[0]
        total = np.mean(np.square(left) + np.square(right))
        gap = float(np.mean(np.square(left - right)) / (2 * total)) if total > 0 else 1.0
    return gap if np.isfinite(gap) else 1.0


def unions(problem: SearchProblem, slopes: Array, error: float) -> list[Union]:
    """Return combinations of two columns that fit the slopes, the best first."""
    rows = _inside(problem.columns)
    limit = min(tuned.JOINED * error, tuned.LOOSE)
    candidates = []
    for i, j in itertools.combinations(range(problem.width), 2):
        ours = slopes[rows, i], slopes[rows, j]
        x, y = problem.columns[:, i], problem.columns[:, j]
        pair = problem.names[i], problem.names[j]
        for form in _forms((x, y), (x[rows], y[rows]), ours):
            gap = joined_gap(ours, form.slopes(x[rows], y[rows]))
            values = form.value(x, y)
            if gap < limit and np.isfinite(values).all():
                candidates.append(Union(pair, values, form.value(*pair), gap))
    return sorted(candidates, key=lambda union: union.gap)


def disjoint(candidates: list[Union]) -> list[Union]:
    """Return the best unions that share no column."""
    chosen: list[Union] = []
    for union in candidates:
        if not any(set(union.pair) & set(other.pair) for other in chosen):
            chosen.append(union)
    return chosen


def factors(columns: Array, slopes: Array, values: Array, error: float) -> Array:
    """Return powers of columns that divide a function or its exponential."""
    rows, powers = _inside(columns), np.zeros(columns.shape[1])
    limit = min(tuned.FACTOR * error, tuned.STEADY)
    f = values[rows]
    for i in np.flatnonzero(away(columns)):
        moved = columns[rows, i] * slopes[rows, i]
        power = float(moved @ f / (f @ f))
        half = _near_half(power)
        gap = float(np.mean(np.square(moved - power * f)) / np.mean(np.square(f)))
        if half and gap < limit * power**2:
            powers[i] = half
    return powers


def _near_half(power: float) -> float:
    """Snap an exponent to a near multiple of one half, else to 0."""
    half = round(2 * power) / 2 if abs(power) < tuned.HIGHEST_FACTOR + 0.25 else 0.0
    return half if abs(power - half) < tuned.ROUND * abs(half) else 0.0


@dataclass(frozen=True, eq=False)
class _Form:
    """A combination of two columns, or of their names, and its slopes by both."""

    value: Callable[[Any, Any], Any]
    slopes: Callable[[Array, Array], tuple[Any, Any]]


_SIMPLE = (
    _Form(lambda a, b: a - b, lambda a, b: (1.0, -1.0)),
    _Form(lambda a, b: a + b, lambda a, b: (1.0, 1.0)),
    _Form(lambda a, b: a * b, lambda a, b: (b, a)),
    _Form(lambda a, b: a**2 + b**2, lambda a, b: (a, b)),
    _Form(lambda a, b: a**2 - b**2, lambda a, b: (a, -b)),
    _Form(lambda a, b: a + b**2, lambda a, b: (1.0, 2 * b)),
    _Form(lambda a, b: a**2 + b, lambda a, b: (2 * a, 1.0)),
    _Form(lambda a, b: a - b**2, lambda a, b: (1.0, -2 * b)),
    _Form(lambda a, b: a**2 - b, lambda a, b: (2 * a, -1.0)),
)
_OVER = _Form(lambda a, b: a / b, lambda a, b: (b, -a))
_UNDER = _Form(lambda a, b: b / a, lambda a, b: (-b, a))


def _forms(
    whole: tuple[Array, Array], inside: tuple[Array, Array], slopes: tuple[Array, Array]
) -> list[_Form]:
    """Return combinations of two columns that can be computed on all rows."""
    forms = [*_SIMPLE, *([_OVER] if away(whole[1]) else [_UNDER] if away(whole[0]) else [])]
    weight = _ratio(*slopes)
    if 0.05 < abs(weight) < 20 and abs(abs(weight) - 1) > tuned.ROUND:
        forms.append(_Form(lambda a, b: weight * a + b, lambda a, b: (weight, 1.0)))
    half = _near_half(_ratio(inside[0] * slopes[0], inside[1] * slopes[1]))
    if abs(half) not in (0.0, 1.0) and away(whole[0]) and whole[0].min() > 0:

        def power(a: Any, b: Any) -> Any:
            return a ** (half if isinstance(a, np.ndarray) else sympy.Rational(half)) * b

        forms.append(_Form(power, lambda a, b: (half * b, a)))
    return forms


def _ratio(first: Array, second: Array) -> float:
    """Return the factor between two arrays with errors in both."""
    with np.errstate(all="ignore"):
        size = float(np.sqrt(np.mean(np.square(first)) / np.mean(np.square(second))))
    return size * float(np.sign(np.mean(first * second)))


def _inside(columns: Array) -> Array:
    """Return a mask of the rows not at an end of a column."""
    low, high = np.quantile(columns, (tuned.UNTRUSTED, 1 - tuned.UNTRUSTED), axis=0)
    rows = ((columns >= low) & (columns <= high)).all(axis=1)
    return rows if rows.sum() > len(columns) // 4 else np.ones(len(columns), dtype=bool)


def _exchanged(columns: Array, which: tuple[int, ...], shift: int) -> Array:
    """Return rows with some columns taken from other rows, each from its own."""
    rows = columns.copy()
    for i in which:
        rows[:, i] = np.roll(columns[:, i], shift + 2 * i)
    return rows
