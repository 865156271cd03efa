"""Rows with a target that nothing near them shares: wrong cells, which would bend every formula.

They are only set aside while a formula is looked for. Whether it follows them is asked at the end.
"""

from __future__ import annotations

import numpy as np

from kanlens.discovery.regression import Array, relative_error
from kanlens.discovery.residual_test import is_noise, nearest
from kanlens.discovery.smoothness import even, left_out, predicted

_LENGTHS = (1.0, 2.5)  # as in `smoothness`
_NUGGET = 1e-2  # wrong cells are not followed
_BLOCK = 400  # rows of one smooth model
_FEWEST = 8
_ROUNDS = 12
_FAR = 8.0  # robust deviations
_CLEAR = 1.0  # least distance, of the inverse hyperbolic sine of robust deviations of the target
_ALONE = 3.0  # deviations more, where the model knows nothing of a row
_WORST = 0.5  # share of the largest error from which rows are taken out in the same round
_MOST = 0.1  # share of the rows beyond which they are no exceptions
_ROUNDING = 1e-9  # share of a value that is followed exactly
_GAIN = 0.3  # factor on the error of a formula that leaving rows out must give
_DISTANT = 1e3  # spans of the middle 90 % of a column beyond it
_NORMAL = 1.4826  # standard deviation over median absolute deviation


def wrong_rows(columns: Array, target: Array) -> Array:
    """Find rows whose target lies far from what all others tell.

    A smooth model of the rows is solved without each of them in turn; the worst are taken out,
    and it is solved again, for they hide each other.

    Parameters
    ----------
    columns : ndarray, shape (row, feature)
    target : ndarray, shape (row,)

    Returns
    -------
    ndarray of bool, shape (row,)
        None of them where they would be many.

    Examples
    --------
    >>> x = np.linspace(0.0, 3.0, 50)[:, None]
    >>> y = np.sin(x[:, 0])
    >>> y[7] = 1e8
    >>> np.flatnonzero(wrong_rows(x, y))
    array([7])
    """
    found = np.zeros(len(target), dtype=bool)
    if len(target) < _FEWEST:
        return found
    middle, spread = _middle(target)
    if spread == 0:  # all but a few are equal
        return np.asarray(target != middle)
    size = np.arcsinh((target - middle) / spread)
    blocks = -(-len(target) // _BLOCK)
    for k in range(blocks):
        found[k::blocks] = _wrong_in(even(columns[k::blocks]), size[k::blocks])
    return found if found.mean() <= _MOST else np.zeros_like(found)


def distant_rows(columns: Array, others: Array) -> Array:
    """Find rows with a feature so far from those of nearly all rows that a cell must be wrong.

    Parameters
    ----------
    columns : ndarray, shape (row, feature)
    others : ndarray, shape (other row, feature)
        They may be the same.

    Returns
    -------
    ndarray of bool, shape (other row,)
        None of them where they would be many.

    Examples
    --------
    >>> x = np.linspace(0.0, 1.0, 50)[:, None]
    >>> x[7] = 1e8
    >>> np.flatnonzero(distant_rows(x, x))
    array([7])
    """
    low, high = np.quantile(columns, (0.05, 0.95), axis=0)
    room = _DISTANT * (high - low)
    found = (((others < low - room) | (others > high + room)) & (room > 0)).any(1)
    return found if found.sum() <= _MOST * len(found) else np.zeros_like(found)


def wrong_beside(columns: Array, target: Array, others: Array, values: Array) -> Array:
    """Find rows whose target lies far from what sound rows tell.

    Parameters
    ----------
    columns : ndarray, shape (row, feature)
    target : ndarray, shape (row,)
    others : ndarray, shape (other row, feature)
    values : ndarray, shape (other row,)

    Returns
    -------
    ndarray of bool, shape (other row,)
    """
    none = np.zeros(len(values), dtype=bool)
    middle, spread = _middle(target)
    if len(target) < _FEWEST or not len(values) or spread == 0:
        return none
    pick = np.linspace(0, len(target) - 1, min(len(target), _BLOCK)).round().astype(int)
    size = np.arcsinh((target[pick] - middle) / spread)
    x = even(np.concatenate((columns[pick], others)))
    if not x.shape[1]:
        return none
    known, length = x[: len(pick)], _length(x[: len(pick)], size)
    center, nugget = float(np.median(size)), np.full(len(size), _NUGGET)
    usual = _usual(left_out(known, size - center, length, nugget)[0])
    told, unsure = predicted(known, size - center, x[len(pick) :], length, nugget)
    gap = np.abs(np.arcsinh((values - middle) / spread) - center - told)
    found = gap > _limit(usual, unsure, size)
    return found if found.mean() <= _MOST else none


def _middle(target: Array) -> tuple[float, float]:
    """Return the median of a target and a robust deviation, 0 where all but a few are equal."""
    middle = float(np.median(target))
    off = np.abs(target - middle)
    return middle, _NORMAL * float(np.median(off)) or float(np.quantile(off, 1 - _MOST))


def _wrong_in(x: Array, size: Array) -> Array:
    """Find the wrong rows of one block."""
    kept = np.ones(len(size), dtype=bool)
    for _ in range(_ROUNDS if x.shape[1] else 0):
        own = size[kept] - np.median(size[kept])
        nugget, length = np.full(len(own), _NUGGET), _length(x[kept], size[kept])
        errors, unsure = left_out(x[kept], own, length, nugget)
        over = np.abs(errors) - _limit(_usual(errors), unsure, own)
        worst = (over > 0) & (over >= _WORST * over.max())
        if not worst.any() or kept.sum() <= _FEWEST:
            break
        kept[np.flatnonzero(kept)[worst]] = False
    return ~kept


def _length(x: Array, size: Array) -> float:
    """Return the length of the smooth model with the least errors on most left-out rows."""
    own, nugget = size - np.median(size), np.full(len(size), _NUGGET)
    return min(_LENGTHS, key=lambda k: _usual(left_out(x, own, k, nugget)[0]))


def _usual(errors: Array) -> float:
    return _NORMAL * float(np.median(np.abs(errors)))


def _limit(usual: float, unsure: Array, size: Array) -> Array:
    """Return the errors beyond which rows are wrong, larger where others tell little of a row."""
    return max(_FAR * usual, _CLEAR) + _ALONE * np.minimum(unsure, 1.0) * float(size.std())


def unfollowed(made: Array, target: Array) -> Array:
    """Say which rows a formula does not follow: those far off for how near most of them are.

    Parameters
    ----------
    made : ndarray, shape (row,)
        Values of the formula.
    target : ndarray, shape (row,)

    Returns
    -------
    ndarray of bool, shape (row,)

    Examples
    --------
    >>> unfollowed(np.arange(5.0), np.array([0.0, 1.0, 2.0, 30.0, 4.0])).tolist()
    [False, False, False, True, False]
    """
    with np.errstate(invalid="ignore"):
        gap = np.abs(made - target)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    usual = float(np.median(np.abs(target - np.median(target))))
    room = _FAR * _NORMAL * float(np.median(gap)) + _ROUNDING * np.maximum(np.abs(target), usual)
    return np.asarray((gap > room) | np.isinf(gap))


def exceptions(columns: Array, made: Array, target: Array, exact: float) -> Array:
    """Find rows without which a formula leaves nothing but noise.

    Parameters
    ----------
    columns : ndarray, shape (row, feature)
    made, target : ndarray, shape (row,)
    exact : float
        Relative squared error that is rounding.

    Returns
    -------
    ndarray of bool, shape (row,)
        None of them where the formula is not clear, or they are many or lie together, so that
        something of the columns may tell them.
    """
    far, none = unfollowed(made, target), np.zeros(len(target), dtype=bool)
    if not far.any() or far.mean() > _MOST or len(target) < _FEWEST:
        return none
    kept = ~far
    error = relative_error(made[kept], target[kept])
    if error > _GAIN * relative_error(made, target):
        return none
    common = np.isin(target[far], target[kept]).mean() > _WORST  # no value that only a mistake has
    if common or (far.sum() > 1 and far[nearest(columns)[far]].mean() > _WORST):
        return none
    clear = error <= exact or is_noise(columns[kept], made[kept], target[kept])
    return far if clear else none
