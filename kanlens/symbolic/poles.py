"""Where a quantity that should stay above zero comes down to it between the points at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kanlens.symbolic.composition import Array

Places = np.ndarray[Any, np.dtype[np.intp]]

_FIRST = 0.05  # share of each range that the first steps are long
_LAST = 1e-13  # share at which a search ends
_NEAR = 1e-3  # share by which the places lie off that the end of a search is compared with
_SHRINK = 0.25
_FALL = 1e-5  # what is left of the largest value there when the quantity goes to zero
_MOVES = 150
_DIP = 0.5  # of its higher neighbour, below which a place is worth a search


def vanishes(
    margin: Callable[[Array], Array], starts: Array, low: Array, high: Array
) -> tuple[Array, Array]:
    """Search for zeros of a quantity downhill from some points, along one axis at a time.

    It may touch zero from above, so that no two points differ in sign. What it comes down to counts
    as zero when it is nothing beside what it is a thousandth of the ranges away.

    Parameters
    ----------
    margin : callable
        Takes points (batch, in) and returns the quantity (batch,); what is not finite is too
        large to look at.
    starts : ndarray, shape (start, in)
    low, high : ndarray, shape (in,) or (start, in)
        Of the box that is searched, one for all or one for each start; an axis on which they are
        equal is left alone.

    Returns
    -------
    found : ndarray of bool, shape (start,)
        Which searches came to a zero, or below.
    points : ndarray, shape (start, in)
        Where they ended.

    Examples
    --------
    >>> box = np.array([0.0]), np.array([2.0])
    >>> vanishes(lambda x: (x[:, 0] - 1) ** 2, np.array([[0.7]]), *box)[0]
    array([ True])
    >>> vanishes(lambda x: (x[:, 0] - 1) ** 2 + 0.01, np.array([[0.7]]), *box)[0]
    array([False])
    """
    low, high = np.broadcast_to(low, starts.shape), np.broadcast_to(high, starts.shape)
    axes = np.eye(starts.shape[1])[(high > low).any(axis=0)]
    ways = np.concatenate((axes, -axes))  # (way, in)
    points, length = starts.copy(), np.full(len(starts), _FIRST)
    least = _known(margin(points))

    def around(which: Places, far: Array) -> tuple[Array, Array]:  # (which, way, in), (which, way)
        steps = (far[:, None] * (high - low)[which])[:, None] * ways
        trials = np.clip(points[which, None] + steps, low[which, None], high[which, None])
        values = margin(trials.reshape(-1, points.shape[1]))
        return trials, _known(values).reshape(trials.shape[:2])

    for _ in range(_MOVES if len(ways) else 0):
        going = np.flatnonzero((length > _LAST) & (least > 0))
        if not len(going):
            break
        trials, values = around(going, length[going])
        best = values.argmin(axis=1)
        lower = values[np.arange(len(going)), best]
        better = lower < least[going]
        points[going[better]] = trials[better, best[better]]
        least[going[better]] = lower[better]
        length[going[~better]] *= _SHRINK
    every = np.arange(len(points))
    _, values = around(every, np.full(len(points), _NEAR))
    near = np.where(np.isfinite(values), values, 0.0).max(axis=1, initial=0.0)
    return (least <= 0) | (least <= _FALL * near), points


def dips(margins: Array) -> Places:
    """Return the places (place, row) where a quantity along a way may have touched zero.

    Examples
    --------
    >>> dips(np.array([[3.0], [0.4], [1.2], [1.1], [1.0]]))
    array([[1, 0]])
    """
    inner = margins[1:-1]
    before, after = margins[:-2], margins[2:]
    low = (inner <= before) & (inner <= after) & (inner < _DIP * np.maximum(before, after))
    return np.asarray(np.argwhere(low) + np.array([1, 0]))


def _known(values: Array) -> Array:
    return np.where(np.isfinite(values), values, np.inf)
