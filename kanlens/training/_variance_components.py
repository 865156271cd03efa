"""Linear mixed models fitted by restricted maximum likelihood [1]_.

The model is ``y = mean + sum_j Z_j b_j + e``, where each block of coefficients has a variance,
``b_j ~ N(0, v_j I)``, and the errors ``e ~ N(0, noise / weight)``. Fisher scoring in their
logarithms finds the variances [2]_; the variance of a block without effect goes to zero [3]_. A
prior that decreases with the variance keeps many blocks from fitting noise.

References
----------
.. [1] H. Patterson and R. Thompson, Recovery of inter-block information when block sizes are
   unequal, 1971.
.. [2] K. Lange, Applied Probability, mixed models, 1998; N. Longford, A fast scoring algorithm for
   maximum likelihood estimation in unbalanced mixed models, 1987.
.. [3] S. Wood, Fast stable restricted maximum likelihood and marginal likelihood estimation of
   semiparametric generalized linear models, 2011.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kanlens.data._cell_parsing import Array

MIN_INFORMATION = 0.03  # least prior over sampling variance of a fitted coefficient
MIN_VARIANCE, MAX_VARIANCE = 1e-7, 1e6  # coefficients of a block below the minimum are zero
NO_EFFECT = 1e-4  # variance up to which the prior is flat
MIN_NOISE = 1e-9, 1e-12  # relative to the variance of the response, and absolute
MAX_STEP = 3.0  # largest change of a log variance in a step
RIDGE = 0.01  # added to the Fisher information, so that flat directions move slowly
MIN_CHANGE = 0.3  # change of the deviance that ends the search
MAX_STEPS = 40
MAX_DAMPING = 1e6


@dataclass(frozen=True, kw_only=True)
class NormalEquations:
    """Weighted cross-products of a centered design (rows, p) and response.

    `owners` (p,) holds the block of each coefficient, from 0 to `blocks` - 1; `rows` is the number
    of rows minus that of fixed effects.
    """

    gram: Array
    cross: Array
    square: float
    rows: float
    owners: Array
    blocks: int

    @cached_property
    def diagonal(self) -> Array:
        """Weighted sums of squares of the columns, (p,)."""
        return self.gram.diagonal().copy()

    @cached_property
    def least_noise(self) -> float:
        """Smallest error variance for which the equations can be solved."""
        return max(MIN_NOISE[0] * self.square / self.rows, MIN_NOISE[1])

    def sums(self, values: Array) -> Array:
        """Return the sums of values (p,) over the coefficients of each block."""
        return np.bincount(self.owners, values, self.blocks)


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """Predicted coefficients of a mixed model for given variances.

    Attributes
    ----------
    coefficients : ndarray, shape (p,)
    variances : ndarray, shape (block,)
    noise : float
        Variance of an error of weight 1.
    live : ndarray, shape (q,)
        Indices of the coefficients that the data determine; the others are zero.
    covariance : ndarray, shape (q, q)
        Posterior covariance of the coefficients `live`.
    freedom : ndarray, shape (block,)
        Effective degrees of freedom of each block.
    deviance : float
        Minus twice the restricted log likelihood, up to a constant.
    score : ndarray, shape (block,) or (block + 1,)
        Derivatives of the restricted log likelihood by the log variances (and log noise).
    """

    coefficients: Array
    variances: Array
    noise: float
    live: Array
    covariance: Array
    freedom: Array
    deviance: float
    score: Array

    def spread(self, places: Array, count: int) -> MixedFit:
        """Return the fit expanded to `count` coefficients: its own at `places`, zero elsewhere."""
        coefficients = np.zeros(count)
        coefficients[places] = self.coefficients
        return replace(self, coefficients=coefficients, live=places[self.live])


def restricted_fit(
    equations: NormalEquations,
    variances: Array,
    noise: float,
    *,
    known: bool = False,
    steps: int = MAX_STEPS,
    prior: float = 0.0,
) -> MixedFit:
    """Return the restricted maximum likelihood fit, from initial variances.

    The noise is fixed if `known`, as for working responses of a logistic model. The prior density
    of a log variance falls as the variance to the power of minus `prior`.
    """
    best, damping, gain = None, 1.0, np.inf
    while best is None:
        try:
            best = solve_mixed(equations, variances, noise, known=known)
        except np.linalg.LinAlgError:  # the prior is lost in rounding
            variances = np.minimum(variances, MAX_VARIANCE) / 1000
    for _ in range(steps if equations.blocks else 0):
        if abs(gain) < MIN_CHANGE or damping > MAX_DAMPING:
            break
        moved = np.exp(_scoring_step(equations, best, damping, prior))
        varied = best.variances * moved[: equations.blocks]
        varied = np.clip(varied, MIN_VARIANCE / 10, MAX_VARIANCE)
        noise = noise if known else max(float(best.noise * moved[-1]), equations.least_noise)
        try:
            trial = solve_mixed(equations, varied, noise, known=known)
            gain = best.deviance - trial.deviance
            gain += 2 * prior * np.log((best.variances + NO_EFFECT) / (varied + NO_EFFECT)).sum()
        except np.linalg.LinAlgError:  # as above
            gain = -np.inf
        if gain >= 0:
            best, damping = trial, max(1.0, damping / 8)
        else:
            damping *= 8
    return best


def solve_mixed(
    equations: NormalEquations, variances: Array, noise: float, *, known: bool
) -> MixedFit:
    """Return the fit for given variances.

    Coefficients that the data hardly determine are left out of the factorization; the likelihood
    and its derivatives include them to first order.
    """
    own = variances[equations.owners]
    ratio = own * equations.diagonal / noise
    informed = (ratio > MIN_INFORMATION) & (own > MIN_VARIANCE)
    live, rest = np.flatnonzero(informed), np.flatnonzero(~informed)
    factor, covariance = _inverse(equations.gram[np.ix_(live, live)] / noise, own[live])
    coefficients = np.zeros(len(own))
    coefficients[live] = values = covariance @ equations.cross[live] / noise
    residual = equations.cross - equations.gram[:, live] @ values
    explained = values @ equations.cross[live]
    errors = equations.square - explained - values @ residual[live]
    used, size = ratio / (1 + ratio), own * (residual / noise) ** 2 / (1 + ratio)
    deviance = equations.rows * np.log(noise) + (equations.square - explained) / noise
    deviance += 2 * np.log(factor.diagonal()).sum() + np.log(own[live]).sum()
    deviance += np.log1p(ratio[rest]).sum() - size[rest].sum()
    used[live] = 1 - covariance.diagonal() / own[live]
    size[live] = values**2 / own[live]
    freedom = equations.sums(used)
    score = (equations.sums(size) - freedom) / 2
    if not known:
        score = np.append(score, (errors / noise - equations.rows + freedom.sum()) / 2)
    return MixedFit(
        coefficients=coefficients,
        variances=variances,
        noise=noise,
        live=live,
        covariance=covariance,
        freedom=freedom,
        deviance=float(deviance),
        score=score,
    )


def _inverse(information: Array, variances: Array) -> tuple[Array, Array]:
    """Return the Cholesky factor and the inverse of the posterior precision."""
    from scipy.linalg.lapack import dpotrf, dpotri

    if not len(variances):
        return information, information
    information[np.diag_indices(len(variances))] += 1 / variances
    factor, failed = dpotrf(information, lower=1, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError("the posterior precision is not positive definite")
    lower = dpotri(factor, lower=1)[0]  # zero above the diagonal, as the factor is
    inverse = lower + lower.T
    inverse[np.diag_indices(len(variances))] /= 2
    return factor, inverse


def _scoring_step(equations: NormalEquations, fit: MixedFit, damping: float, prior: float) -> Array:
    """Return a step of Fisher scoring in the logarithms of variances."""
    owners, blocks = equations.owners[fit.live], equations.blocks
    root = np.sqrt(fit.variances[owners])
    shares = -fit.covariance / root / root[:, None]
    shares[np.diag_indices(len(owners))] += 1
    used = np.bincount(owners, shares.diagonal(), blocks)
    information = _block_sums(_block_sums(shares**2, owners, blocks).T, owners, blocks)
    if len(fit.score) > blocks:
        both = information.sum(0)
        last = equations.rows - 2 * used.sum() + both.sum()
        information = np.block([[information, (used - both)[:, None]], [used - both, last]])
    information = information / 2 + RIDGE * damping * np.eye(len(information))
    score = fit.score.copy()
    score[:blocks] -= prior * fit.variances / (fit.variances + NO_EFFECT)
    step = np.linalg.solve(information, score)
    return np.asarray(np.clip(step, -MAX_STEP, MAX_STEP))


def _block_sums(values: Array, owners: Array, blocks: int) -> Array:
    """Return the sums (block, q) of rows of values (p, q) over the coefficients of each block."""
    width = values.shape[1]
    places = owners[:, None] * width + np.arange(width)
    return np.bincount(places.ravel(), values.ravel(), blocks * width).reshape(blocks, width)
