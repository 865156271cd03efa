"""Designs of curves: piecewise linear functions in terms of their prior's modes.

A curve is linear between breakpoints: the distinct values of a column, or quantiles where there are
more. Its values there are a line, plus a smooth part whose second differences have independent
normal priors, plus a rough one whose first differences have [1]_. Each part has its own variance,
so that data decide between a line, a smooth curve and steps, and on the lack of any [2]_.

References
----------
.. [1] H. Rue and L. Held, Gaussian Markov Random Fields, 2005, chapter 3.
.. [2] G. Marra and S. Wood, Practical variable selection for generalized additive models, 2011.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, hstack

from kanlens.data._cell_parsing import Array
from kanlens.training._variance_components import MIN_INFORMATION, MixedFit, NormalEquations

MAX_INTERVALS, MAX_BREAKPOINTS = 256, 2000  # of one curve, and of all, about
MIN_INTERVALS = 4
EVEN = 0.1  # share of even spacing in that of breakpoints, the rest is of quantiles
MIN_SPACING = 1e-9  # of breakpoints, over their range
SMOOTH_MODES = 16  # of second differences, the leading ones
MARGIN, LEADING = 0.1, 8  # of informed coefficients: share of the threshold, and always of a block
ROUGH_START = 0.05  # variance of a rough part, over that of the others, where a search starts


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveBasis:
    """A function of a feature: its breakpoints, and the modes (breakpoint, mode) of its parts.

    `group` is the same for levels of one category, whose effects have one variance.
    """

    feature: int
    breakpoints: Array
    parts: tuple[Array, ...]
    group: int

    def basis(self, x: Array) -> csr_array:  # (batch,) -> (batch, breakpoint)
        """Return the hat functions of the breakpoints at x, constant beyond them."""
        knots = self.breakpoints
        place = np.interp(x, knots, np.arange(len(knots)))
        left = np.minimum(place.astype(np.int64), len(knots) - 2)
        share = place - left
        columns = np.stack([left, left + 1], 1).ravel()
        starts = np.arange(0, 2 * len(x) + 1, 2)
        values = np.stack([1 - share, share], 1).ravel()
        return csr_array((values, columns, starts), shape=(len(x), len(knots)))


@functools.lru_cache(maxsize=64)
def difference_modes(count: int, order: int, most: int | None = None) -> Array:
    """Return modes (count, mode) of the prior of independent differences.

    Polynomials, of which the differences are zero, are left out; leading modes come first.
    """
    differences = np.diff(np.eye(count), order, axis=0)
    values, vectors = np.linalg.eigh(differences.T @ differences)
    return np.asarray((vectors[:, order:] / np.sqrt(values[order:]))[:, :most])


def make_curve(feature: int, x: Array, group: int, columns: int, rough: bool = True) -> CurveBasis:
    """Return the curve of a feature with values x (batch,), one of `columns`."""
    knots = breakpoints(x, int(np.clip(MAX_BREAKPOINTS // columns, MIN_INTERVALS, MAX_INTERVALS)))
    parts = [((knots - knots.mean()) / knots.std())[:, None]]
    if len(knots) > 3:
        parts.append(difference_modes(len(knots), 2, SMOOTH_MODES))
    if len(knots) > 2 and rough:
        parts.append(difference_modes(len(knots), 1))
    return CurveBasis(feature=feature, breakpoints=knots, parts=tuple(parts), group=group)


def breakpoints(x: Array, intervals: int) -> Array:
    """Return the distinct values of x (batch,), or quantiles if there are more."""
    knots = np.unique(x)
    if len(knots) == 1:
        return knots[0] + np.arange(2.0)
    if len(knots) > intervals + 1:
        even = np.linspace(knots[0], knots[-1], intervals + 1)
        quantiles = np.quantile(x, np.linspace(0, 1, intervals + 1))
        knots = (1 - EVEN) * quantiles + EVEN * even
    gaps = np.diff(knots) > MIN_SPACING * (knots[-1] - knots[0])
    return knots[np.append(True, gaps)]


class CurveDesign:
    """The matrix of curves on rows x (batch, in), each times a factor (batch,), if any.

    Coefficients are those of the modes, in the order of curves and parts; a block of them is the
    part of a curve, or of all curves of one group. Modes are scaled so that a block of variance 1
    gives values of variance 1 over the rows.
    """

    def __init__(
        self, curves: Sequence[CurveBasis], x: Array, factors: Sequence[Array | None] | None = None
    ) -> None:
        self.curves = tuple(curves)
        factors = factors or [None] * len(self.curves)
        columns = [curve.basis(x[:, curve.feature]) for curve in self.curves]
        columns = [
            basis if factor is None else basis.multiply(factor[:, None]).tocsr()
            for basis, factor in zip(columns, factors, strict=True)
        ]
        self.matrix = csr_array(hstack(columns, format="csr"))
        ends = np.cumsum([0, *(len(curve.breakpoints) for curve in self.curves)])
        self.places = [slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]
        self.owners = self._owners()
        modes = [np.concatenate(curve.parts, 1) for curve in self.curves]
        sizes = np.cumsum([0, *(part.shape[1] for part in modes)])
        self.slices = [slice(*pair) for pair in zip(sizes[:-1], sizes[1:], strict=True)]
        spread = np.concatenate([_variances(*pair) for pair in zip(columns, modes, strict=True)])
        total = np.bincount(self.owners, spread)
        scale = np.sqrt(np.where(total > 0, total, 1.0))[self.owners]
        self.spread = spread / scale**2  # variance over the rows of each coefficient's function
        self.modes = [part / scale[place] for part, place in zip(modes, self.slices, strict=True)]

    def _owners(self) -> Array:
        """Return the block of every coefficient."""
        blocks: dict[tuple[int, int], int] = {}
        owners = [
            np.full(part.shape[1], blocks.setdefault((curve.group, index), len(blocks)))
            for curve in self.curves
            for index, part in enumerate(curve.parts)
        ]
        rough = np.array([index == 2 for _, index in blocks])
        self.start = np.where(rough, ROUGH_START, 1.0) / len(blocks)
        return np.concatenate(owners)

    def informed(self, variances: Array, noise: float) -> Array:
        """Return coefficients that rows of weight 1 might inform about; some of each block."""
        ratio = variances[self.owners] * self.spread * self.matrix.shape[0] / noise
        order = np.arange(len(ratio)) - np.searchsorted(self.owners, self.owners)
        return np.flatnonzero((ratio > MARGIN * MIN_INFORMATION) | (order < LEADING))

    def equations(
        self, weights: Array, response: Array, kept: Array
    ) -> tuple[NormalEquations, float]:
        """Return the equations of some coefficients for a response (batch,), and its mean."""
        total = weights.sum()
        mean = float(weights @ response / total)
        weighted = self.matrix.multiply(weights[:, None]).tocsr()
        sums = weighted.sum(0)
        gram = (self.matrix.T @ weighted).toarray() - np.outer(sums, sums) / total
        pairs = self._parts(kept)
        right = np.concatenate([gram[:, place] @ modes for modes, place in pairs], 1)
        rest = response - mean
        slopes = self.matrix.T @ (weights * rest)
        equations = NormalEquations(
            gram=np.concatenate([modes.T @ right[place] for modes, place in pairs]),
            cross=np.concatenate([modes.T @ slopes[place] for modes, place in pairs]),
            square=float(weights @ rest**2),
            rows=len(response) - 1.0,
            owners=self.owners[kept],
            blocks=len(self.start),
        )
        return equations, mean

    def _parts(self, kept: Array) -> list[tuple[Array, slice]]:
        """Return for each curve the modes of some coefficients, and its breakpoints' place."""
        ends = np.searchsorted(kept, [place.stop for place in self.slices])
        own = np.split(kept, ends[:-1])
        return [
            (modes[:, some - start.start], place)
            for modes, some, start, place in zip(
                self.modes, own, self.slices, self.places, strict=True
            )
        ]

    def heights(self, coefficients: Array) -> list[Array]:
        """Return the values of each curve at its breakpoints."""
        pairs = zip(self.modes, self.slices, strict=True)
        return [modes @ coefficients[place] for modes, place in pairs]

    def values(self, coefficients: Array) -> Array:
        """Return the sum of all curves at the rows, (batch,)."""
        return np.asarray(self.matrix @ np.concatenate(self.heights(coefficients)))

    def columns(self, rows: Array, kept: Array) -> Array:
        """Return the columns (rows, q) of some coefficients."""
        part = self.matrix[rows]
        return np.concatenate([part[:, place] @ modes for modes, place in self._parts(kept)], 1)


def _variances(basis: csr_array, modes: Array) -> Array:
    """Return the variance over the rows of each mode's function."""
    rows = basis.shape[0]
    mean = modes.T @ (basis.sum(0) / rows)
    gram = (basis.T @ basis).toarray() / rows
    return np.asarray(np.einsum("mk,mk->k", modes, gram @ modes) - mean**2)


def held_out_errors(
    design: CurveDesign, fit: MixedFit, weights: Array, errors: Array, folds: Array
) -> Array:
    """Return errors (batch,) of each fold's rows, had the other rows been fitted alone.

    Exact for given variances: a block of the hat matrix is removed from it.
    """
    means = np.zeros(len(fit.live))
    total, held = weights.sum(), np.empty_like(errors)
    everything = np.arange(len(errors))
    for part in np.array_split(everything, 1 + len(errors) * len(means) // 2**24):
        means += weights[part] @ design.columns(part, fit.live) / total
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        columns = design.columns(rows, fit.live) - means
        own, error = weights[rows], errors[rows]
        if len(rows) <= len(means):
            hat = (columns @ fit.covariance @ columns.T / fit.noise + 1 / total) * own
            held[rows] = np.linalg.solve(np.eye(len(rows)) - hat, error)
            continue
        columns = np.column_stack((np.ones(len(rows)), columns))
        prior = np.zeros((columns.shape[1],) * 2)
        prior[0, 0], prior[1:, 1:] = total / fit.noise, np.linalg.inv(fit.covariance)
        weighted = (columns * own[:, None]).T / fit.noise
        change = np.linalg.solve(prior - weighted @ columns, weighted @ error)
        held[rows] = error + columns @ change
    return held
