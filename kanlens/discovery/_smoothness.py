"""Leave-one-out errors of Gaussian processes [1]_, noise [2]_, outliers.

References
----------
.. [1] C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, 5.4.2.
.. [2] R. A. Fisher, Statistical Methods for Research Workers, 1925.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from kanlens._lazy import linalg, stats
from kanlens._runtime import check_time
from kanlens.discovery import _settings as tuned
from kanlens.discovery._regression import Array, Basis, relative_error, solve, spread_rows, varies


def loo_error(columns: Array, target: Array) -> float:
    """Return the relative leave-one-out error of a Gaussian process with the best length scale."""
    rows = spread_rows(len(target), tuned.SMOOTH_ROWS)
    x, t = even(columns[rows]), target[rows] - target[rows].mean()
    if x.shape[1] == 0 or t.std() == 0:
        return float(t.std() > 0)
    errors = (left_out(x, t / t.std(), scale, tuned.NUGGET)[0] for scale in tuned.LENGTHS)
    return min(float(np.mean(np.square(e))) for e in errors)


def left_out(x: Array, target: Array, scale: float, nugget: Array | float) -> tuple[Array, Array]:
    """Return leave-one-out errors and variances of a Gaussian process."""
    check_time()
    matrix = kernel(x, x, scale)
    matrix[np.diag_indices_from(matrix)] += nugget
    weights, variances = solved(matrix, target)
    return weights * variances, variances


def solved(matrix: Array, target: Array) -> tuple[Array, Array]:
    """Solve a linear system; return also 1 over the diagonal of the inverse."""
    factor, failed = linalg.lapack.dpotrf(matrix.T, lower=True, clean=False, overwrite_a=True)
    inverse, singular = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)  # its lower half
    if failed or singular:
        return np.full(len(target), np.inf), np.ones(len(target))
    return linalg.blas.dsymv(1.0, inverse, target, lower=True), 1 / np.diag(inverse)


def kernel(first: Array, second: Array, scale: float) -> Array:
    """Return the RBF kernel between rows, for a length scale."""
    values = np.maximum(_squared_distances(first, second), 0.0)
    values *= -0.5 / (scale**2 * first.shape[1])
    return np.asarray(np.exp(values, out=values))


def _squared_distances(first: Array, second: Array) -> Array:
    size = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)
    return np.asarray(size - 2 * first @ second.T)


def even(columns: Array) -> Array:
    """Return varying columns, standardized, after a logarithm if positive and of a wide range."""
    inputs = (np.log(x) if logarithmic(x) else x for x in columns.T if varies(x))
    scaled = [(u - u.mean()) / u.std() for u in inputs]
    return np.stack(scaled, axis=1) if scaled else np.zeros((len(columns), 0))


def logarithmic(x: Array) -> bool:
    """Return whether a column is positive and of a wide range."""
    return bool(x.min() > 0 and x.max() > tuned.WIDE_RANGE * x.min())


def is_noise(columns: Array, values: Array, target: Array) -> bool:
    """Test whether target minus formula is noise, by a regression.

    The residual is fitted by splines of every column and of the formula's own value, and by
    products of the columns; of noise these explain no more than expected from their number [2]_,
    and residuals of nearest neighbors are uncorrelated. False with too few rows.
    """
    left, rows = target - values, len(target)
    if rows < tuned.TEST_ROWS * columns.shape[1]:  # there are more terms than columns
        return False
    if not varies(left) or left.var() > tuned.TEST_LARGE_RESIDUAL * target.var():
        return False
    left = (left - left.mean()) / left.std()
    terms = _terms(columns, values)
    terms, count = terms - terms.mean(axis=0), terms.shape[1]
    correlation = np.mean(left * left[nearest(columns)])
    if rows < tuned.TEST_ROWS * count or correlation > tuned.TEST_SURE / np.sqrt(rows):
        return False
    rest = left - terms @ solve(terms, left)
    over = float(rest @ rest) / (rows - count - 1)
    statistic = (rows - float(rest @ rest)) / count / (over + 1e-300)
    return bool(statistic < 1 + tuned.TEST_SURE * np.sqrt(2 / count))


def nearest(columns: Array) -> Array:
    """Return for every row the index of its nearest neighbor."""
    scaled = columns / columns.std(axis=0)
    distance = _squared_distances(scaled, scaled)
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.argmin(axis=1))


def _terms(columns: Array, values: Array) -> Array:
    """Return splines of columns and formula, and products of columns."""
    width = columns.shape[1]
    pieces = tuned.TEST_PIECES_OF_ONE if width == 1 else tuned.TEST_PIECES
    inputs = [*columns.T, values] if width > 1 else [*columns.T]
    terms = [Basis(c, pieces).at(c)[:, 1:] for c in inputs if varies(c)]
    scaled = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    most = min(tuned.TEST_TERMS, len(values) // tuned.TEST_ROWS - sum(t.shape[1] for t in terms))
    for degree in tuned.TEST_DEGREES:
        counts = range(2, degree + 1)
        if sum(math.comb(width + k - 1, k) - width for k in counts) <= most:
            ways = (itertools.combinations_with_replacement(range(width), k) for k in counts)
            places = (p for p in itertools.chain(*ways) if len(set(p)) > 1)
            terms += [np.prod(scaled[:, p], axis=1)[:, None] for p in places]
            break
    return np.concatenate(terms, axis=1)


def outlier_rows(columns: Array, target: Array) -> Array:
    """Return the mask of rows far from leave-one-out predictions; each round removes the worst."""
    wrong = np.zeros(len(target), dtype=bool)
    if len(target) < tuned.MIN_ROWS_FOR_OUTLIERS:
        return wrong
    middle, spread = _middle(target)
    if spread == 0:  # all but a few are equal
        off = np.asarray(target != middle)
        if not off.any() or columns.shape[1] == 0:
            return off
        # mistakes lie anywhere among the others, in every column
        chance = min(stats.ks_2samp(c[off], c[~off]).pvalue for c in columns.T) * columns.shape[1]
        return off if chance > tuned.BY_CHANCE else wrong
    size = np.arcsinh((target - middle) / spread)
    blocks = -(-len(target) // tuned.WRONG_BLOCK)
    for k in range(blocks):
        wrong[k::blocks] = _wrong_in(even(columns[k::blocks]), size[k::blocks])
    return _if_few(wrong)


def _if_few(mask: Array) -> Array:
    return mask if mask.sum() <= tuned.MAX_OUTLIER_SHARE * len(mask) else np.zeros_like(mask)


def distant_rows(columns: Array, others: Array) -> Array:
    """Return the mask of other rows with a feature far outside the range of `columns`."""
    low, high = np.quantile(columns, tuned.CORE, axis=0)
    room = tuned.DISTANT * (high - low)
    return _if_few((((others < low - room) | (others > high + room)) & (room > 0)).any(1))


def other_outliers(columns: Array, target: Array, others: Array, values: Array) -> Array:
    """Return the mask of `values` far from what a fit to the target predicts at `others`."""
    middle, spread = _middle(target)
    if len(values) and np.ptp(target) == 0:
        return _if_few(values != middle)
    pick = spread_rows(len(target), tuned.WRONG_BLOCK)
    x = even(np.concatenate((columns[pick], others)))
    few = len(target) < tuned.MIN_ROWS_FOR_OUTLIERS
    if few or not len(values) or spread == 0 or not x.shape[1]:
        return np.zeros(len(values), dtype=bool)
    size = np.arcsinh((target[pick] - middle) / spread)
    center, sound = float(np.median(size)), x[: len(pick)]
    length, errors, _ = _smoothed(sound, size - center)
    mean, variance = predicted(sound, size - center, x[len(pick) :], length)
    gap = np.abs(np.arcsinh((values - middle) / spread) - center - mean)
    return _if_few(gap > _limit(errors, variance, size))


def predicted(x: Array, target: Array, others: Array, scale: float) -> tuple[Array, Array]:
    """Return the posterior means and variances at other rows, for unit prior variance."""
    factors = linalg.lu_factor(kernel(x, x, scale) + tuned.WRONG_NUGGET * np.eye(len(x)))
    weights, means, variances = linalg.lu_solve(factors, target), [], []
    for part in np.array_split(others, math.ceil(len(others) / tuned.SMOOTH_ROWS)):
        check_time()
        across = kernel(part, x, scale)
        means.append(across @ weights)
        variances.append(1 - np.einsum("ok,ko->o", across, linalg.lu_solve(factors, across.T)))
    return np.concatenate(means), np.concatenate(variances)


def _middle(target: Array) -> tuple[float, float]:
    """Return the median of a target and a robust deviation."""
    middle = float(np.median(target))
    off = np.abs(target - middle)
    usual = tuned.NORMAL * float(np.median(off))
    return middle, usual or float(np.quantile(off, 1 - tuned.MAX_OUTLIER_SHARE))


def _wrong_in(x: Array, size: Array) -> Array:
    """Return the mask of outliers in one block of rows."""
    sound = np.ones(len(size), dtype=bool)
    for _ in range(tuned.WRONG_ROUNDS if x.shape[1] else 0):
        own = size[sound] - np.median(size[sound])
        _, errors, variance = _smoothed(x[sound], own)
        over = np.abs(errors) - _limit(errors, variance, own)
        worst = (over > 0) & (over >= tuned.WORST * over.max())
        if not worst.any() or sound.sum() <= tuned.MIN_ROWS_FOR_OUTLIERS:
            break
        sound[np.flatnonzero(sound)[worst]] = False
    return ~sound


def _smoothed(x: Array, target: Array) -> tuple[float, Array, Array]:
    """Return length scale, leave-one-out errors and variances of the best model."""
    models = ((k, *left_out(x, target, k, tuned.WRONG_NUGGET)) for k in tuned.WRONG_LENGTHS)
    return min(models, key=lambda model: float(np.median(np.abs(model[1]))))


def _limit(errors: Array, variance: Array, size: Array) -> Array:
    """Return the error above which a row is an outlier, (row,)."""
    usual = tuned.NORMAL * float(np.median(np.abs(errors)))
    alone = tuned.ALONE * np.minimum(variance, 1.0) * float(size.std())
    return max(tuned.OUTLIER_DEVIATIONS * usual, tuned.MIN_OUTLIER_DISTANCE) + alone


def unfollowed(values: Array, target: Array) -> Array:
    """Return the mask of rows whose residual is an outlier."""
    with np.errstate(invalid="ignore"):
        gap = np.nan_to_num(np.abs(values - target), nan=np.inf, posinf=np.inf)
    usual = float(np.median(np.abs(target - np.median(target))))
    near = tuned.OUTLIER_DEVIATIONS * tuned.NORMAL * float(np.median(gap))
    room = near + tuned.FOLLOWED * np.maximum(np.abs(target), usual)
    return np.asarray((gap > room) | np.isinf(gap))


def exceptions(columns: Array, values: Array, target: Array, exact: float) -> Array:
    """Return the mask of the few scattered outliers of a formula that fits all other rows."""
    far, none = unfollowed(values, target), np.zeros(len(target), dtype=bool)
    few = 0 < far.mean() <= tuned.MAX_OUTLIER_SHARE
    if not few or len(target) < tuned.MIN_ROWS_FOR_OUTLIERS:
        return none
    error = relative_error(values[~far], target[~far])
    common = np.isin(target[far], target[~far]).mean()  # a mistake has a value of its own
    together = far[nearest(columns)[far]].mean() if far.sum() > 1 else 0.0
    less = error <= tuned.WITHOUT_GAIN * relative_error(values, target)
    if not less or max(common, together) > tuned.WORST:
        return none
    return far if error <= exact or is_noise(columns[~far], values[~far], target[~far]) else none
