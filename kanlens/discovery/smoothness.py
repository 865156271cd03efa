"""Smoothness: leave-one-out errors of RBF Gaussian processes [1]_, and a test for noise [2]_.

Rows are outliers, set aside during a search, where their target is far from that of the others.

References
----------
.. [1] C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, 2006, 5.4.2.
.. [2] R. A. Fisher, Statistical Methods for Research Workers, 1925.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from kanlens.discovery import settings as tuned
from kanlens.discovery.regression import Array, Basis, relative_error, solve, spread_rows, varies
from kanlens.long_work import check_time


def loo_error(columns: Array, target: Array) -> float:
    """Return the relative leave-one-out error of the best RBF Gaussian process; 0 is smooth."""
    pick = spread_rows(len(target), tuned.SMOOTH_ROWS)
    x, t = even(columns[pick]), target[pick]
    spread = float(t.std())
    if x.shape[1] == 0 or spread == 0:
        return 1.0 if spread else 0.0
    t = (t - t.mean()) / spread
    nugget = np.full(len(t), tuned.NUGGET)
    errors = (left_out(x, t, scale, nugget)[0] for scale in tuned.LENGTHS)
    return min(float(np.mean(np.square(e))) for e in errors)


def noise_of(columns: Array, target: Array) -> float:
    """Estimate the variance of noise, rather too large; 0 where more rows still tell more."""
    if len(target) < tuned.SMOOTH_ROWS // 2:
        return 0.0
    many = loo_error(columns, target)
    pick = spread_rows(len(target), tuned.SMOOTH_ROWS)
    few = loo_error(columns[pick[::2]], target[pick[::2]])
    level = many * float(np.var(target[pick]))
    noisy = tuned.QUIETEST < many < tuned.LOUDEST and few < tuned.FLAT * many
    return level if noisy else 0.0


def is_smooth(columns: Array, target: Array) -> bool:
    """Return whether more rows still tell more of a target that smooth models can tell."""
    return loo_error(columns, target) < tuned.SMOOTH_TARGET and noise_of(columns, target) == 0.0


def noise_ratio(columns: Array, target: Array, slope: Array, noise: float) -> float:
    """Return the squared leave-one-out error over the noise, by the slope in units of y."""
    pick = spread_rows(len(target), tuned.SMOOTH_ROWS)
    x, t, slope = even(columns[pick]), target[pick], slope[pick]
    spread = float(t.std())
    if x.shape[1] == 0 or spread == 0:
        return float(np.mean(np.square((t - t.mean()) * slope))) / noise
    nugget = tuned.NUGGET + tuned.NOISE_SHARE * noise / np.square(slope * spread)
    t = (t - t.mean()) / spread
    errors = (left_out(x, t, scale, nugget)[0] for scale in tuned.LENGTHS)
    return min(float(np.mean(np.square(e * slope * spread))) for e in errors) / noise


def left_out(x: Array, target: Array, scale: float, nugget: Array) -> tuple[Array, Array]:
    """Return leave-one-out errors, and their variances: near 1 where no other row tells of it."""
    check_time()
    matrix = kernel(x, x, scale)
    matrix[np.diag_indices_from(matrix)] += nugget
    weights, variances = solved(matrix, target)
    return weights * variances, variances


def solved(matrix: Array, target: Array) -> tuple[Array, Array]:
    """Solve for a positive definite matrix; with it return one over the diagonal of its inverse."""
    from scipy.linalg.blas import dsymv
    from scipy.linalg.lapack import dpotrf, dpotri

    factor, failed = dpotrf(matrix.T, lower=True, clean=False, overwrite_a=True)
    inverse, singular = dpotri(factor, lower=True, overwrite_c=True)  # its lower half
    if failed or singular:
        return np.full(len(target), np.inf), np.ones(len(target))
    return dsymv(1.0, inverse, target, lower=True), 1 / np.diag(inverse)


def predicted(
    x: Array, target: Array, others: Array, scale: float, nugget: Array
) -> tuple[Array, Array]:
    """Return the posterior means and variances of other rows, for one length scale."""
    from scipy.linalg import lu_factor, lu_solve

    factors = lu_factor(kernel(x, x, scale) + np.diag(nugget))
    weights, means, variances = lu_solve(factors, target), [], []
    for part in np.array_split(others, math.ceil(len(others) / tuned.SMOOTH_ROWS)):
        check_time()
        across = kernel(part, x, scale)
        means.append(across @ weights)
        variances.append(1 - np.einsum("ok,ko->o", across, lu_solve(factors, across.T)))
    return np.concatenate(means), np.concatenate(variances)


def kernel(one: Array, two: Array, scale: float) -> Array:
    """Return the RBF kernel between rows, for a length scale."""
    values = np.maximum(_squared_distances(one, two), 0.0)
    values *= -0.5 / (scale**2 * one.shape[1])
    return np.asarray(np.exp(values, out=values))


def _squared_distances(one: Array, two: Array) -> Array:
    size = np.square(one).sum(axis=1)[:, None] + np.square(two).sum(axis=1)
    return np.asarray(size - 2 * one @ two.T)


def even(columns: Array) -> Array:
    """Return columns of unit deviation; positive ones of a wide range by their logarithm."""
    logs = (np.log(x) if logarithmic(x) else x for x in columns.T if varies(x))
    scaled = [(u - u.mean()) / u.std() for u in logs]
    return np.stack(scaled, axis=1) if scaled else np.zeros((len(columns), 0))


def logarithmic(x: Array) -> bool:
    """Return whether a column is positive and of a wide range."""
    return bool(x.min() > 0 and x.max() > tuned.WIDE_RANGE * x.min())


def is_noise(columns: Array, made: Array, target: Array) -> bool:
    """Return whether target minus formula is noise, as far as a regression can tell.

    What is left is fitted by splines of every column and of the formula's own value, and by
    products of the columns; noise lets these explain no more than their number does [2]_. Nor
    has it to do with what is left at the nearest other row. Too few rows tell nothing.
    """
    left, rows = target - made, len(target)
    if rows < tuned.TEST_ROWS * columns.shape[1]:  # of terms, which are more than columns
        return False
    if not varies(left) or left.var() > tuned.TEST_LARGE_RESIDUAL * target.var():
        return False
    left = (left - left.mean()) / left.std()
    if np.mean(left * left[nearest(columns)]) > tuned.TEST_SURE / np.sqrt(rows):
        return False
    terms = _terms(columns, made)
    terms, count = terms - terms.mean(axis=0), terms.shape[1]
    if rows < tuned.TEST_ROWS * count:
        return False
    rest = left - terms @ solve(terms, left)
    over = float(rest @ rest) / (rows - count - 1)
    statistic = (rows - float(rest @ rest)) / count / (over + 1e-300)
    return bool(statistic < 1 + tuned.TEST_SURE * np.sqrt(2 / count))


def nearest(columns: Array) -> Array:
    """Return for every row the row nearest to it."""
    scaled = columns / columns.std(axis=0)
    distance = _squared_distances(scaled, scaled)
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.argmin(axis=1))


def _terms(columns: Array, made: Array) -> Array:
    """Return splines of every column and of the formula, and products of columns."""
    width = columns.shape[1]
    pieces = tuned.TEST_PIECES_OF_ONE if width == 1 else tuned.TEST_PIECES
    splines = [*columns.T, made] if width > 1 else [*columns.T]
    found = [Basis.of(c, pieces).at(c)[:, 1:] for c in splines if varies(c)]
    scaled = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    most = len(made) // tuned.TEST_ROWS - sum(f.shape[1] for f in found)
    for degree in tuned.TEST_DEGREES:
        counts = range(2, degree + 1)
        terms = sum(math.comb(width + k - 1, k) - width for k in counts)
        if terms <= min(tuned.TEST_TERMS, most):
            ways = (itertools.combinations_with_replacement(range(width), k) for k in counts)
            places = [p for p in itertools.chain(*ways) if len(set(p)) > 1]
            found += [np.prod(scaled[:, p], axis=1)[:, None] for p in places]
            break
    return np.concatenate(found, axis=1)


def outlier_rows(columns: Array, target: Array) -> Array:
    """Find rows far from their leave-one-out prediction, in rounds, for they hide each other."""
    wrong = np.zeros(len(target), dtype=bool)
    if len(target) < tuned.FEWEST_ROWS:
        return wrong
    middle, spread = _middle(target)
    if spread == 0:  # all but a few are equal
        from scipy.stats import ks_2samp

        off = np.asarray(target != middle)
        if not off.any():
            return off
        # mistakes lie anywhere among the others, in every column
        chances = [ks_2samp(c[off], c[~off]).pvalue for c in columns.T]
        scattered = min(chances, default=1.0) * len(chances) > tuned.BY_CHANCE or not chances
        return off if scattered else wrong
    size = np.arcsinh((target - middle) / spread)
    blocks = -(-len(target) // tuned.WRONG_BLOCK)
    for k in range(blocks):
        wrong[k::blocks] = _wrong_in(even(columns[k::blocks]), size[k::blocks])
    return _if_few(wrong)


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
        return _if_few(values != middle) if len(values) and np.ptp(target) == 0 else none
    pick = spread_rows(len(target), tuned.WRONG_BLOCK)
    size = np.arcsinh((target[pick] - middle) / spread)
    x = even(np.concatenate((columns[pick], others)))
    if not x.shape[1]:
        return none
    known, center = x[: len(pick)], float(np.median(size))
    length, nugget, errors, _ = _smoothed(known, size - center)
    mean, variance = predicted(known, size - center, x[len(pick) :], length, nugget)
    gap = np.abs(np.arcsinh((values - middle) / spread) - center - mean)
    return _if_few(gap > _limit(_usual(errors), variance, size))


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
        *_, errors, variance = _smoothed(x[kept], own)
        over = np.abs(errors) - _limit(_usual(errors), variance, own)
        worst = (over > 0) & (over >= tuned.WORST * over.max())
        if not worst.any() or kept.sum() <= tuned.FEWEST_ROWS:
            break
        kept[np.flatnonzero(kept)[worst]] = False
    return ~kept


def _smoothed(x: Array, own: Array) -> tuple[float, Array, Array, Array]:
    """Return length, nugget, leave-one-out errors and variances of the model that errs least."""
    nugget = np.full(len(own), tuned.WRONG_NUGGET)
    every = ((k, nugget, *left_out(x, own, k, nugget)) for k in tuned.WRONG_LENGTHS)
    return min(every, key=lambda found: _usual(found[2]))


def _usual(errors: Array) -> float:
    return tuned.NORMAL * float(np.median(np.abs(errors)))


def _limit(usual: float, variance: Array, size: Array) -> Array:
    """Return the errors beyond which rows are wrong, larger where others tell little of a row."""
    alone = tuned.ALONE * np.minimum(variance, 1.0) * float(size.std())
    return max(tuned.FAR_OFF * usual, tuned.FAR_LEAST) + alone


def unfollowed(made: Array, target: Array) -> Array:
    """Return the rows that a formula does not follow: far off for how near most of them are."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(made - target)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    usual = float(np.median(np.abs(target - np.median(target))))
    near = tuned.FAR_OFF * tuned.NORMAL * float(np.median(gap))
    room = near + tuned.FOLLOWED * np.maximum(np.abs(target), usual)
    return np.asarray((gap > room) | np.isinf(gap))


def exceptions(columns: Array, made: Array, target: Array, exact: float) -> Array:
    """Find the few scattered rows without which a formula leaves only noise, or an exact error."""
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
    return far if error <= exact or is_noise(columns[kept], made[kept], target[kept]) else none
