"""Whether what a formula leaves unexplained is noise: nothing simple of the columns follows it."""

from __future__ import annotations

import itertools
import math

import numpy as np

from kanlens.discovery.regression import Array, solve
from kanlens.discovery.splines import Basis, varies

_PIECES = 5
_FINE = 20  # of a single column
_SURE = 4.0  # deviations from what noise gives at most
_FEWEST = 4  # rows per term of the test
_DEGREES = (4, 3, 2)
_MOST_TERMS = 200
_LOUD = 0.1  # noise beyond this share of the variance is not believed


def is_noise(columns: Array, made: Array, target: Array) -> bool:
    """Say whether target minus formula is noise, as far as a regression can tell.

    What is left is fitted by splines of every column and of the formula's own value, and by
    products of the columns; noise lets these explain no more than their number does [1]_. Nor
    has it to do with what is left at the nearest other row.

    Parameters
    ----------
    columns : ndarray, shape (row, feature)
    made : ndarray, shape (row,)
        Values of the formula.
    target : ndarray, shape (row,)

    Returns
    -------
    bool
        False where there are too few rows to tell.

    References
    ----------
    .. [1] R. A. Fisher, Statistical Methods for Research Workers, 1925.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> x = draw.normal(size=(400, 2))
    >>> made, noise = 9 * x[:, 0], draw.normal(size=400)
    >>> is_noise(x, made, made + noise), is_noise(x, made, made + x[:, 1] ** 2)
    (True, False)
    """
    left, rows = target - made, len(target)
    if rows < _FEWEST * columns.shape[1]:  # of terms, which are more than columns
        return False
    terms = _terms(columns, made)
    if rows < _FEWEST * terms.shape[1] or not varies(left) or left.var() > _LOUD * target.var():
        return False
    left = (left - left.mean()) / left.std()
    neighbours = float(np.mean(left * left[nearest(columns)]))
    if neighbours > _SURE / np.sqrt(rows):
        return False
    terms, count = terms - terms.mean(axis=0), terms.shape[1]
    rest = left - terms @ solve(terms, left)
    over = float(rest @ rest) / (rows - count - 1)
    statistic = (rows - float(rest @ rest)) / count / (over + 1e-300)
    return bool(statistic < 1 + _SURE * np.sqrt(2 / count))


def nearest(columns: Array) -> Array:
    """Return for every row the row nearest to it."""
    even = columns / columns.std(axis=0)
    size = np.square(even).sum(axis=1)
    distance = size[:, None] + size[None, :] - 2 * even @ even.T
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.argmin(axis=1))


def _terms(columns: Array, made: Array) -> Array:
    """Return splines of every column and of the formula, and products of columns."""
    width = columns.shape[1]
    pieces = _FINE if width == 1 else _PIECES
    splines = [*columns.T, made] if width > 1 else [*columns.T]
    found = [Basis.of(c, pieces).at(c)[:, 1:] for c in splines if varies(c)]
    even = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    most = min(_MOST_TERMS, len(made) // _FEWEST - sum(f.shape[1] for f in found))
    for degree in _DEGREES:
        counts = range(2, degree + 1)
        if sum(math.comb(width + k - 1, k) - width for k in counts) <= most:
            ways = (itertools.combinations_with_replacement(range(width), k) for k in counts)
            places = [p for p in itertools.chain(*ways) if len(set(p)) > 1]
            found += [np.prod(even[:, p], axis=1)[:, None] for p in places]
            break
    return np.concatenate(found, axis=1)
