"""How well a target can be told from columns at all: the leave-one-out error of a smooth model.

A Gaussian process with one length for all columns is solved once for every length; its errors on
left-out rows follow without further solving [1]_. When columns are exchanged for fewer ones that
say the same, this error falls; when they say less, it rises.

References
----------
.. [1] C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, 5.4.2.
"""

from __future__ import annotations

import math

import numpy as np

from kanlens.deadlines import check_time
from kanlens.discovery.regression import Array
from kanlens.discovery.splines import varies

_LENGTHS = (1.0, 2.5, 6.0)  # in deviations of a column, times the root of the number of columns
_NUGGET = 1e-7
_MOST_ROWS = 300
_FLAT = 1.5  # factor by which half the rows tell less at most, where noise is what is left
_ROUNDING, _LOUD = 1e-8, 0.05  # shares of the variance between which there may be noise
_SHARE = 0.3  # of the noise that the model is told of


def loo_error(columns: Array, target: Array) -> float:
    """Return the relative leave-one-out error of the best smooth model of a target.

    Parameters
    ----------
    columns : ndarray, shape (row, feature)
    target : ndarray, shape (row,)

    Returns
    -------
    float
        Near 0 for a smooth function of the columns, near 1 when they say nothing.

    Examples
    --------
    >>> x = np.linspace(0.0, 1.0, 50)[:, None]
    >>> bool(loo_error(x, np.sin(3 * x[:, 0])) < 1e-6)
    True
    """
    pick = _pick(target)
    x, t = even(columns[pick]), target[pick]
    spread = float(t.std())
    if x.shape[1] == 0 or spread == 0:
        return 1.0 if spread else 0.0
    t = (t - t.mean()) / spread
    errors = (left_out(x, t, scale, np.full(len(t), _NUGGET))[0] for scale in _LENGTHS)
    return min(float(np.mean(np.square(e))) for e in errors)


def noise_of(columns: Array, target: Array) -> float:
    """Estimate the variance of noise in a target; 0 where more rows still tell more.

    Parameters
    ----------
    columns : ndarray, shape (row, feature)
    target : ndarray, shape (row,)

    Returns
    -------
    float
        Of the size of the squared errors on left-out rows, thus rather too large.

    Examples
    --------
    >>> draw = np.random.default_rng(0)
    >>> x = draw.uniform(1.0, 3.0, (300, 1))
    >>> y = np.sin(3 * x[:, 0]) + 0.1 * draw.normal(size=300)
    >>> bool(0.005 < noise_of(x, y) < 0.02), noise_of(x, np.sin(3 * x[:, 0]))
    (True, 0.0)
    """
    if len(target) < _MOST_ROWS // 2:
        return 0.0
    many = loo_error(columns, target)
    pick = _pick(target)[::2]
    few = loo_error(columns[pick], target[pick])
    level = many * float(np.var(target[_pick(target)]))
    return level if _ROUNDING < many < _LOUD and few < _FLAT * many else 0.0


def noise_ratio(columns: Array, target: Array, slope: Array, noise: float) -> float:
    """Return the squared error on left-out rows in parts of the noise, both in units of y.

    Parameters
    ----------
    columns : ndarray, shape (row, feature)
    target : ndarray, shape (row,)
        Of y or of y over a factor.
    slope : ndarray, shape (row,)
        Derivative of y by the target.
    noise : float
        Variance of the noise of y.

    Returns
    -------
    float
        Near 1 where the columns tell all that is no noise.
    """
    pick = _pick(target)
    x, t, slope = even(columns[pick]), target[pick], slope[pick]
    spread = float(t.std())
    if x.shape[1] == 0 or spread == 0:
        return float(np.mean(np.square((t - t.mean()) * slope))) / noise
    nugget = _NUGGET + _SHARE * noise / np.square(slope * spread)
    errors = (left_out(x, (t - t.mean()) / spread, scale, nugget)[0] for scale in _LENGTHS)
    return min(float(np.mean(np.square(e * slope * spread))) for e in errors) / noise


def _pick(target: Array) -> Array:
    count = min(len(target), _MOST_ROWS)
    return np.linspace(0, len(target) - 1, count).round().astype(int)


def left_out(x: Array, target: Array, scale: float, nugget: Array) -> tuple[Array, Array]:
    """Return the errors on left-out rows for one length, and their variances by the model.

    A variance near 1 is that of a row which no other tells anything of.
    """
    check_time()
    try:
        inverse = np.linalg.inv(_kernel(x, x, scale) + np.diag(nugget))
    except np.linalg.LinAlgError:
        return np.full(len(target), np.inf), np.ones(len(target))
    return np.asarray(inverse @ target / np.diag(inverse)), np.asarray(1 / np.diag(inverse))


def predicted(
    x: Array, target: Array, others: Array, scale: float, nugget: Array
) -> tuple[Array, Array]:
    """Return what the model of some rows says of others for one length, and its variances."""
    from scipy.linalg import lu_factor, lu_solve

    factors = lu_factor(_kernel(x, x, scale) + np.diag(nugget))
    weights, told, unsure = lu_solve(factors, target), [], []
    for part in np.array_split(others, math.ceil(len(others) / _MOST_ROWS)):
        check_time()
        across = _kernel(part, x, scale)
        told.append(across @ weights)
        unsure.append(1 - np.einsum("ok,ko->o", across, lu_solve(factors, across.T)))
    return np.concatenate(told), np.concatenate(unsure)


def _kernel(one: Array, two: Array, scale: float) -> Array:
    size = np.square(one).sum(axis=1)[:, None] + np.square(two).sum(axis=1)
    distance = np.maximum(size - 2 * one @ two.T, 0.0)
    return np.asarray(np.exp(-0.5 * distance / (scale**2 * one.shape[1])))


def even(columns: Array) -> Array:
    """Return columns of unit deviation; positive ones of a wide range by their logarithm."""
    made = []
    for x in columns.T:
        if not varies(x):
            continue
        u = np.log(x) if x.min() > 0 and x.max() > 3 * x.min() else x
        made.append((u - u.mean()) / u.std())
    return np.stack(made, axis=1) if made else np.zeros((len(columns), 0))
