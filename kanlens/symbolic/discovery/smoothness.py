"""How well a target can be told from columns at all: the leave-one-out error of a smooth model.

A Gaussian process with one length for all columns is solved once for every length; its errors on
left-out rows follow without further solving [1]_. When columns are exchanged for fewer ones that
say the same, this error falls; when they say less, it rises.

References
----------
.. [1] C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, 5.4.2.
"""

from __future__ import annotations

import numpy as np

from kanlens.symbolic.discovery.regression import Array
from kanlens.symbolic.discovery.splines import varies

_LENGTHS = (1.0, 2.5, 6.0)  # in deviations of a column, times the root of the number of columns
_NUGGET = 1e-7
_MOST_ROWS = 300


def unevenness(columns: Array, target: Array) -> float:
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
    >>> bool(unevenness(x, np.sin(3 * x[:, 0])) < 1e-6)
    True
    """
    pick = np.linspace(0, len(target) - 1, min(len(target), _MOST_ROWS)).round().astype(int)
    x, t = _even(columns[pick]), target[pick]
    spread = float(t.std())
    if x.shape[1] == 0 or spread == 0:
        return 1.0 if spread else 0.0
    t = (t - t.mean()) / spread
    size = np.square(x).sum(axis=1)
    distance = np.maximum(size[:, None] + size[None, :] - 2 * x @ x.T, 0.0)
    return min(_left_out(distance, t, scale**2 * x.shape[1]) for scale in _LENGTHS)


def _left_out(distance: Array, target: Array, length: float) -> float:
    kernel = np.exp(-0.5 * distance / length)
    kernel[np.diag_indices_from(kernel)] += _NUGGET
    try:
        inverse = np.linalg.inv(kernel)
    except np.linalg.LinAlgError:
        return float("inf")
    errors = inverse @ target / np.diag(inverse)
    return float(np.mean(np.square(errors)))


def _even(columns: Array) -> Array:
    """Return columns of unit deviation; positive ones of a wide range by their logarithm."""
    made = []
    for x in columns.T:
        if not varies(x):
            continue
        u = np.log(x) if x.min() > 0 and x.max() > 3 * x.min() else x
        made.append((u - u.mean()) / u.std())
    return np.stack(made, axis=1) if made else np.zeros((len(columns), 0))
