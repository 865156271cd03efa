"""Outlier rows, set aside during a search: targets (row,) far from those of their neighbors."""

from __future__ import annotations

import numpy as np

from kanlens.discovery import settings as tuned
from kanlens.discovery.regression import Array, relative_error, spread_rows
from kanlens.discovery.smoothness import even, is_noise, left_out, nearest, predicted


def outlier_rows(columns: Array, target: Array) -> Array:
    """Find rows whose target lies far from its leave-one-out prediction.

    A smooth model of the rows is solved without each of them in turn; the worst are taken out,
    and it is solved again, for they hide each other.
    """
    found = np.zeros(len(target), dtype=bool)
    if len(target) < tuned.FEWEST_ROWS:
        return found
    middle, spread = _middle(target)
    if spread == 0:  # all but a few are equal
        return np.asarray(target != middle)
    size = np.arcsinh((target - middle) / spread)
    blocks = -(-len(target) // tuned.WRONG_BLOCK)
    for k in range(blocks):
        found[k::blocks] = _wrong_in(even(columns[k::blocks]), size[k::blocks])
    return _if_few(found)


def _if_few(found: Array) -> Array:
    return found if found.sum() <= tuned.MOST_WRONG * len(found) else np.zeros_like(found)


def distant_rows(columns: Array, others: Array) -> Array:
    """Find rows, maybe others, with a feature so far from nearly all that a cell must be wrong."""
    low, high = np.quantile(columns, tuned.CORE, axis=0)
    room = tuned.DISTANT * (high - low)
    return _if_few((((others < low - room) | (others > high + room)) & (room > 0)).any(1))


def wrong_beside(columns: Array, target: Array, others: Array, values: Array) -> Array:
    """Find other rows whose target, the values, lies far from what sound rows tell."""
    none = np.zeros(len(values), dtype=bool)
    middle, spread = _middle(target)
    if len(target) < tuned.FEWEST_ROWS or not len(values) or spread == 0:
        return none
    pick = spread_rows(len(target), tuned.WRONG_BLOCK)
    size = np.arcsinh((target[pick] - middle) / spread)
    x = even(np.concatenate((columns[pick], others)))
    if not x.shape[1]:
        return none
    known, length = x[: len(pick)], _length(x[: len(pick)], size)
    center, nugget = float(np.median(size)), np.full(len(size), tuned.WRONG_NUGGET)
    usual = _usual(left_out(known, size - center, length, nugget)[0])
    mean, variance = predicted(known, size - center, x[len(pick) :], length, nugget)
    gap = np.abs(np.arcsinh((values - middle) / spread) - center - mean)
    return _if_few(gap > _limit(usual, variance, size))


def _middle(target: Array) -> tuple[float, float]:
    """Return the median of a target and a robust deviation, 0 where all but a few are equal."""
    middle = float(np.median(target))
    off = np.abs(target - middle)
    usual = tuned.NORMAL * float(np.median(off))
    return middle, usual or float(np.quantile(off, 1 - tuned.MOST_WRONG))


def _wrong_in(x: Array, size: Array) -> Array:
    """Find the wrong rows of one block."""
    kept = np.ones(len(size), dtype=bool)
    for _ in range(tuned.WRONG_ROUNDS if x.shape[1] else 0):
        own = size[kept] - np.median(size[kept])
        nugget, length = np.full(len(own), tuned.WRONG_NUGGET), _length(x[kept], size[kept])
        errors, variance = left_out(x[kept], own, length, nugget)
        over = np.abs(errors) - _limit(_usual(errors), variance, own)
        worst = (over > 0) & (over >= tuned.WORST * over.max())
        if not worst.any() or kept.sum() <= tuned.FEWEST_ROWS:
            break
        kept[np.flatnonzero(kept)[worst]] = False
    return ~kept


def _length(x: Array, size: Array) -> float:
    """Return the length of the smooth model with the least errors on most left-out rows."""
    own, nugget = size - np.median(size), np.full(len(size), tuned.WRONG_NUGGET)
    return min(tuned.WRONG_LENGTHS, key=lambda k: _usual(left_out(x, own, k, nugget)[0]))


def _usual(errors: Array) -> float:
    return tuned.NORMAL * float(np.median(np.abs(errors)))


def _limit(usual: float, variance: Array, size: Array) -> Array:
    """Return the errors beyond which rows are wrong, larger where others tell little of a row."""
    alone = tuned.ALONE * np.minimum(variance, 1.0) * float(size.std())
    return max(tuned.FAR_OFF * usual, tuned.FAR_LEAST) + alone


def unfollowed(made: Array, target: Array) -> Array:
    """Say which rows a formula does not follow: those far off for how near most of them are."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(made - target)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    usual = float(np.median(np.abs(target - np.median(target))))
    near = tuned.FAR_OFF * tuned.NORMAL * float(np.median(gap))
    room = near + tuned.FOLLOWED * np.maximum(np.abs(target), usual)
    return np.asarray((gap > room) | np.isinf(gap))


def exceptions(columns: Array, made: Array, target: Array, exact: float) -> Array:
    """Find rows without which a formula leaves nothing but noise, or an exact error.

    None of them where the formula is not clear, or they are many or lie together, so that
    something of the columns may tell them.
    """
    far, none = unfollowed(made, target), np.zeros(len(target), dtype=bool)
    if not far.any() or far.mean() > tuned.MOST_WRONG or len(target) < tuned.FEWEST_ROWS:
        return none
    kept = ~far
    error = relative_error(made[kept], target[kept])
    if error > tuned.WITHOUT_GAIN * relative_error(made, target):
        return none
    common = np.isin(target[far], target[kept]).mean()  # a mistake has a value of its own
    together = far[nearest(columns)[far]].mean() if far.sum() > 1 else 0.0
    if max(common, together) > tuned.WORST:
        return none
    clear = error <= exact or is_noise(columns[kept], made[kept], target[kept])
    return far if clear else none
